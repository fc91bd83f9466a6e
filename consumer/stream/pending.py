"""The events of one user that are not done, as rows of bytes: the backlog of a user that fails must not fill memory."""

from collections.abc import Iterator, Sequence
from struct import Struct as Layout
from typing import Final, overload

from msgspec import Struct

from consumer.ops.tracing import Carried
from schemas.events import STANDARD_EVENT_TYPES, SYNC_REQUEST


class Waiting(Struct, frozen=True, gc=False):
    """An event that is not done: where it lies and since when. The record itself stays in the topic.

    Attributes:
        partition: the partition it was read from.
        offset: its offset there.
        event_type: its type, as a metric label.
        recorded_at: the record's timestamp, unix seconds.
        arrived_at: when it was read, on the queues' clock.
        is_request: whether it is one of our own requests, which yield to events of users.
    """

    partition: int
    offset: int
    event_type: str
    recorded_at: float
    arrived_at: float
    is_request: bool


class TracedEvent(Waiting, frozen=True, gc=False):
    """A waiting event whose record carried a trace context; made only where somebody traces."""

    carried: Carried


_ROW: Final = Layout("<qddIB?")  # offset, recorded_at, arrived_at, partition, event type, is_request
_IS_REQUEST: Final = 5
_ARRIVAL: Final = Layout("<d")
_ARRIVAL_PLACE: Final = 16

ROW_BYTES: Final = _ROW.size
"""Bytes that one more event of a user takes; an object for each would take five times as many."""

CONTEXTS: Final = 65
"""Trace contexts kept of one user, the newest: a span has one parent and at most 64 links."""

_TYPES: Final = (*STANDARD_EVENT_TYPES, SYNC_REQUEST)
_NUMBERS: Final = {name: number for number, name in enumerate(_TYPES)}


class PendingEvents(Sequence[Waiting]):
    """Events in the order in which they were read. Whoever looks at one gets an object made for that."""

    __slots__ = ("contexts", "requests", "rows")

    def __init__(self) -> None:
        self.rows = bytearray()
        self.requests = 0
        """How many of them are requests of our own."""
        self.contexts: dict[tuple[int, int], Carried] = _NONE
        """By partition and offset, of the events that came with one."""

    def append(self, event: Waiting) -> None:
        """Add an event that was read after all others."""
        number = _NUMBERS[event.event_type]
        self.rows += _ROW.pack(
            event.offset, event.recorded_at, event.arrived_at, event.partition, number, event.is_request
        )
        self.requests += event.is_request
        if isinstance(event, TracedEvent):
            self._keep_contexts({(event.partition, event.offset): event.carried})

    def extend(self, events: "PendingEvents") -> None:
        """Add events behind all others."""
        self.rows += events.rows
        self.requests += events.requests
        self._keep_contexts(events.contexts)

    def take(self, count: int) -> "PendingEvents":
        """Remove the first so many and return them."""
        taken, size = PendingEvents(), count * ROW_BYTES
        taken.rows = self.rows[:size]
        del self.rows[:size]
        taken.requests = sum(row[_IS_REQUEST] for row in _ROW.iter_unpack(taken.rows)) if self.requests else 0
        self.requests -= taken.requests
        if self.contexts:
            places = {(event.partition, event.offset) for event in taken}
            taken.contexts = {place: context for place, context in self.contexts.items() if place in places}
            self.contexts = {place: context for place, context in self.contexts.items() if place not in places}
        return taken

    @property
    def only_requests(self) -> bool:
        """Whether all of them are requests of our own, which yield to events of users."""
        return self.requests * ROW_BYTES == len(self.rows)

    @property
    def first_arrival(self) -> float:
        """When the first of them was read, on the queues' clock."""
        arrived_at: float
        (arrived_at,) = _ARRIVAL.unpack_from(self.rows, _ARRIVAL_PLACE)
        return arrived_at

    def __len__(self) -> int:
        return len(self.rows) // ROW_BYTES

    @overload
    def __getitem__(self, index: int) -> Waiting: ...

    @overload
    def __getitem__(self, index: slice) -> list[Waiting]: ...

    def __getitem__(self, index: int | slice) -> Waiting | list[Waiting]:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        return self._event(_ROW.unpack_from(self.rows, range(len(self))[index] * ROW_BYTES))

    def __iter__(self) -> Iterator[Waiting]:
        return map(self._event, _ROW.iter_unpack(bytes(self.rows)))

    def _event(self, row: tuple[int, float, float, int, int, bool]) -> Waiting:
        offset, recorded_at, arrived_at, partition, number, is_request = row
        name, carried = _TYPES[number], self.contexts.get((partition, offset))
        if carried is not None:
            return TracedEvent(partition, offset, name, recorded_at, arrived_at, is_request, carried)
        return Waiting(partition, offset, name, recorded_at, arrived_at, is_request)

    def _keep_contexts(self, more: dict[tuple[int, int], Carried]) -> None:
        if more:
            kept = [*self.contexts.items(), *more.items()][-CONTEXTS:]
            self.contexts = dict(kept)


_NONE: Final[dict[tuple[int, int], Carried]] = {}
"""Shared by all users without a trace, and never changed."""
