"""What the queues hold and run: a queue per user, and the flight of one sync."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import Protocol, TypeAlias

from msgspec import Struct

from consumer.clients.errors import Api
from consumer.stream.dead_letters import Reason
from consumer.stream.pending import PendingEvents, Waiting
from consumer.sync.flight import LeaseLost, WriteAudit


class Trace(Protocol):
    """The trace of one sync; see `consumer.ops.spans.SyncTrace`."""

    def begin(self, events: Sequence[Waiting]) -> None:
        """Called, in the task that syncs, when it takes the events that it answers."""

    def succeeded(self, outcome: str) -> None:
        """Called when it ended well."""

    def failed(self, error: Exception) -> None:
        """Called when it failed."""

    def end(self) -> None:
        """Called at the end, however that is."""


class Landed(Struct, frozen=True):
    """How a flight ended: every event it answered is done."""


class Again(Struct, frozen=True):
    """How a flight ended: its events wait, and the user flies again after `delay` seconds."""

    delay: float


class Parked(Struct, frozen=True):
    """How a flight ended: its events wait until `UserQueues.retry_now` is called for the user, without a time."""


class GiveUp(Struct, frozen=True):
    """How a flight ended: its events cannot be synced, and the newest of them is to be stored as a dead letter.

    The user leaves its slot for that. Its events, and those that come meanwhile, wait until the letter is stored.
    """

    reason: Reason
    error: str
    attempts: int


Verdict: TypeAlias = Landed | Again | Parked | GiveUp


class Lease(Protocol):
    """Says whether this process may still write; see `consumer.stream.membership.Membership`."""

    @property
    def generation(self) -> int:
        """The generation that new flights belong to."""

    def may_work(self, generation: int) -> bool:
        """Return whether a flight of that generation may start a write now."""


class WriteWatch(Protocol):
    """Watches how long writes take; see `consumer.stream.late_writes.LateWrites`."""

    def now(self) -> float:
        """Return the time, to be taken before the lease is checked."""

    def ended(self, flight: "Flight", checked_at: float, *, answered: bool) -> None:
        """Called at the end of each write, whatever its result."""


class Phase(Enum):
    """How far a flight is. Only a writing one must not be cancelled."""

    WAITING = 0
    READING = 1
    WRITING = 2


class UserQueue:
    """What waits for one user, and how the syncs of it went so far."""

    __slots__ = ("attempts", "claim", "due", "failing", "parked", "refusals", "size", "user_id", "waiting", "waits")

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.waiting = PendingEvents()
        self.size = 0
        """Its events that are not done: those that wait and those of its flight."""
        self.attempts = 0
        self.refusals = 0
        self.waits = 0
        """Failures in a row, whosever fault they are."""
        self.failing = False
        """Whether the last sync of this user failed, for whatever reason."""
        self.parked = False
        """Whether it waits for `UserQueues.retry_now`."""
        self.due = 0.0
        self.claim = 0
        """The number of this queue's one valid place in the line; 0 while it flies, is parked or is blocked."""

    @property
    def retried(self) -> bool:
        """Whether failures count against this user, so that it starts behind those who did not fail."""
        return bool(self.attempts or self.refusals)


class Flight:
    """One sync of one user under way. Implements `consumer.sync.flight.Flight`."""

    def __init__(
        self,
        queue: UserQueue,
        lease: Lease,
        *,
        coalesce: bool,
        wrote: Callable[["Flight", WriteAudit], None],
        began: Callable[[], None] = lambda: None,
        watch: WriteWatch | None = None,
    ) -> None:
        """Fly for this queue; `began` is called when the wait for the permits of the first read is over."""
        self.queue = queue
        self.user_id = queue.user_id
        self.generation = lease.generation
        self.phase = Phase.WAITING
        self.events = PendingEvents()
        self.task: asyncio.Task[None] | None = None
        self.verdict: Verdict = Again(0)
        self.recalled = False
        self.retry_at_once = False
        """Whether what its user would be parked for is over already."""
        self.retries = queue.retried
        """Whether it was started as one of the users that fail."""
        self.trace: Trace | None = None
        self._lease = lease
        self._coalesce = coalesce
        self._wrote = wrote
        self._began = began
        self._watch = watch

    def reading(self) -> None:
        """Take what waits until now: its sync reads state that is newer than all of it (P3)."""
        if self.phase is Phase.WAITING:
            self._began()
        self.phase = Phase.READING
        self.events.extend(self.queue.waiting.take(len(self.queue.waiting) if self._coalesce else 1))
        if self.trace is not None:
            self.trace.begin(self.events)

    def sending(self, _api: Api, _operation: str, /, *, writes: bool) -> AbstractContextManager[None]:
        """Enclose a request: a write begins only with the lease, and is not cancelled."""
        if not writes:
            return _READING
        watch = self._watch
        return self.writing() if watch is None else self.writing(watch, checked_at=watch.now())

    def answered(self, _api: Api, _operation: str, _body: bytes, /) -> None:
        """Take note of a response that was as expected."""

    def writing(self, watch: WriteWatch | None = None, checked_at: float = 0.0) -> "_Writing":
        """Enclose a write phase, which nobody cancels. Raises `LeaseLost` when it must not begin.

        `watch` is told of its end, and of the time that it gave before the lease was checked.
        """
        if not self._lease.may_work(self.generation):
            raise LeaseLost
        return _Writing(self, watch, checked_at)

    def wrote(self, audit: WriteAudit) -> None:
        """Pass the audit of an accepted write on."""
        self._wrote(self, audit)


_READING: AbstractContextManager[None] = nullcontext()
"""A read changes no phase: it may be cancelled."""


class _Writing:
    """Not made by `contextmanager`, which takes several times as long."""

    __slots__ = ("_checked_at", "_flight", "_watch")

    def __init__(self, flight: Flight, watch: WriteWatch | None, checked_at: float) -> None:
        self._flight = flight
        self._watch = watch
        self._checked_at = checked_at

    def __enter__(self) -> None:
        self._flight.phase = Phase.WRITING

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._flight.phase = Phase.READING
        if self._watch is not None:
            self._watch.ended(self._flight, self._checked_at, answered=kind is None)
