"""The books: what was read, what is done, and so what may be committed.

Everything that is done goes through `done`, whatever its end, and is counted there once.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import structlog
from prometheus_client import Counter

from consumer.ops.metrics import Metrics
from consumer.stream import offset_map, sync_results
from consumer.stream.offset_map import UnreadableMap
from consumer.stream.offsets import PartitionOffsets
from consumer.stream.pending import Waiting
from consumer.stream.sync_results import SyncResults

_log = structlog.get_logger("ledger")

NO_EVENT_TYPE: Final = "none"
"""The `type` label of a record that is no event: a tombstone, or malformed."""

UNKNOWN_EVENT_TYPE: Final = "unknown"
"""The `type` label of an event type we do not know; its own text would make the label unbounded."""


class Ledger:
    """The offsets of all owned partitions, in the current generation."""

    def __init__(self, metrics: Metrics, wall_clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._wall_clock = wall_clock
        self._counters: dict[tuple[str, str], Counter] = {}
        self._partitions: dict[int, PartitionOffsets] = {}
        self._earlier: dict[int, PartitionOffsets] = {}
        """Those of the generation before, of partitions that this one has as well and has not started."""
        self._generation = -1
        self._on_done: Callable[[], None] = lambda: None
        self._map_bound = offset_map.BOUND
        self._maps: dict[int, tuple[tuple[int, int], str]] = {}
        self._results = SyncResults(wall_clock)

    def begin(
        self,
        generation: int,
        starts: Mapping[int, tuple[int, str | None]],
        waiting: Collection[int] = (),
        on_done: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the books for a generation.

        Args:
            generation: whatever is done in another one is not booked.
            starts: the partitions that start at once; see `start`.
            waiting: those that are assigned and start later, if at all: what was done there is remembered.
            on_done: called after each record of this generation that is done.
        """
        earlier = self._earlier | self._partitions
        self._earlier = {partition: earlier[partition] for partition in {*starts, *waiting} & earlier.keys()}
        self._generation = generation
        self._on_done = on_done
        self._partitions = {}
        self._maps = {}
        self._results.begin({*starts, *waiting})
        for partition, (offset, metadata) in starts.items():
            self.start(partition, offset, metadata)

    def start(self, partition: int, offset: int, metadata: str | None) -> None:
        """Open the books of a partition.

        Args:
            partition: an assigned one.
            offset: where it starts.
            metadata: that of the commit found there; None without a commit: then nothing that was done before counts,
                as the log may be a new one.
        """
        before = self._earlier.pop(partition, None)
        if metadata is None:
            self._partitions[partition] = PartitionOffsets(offset)
            return
        try:
            done = offset_map.decode(metadata, offset)
        except UnreadableMap as error:
            _log.warning("offset_map.ignored", partition=partition, reason=str(error))
            done = frozenset()
        self._partitions[partition] = (
            PartitionOffsets(offset, done) if before is None else before.successor(offset, done)
        )
        self._results.start(partition, sync_results.read(metadata, offset))

    def close(self) -> None:
        """End the generation: nothing more is booked, but what was done is remembered for the next."""
        self._generation = -1

    def deliver(self, partition: int, offset: int) -> bool:
        """Take a record that was read, and return whether it is still to be done."""
        return self._partitions[partition].deliver(offset)

    def expect(self, partition: int, offset: int) -> None:
        """Note that the delivered record there is a sync request that asks for its result."""
        self._results.expect(partition, offset)

    def done(self, generation: int, event: Waiting, outcome: str, result: str | None = None) -> None:
        """Book an event as done. Ignored if its generation is over.

        Args:
            generation: the one it was read in.
            event: the event.
            outcome: its label in `events_total`.
            result: what a request that asks for its result is told, where that says more: `created`, not `synced`.
        """
        if generation != self._generation:
            return
        books = self._partitions[event.partition]
        if event.offset < books.committed:
            self._metrics.commit_violations.inc()
            _log.error("commit.violation", partition=event.partition, offset=event.offset, committed=books.committed)
        books.complete(event.offset)
        self._results.note(event.partition, event.offset, result or outcome)
        self._counter(event.event_type, outcome).inc()
        self._metrics.event_age.observe(max(0.0, self._wall_clock() - event.recorded_at))
        self._on_done()

    def answered(self, generation: int, events: Sequence[Waiting], outcome: str, result: str | None = None) -> None:
        """Book the events that one sync, or one dead letter, answered: the newest has the outcome.

        What a request is told is the same for all of them; see `done`.
        """
        newest = len(events) - 1
        for place, event in enumerate(events):
            if place == newest:
                self.done(generation, event, outcome, result)
            else:
                self.done(generation, event, "coalesced", result or outcome)

    def _counter(self, event_type: str, outcome: str) -> Counter:
        # Looking labels up takes as long as counting.
        found = self._counters.get((event_type, outcome))
        if found is None:
            found = self._counters[event_type, outcome] = self._metrics.events.labels(event_type, outcome)
        return found

    def commit_plan(self, positions: Mapping[int, int]) -> dict[int, tuple[int, str]]:
        """Return by partition the offset to commit and its metadata: the map of what is done above it, and results.

        `positions` must be those of the consumer when everything it returned had been delivered.
        """
        plan = {}
        for partition, books in self._partitions.items():
            offset = books.committable(positions.get(partition, books.committed))
            metadata = self._map(partition, books, offset)
            plan[partition] = (offset, self._results.attached(partition, offset, metadata, self._map_bound))
        return plan

    def _map(self, partition: int, books: PartitionOffsets, offset: int) -> str:
        # Asked several times a second; a long one takes 20 ms to make.
        state = (offset, books.changes)
        known, text = self._maps.get(partition, (None, ""))
        if known != state:
            text = offset_map.encode(offset, books.done_above(offset), self._map_bound)
            self._maps[partition] = (state, text)
        return text

    def shrink_maps(self) -> None:
        """Make later maps half as long: the broker takes less metadata than it does by default."""
        self._map_bound //= 2
        self._maps = {}

    def span(self, partition: int) -> int:
        """Return how many delivered records the oldest open one of the partition holds back."""
        return len(self._partitions[partition])

    def sending(self, plan: Mapping[int, tuple[int, str]]) -> None:
        """Note that a plan of this generation is about to be sent to the broker, which may store it unheard."""
        for partition, (offset, _) in plan.items():
            self._partitions[partition].sending(offset)

    def committed(self, plan: Mapping[int, tuple[int, str]]) -> None:
        """Note that the broker stored a plan of this generation."""
        for partition, (offset, _) in plan.items():
            self._partitions[partition].answered(offset)
            self._metrics.committed_offset.labels(str(partition)).set(offset)
