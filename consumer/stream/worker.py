"""One flight from its sync to its end: done, given up, or again later."""

import random
import traceback
from collections.abc import Callable
from typing import Final

import structlog

from consumer.clients.errors import ApiError, Throttled
from consumer.mapping.instants import UnreadableState
from consumer.ops.metrics import Metrics
from consumer.stream.dead_letters import Reason
from consumer.stream.flight import Again, Flight, GiveUp, Landed, Parked, Trace, Verdict
from consumer.stream.ledger import Ledger
from consumer.sync.attempt import Attempt, call_of, is_refusal
from consumer.sync.calls import Call
from consumer.sync.controls import Controls
from consumer.sync.evidence import SYNC, CallDown, Evidence, Fault
from consumer.sync.flight import LeaseLost, WriteAudit
from consumer.sync.outcome import Outcome
from consumer.sync.syncer import Syncer

_log = structlog.get_logger("worker")

_POSTPONED: Final = 0.5
"""Seconds until a flight that could not write under its lease is tried again; a rebalance drops it before that."""

_UNPROVEN: Final = 10.0
"""Seconds at most until a user is tried again whose fault is not known: an outage may be over."""

_MANY: Final = 60
"""Failures in a row after which such a user waits as long as others: evidence, when it comes, calls it back."""


class InternalError(Exception):
    """A fault of this program, by the name of what was raised; its text is left out, as it may quote a value."""


class RetryPolicy:
    """Full-jitter back-off: `random(0, min(cap, base * 2**n))` seconds after the n-th failure."""

    def __init__(self, *, max_attempts: int, base: float, cap: float, rng: random.Random) -> None:
        self.max_attempts = max_attempts
        self._base = base
        self._cap = cap
        self._rng = rng

    def delay(self, attempts: int) -> float:
        """Return the seconds to wait after that many failed attempts."""
        return self._rng.uniform(0, min(self._cap, self._base * 2 ** min(attempts, 30)))


class Worker:
    """What the user queues run for each flight."""

    def __init__(
        self,
        syncer: Syncer,
        evidence: Evidence,
        controls: Controls,
        ledger: Ledger,
        *,
        retry: RetryPolicy,
        metrics: Metrics,
        wall_clock: Callable[[], float],
        new_trace: Callable[[str], Trace | None] | None = None,
    ) -> None:
        """Work with these; `new_trace` gives the trace of a user's sync, where somebody traces."""
        self._syncer = syncer
        self._evidence = evidence
        self._controls = controls
        self._ledger = ledger
        self._retry = retry
        self._metrics = metrics
        self._synced = {outcome: metrics.syncs.labels(outcome.sync_outcome) for outcome in Outcome}
        self._wall_clock = wall_clock
        self._new_trace = new_trace
        self._open_users: set[str] = set()

    async def __call__(self, flight: Flight) -> Verdict:
        """Sync the flight's user."""
        if flight.user_id in self._open_users:
            self._metrics.order_violations.inc()
            _log.error("order.violation", user_id=flight.user_id)
        self._open_users.add(flight.user_id)
        if self._new_trace is not None:
            flight.trace = self._new_trace(flight.user_id)
        try:
            return await self._sync(flight)
        except LeaseLost:
            return Again(_POSTPONED)
        finally:
            self._open_users.discard(flight.user_id)
            if flight.trace is not None:
                flight.trace.end()

    async def _sync(self, flight: Flight) -> Verdict:
        attempt = Attempt(flight.user_id, flight, self._evidence, self._controls)
        try:
            attempt.needs(SYNC)
            outcome = await self._syncer.sync(flight.user_id, attempt)
        except LeaseLost:
            raise
        except CallDown as held:
            return self._wait_for(flight, held.call)
        except Exception as error:  # noqa: BLE001 - a fault of ours must hold back this user only (P5)
            return self._failed(flight, attempt, error)
        finally:
            attempt.close()
        attempt.completed()
        self._succeeded(flight, outcome)
        return Landed()

    def _succeeded(self, flight: Flight, outcome: Outcome) -> None:
        self._synced[outcome].inc()
        self._metrics.last_success.set(self._wall_clock())
        flight.queue.waits = 0
        _take_events(flight)
        if flight.trace is not None:
            flight.trace.succeeded(outcome.value)
        self._ledger.answered(flight.generation, flight.events, outcome.event_outcome, outcome.value)

    def _failed(self, flight: Flight, attempt: Attempt, error: Exception) -> Verdict:
        """Let the evidence say whose fault it is: this user's, the call's, or nobody knows yet."""
        if flight.trace is not None:
            flight.trace.failed(error)
        self._metrics.syncs.labels("failed").inc()
        fault = attempt.failed(error)
        queue = flight.queue
        queue.waits += not isinstance(error, Throttled)
        if not isinstance(error, ApiError | UnreadableState):
            error = _told(flight, error)
        _log.info("sync.failed", user_id=flight.user_id, error=str(error), failures=queue.waits, fault=fault.value)
        if fault is Fault.CALL:
            self._metrics.retries.inc()
            return self._wait_for(flight, call_of(error))
        if is_refusal(error):
            return self._refused(flight, error, is_proven=fault is Fault.USER)
        queue.attempts += fault is Fault.USER
        if queue.attempts >= self._retry.max_attempts:
            return _give_up(flight, "exhausted", error, queue.attempts)
        if fault is Fault.USER:
            return self._later(queue.attempts)
        return self._unproven(flight)

    def _refused(self, flight: Flight, error: Exception, *, is_proven: bool) -> Verdict:
        """Refuse for good only what was refused again after a fresh read (`docs/reference/mailmojo.md`, rule 8)."""
        queue = flight.queue
        queue.refusals += 1
        if queue.refusals == 1:
            self._metrics.retries.inc()
            return Again(0)
        if is_proven or queue.attempts >= self._retry.max_attempts:
            queue.attempts = self._retry.max_attempts  # proven: should the letter not be stored, the next one is due
            return _give_up(flight, "rejected", error, queue.refusals)
        return self._unproven(flight)

    def _wait_for(self, flight: Flight, call: Call) -> Verdict:
        """Wait until the call is back, without attempts and without a timer."""
        return Parked() if self._evidence.park(flight.user_id, call) else Again(0)

    def _unproven(self, flight: Flight) -> Again:
        again = self._later(flight.queue.waits)
        return Again(min(_UNPROVEN, again.delay)) if flight.queue.waits < _MANY else again

    def _later(self, failures: int) -> Again:
        self._metrics.retries.inc()
        return Again(self._retry.delay(failures))


def _give_up(flight: Flight, reason: Reason, error: Exception, attempts: int) -> GiveUp:
    _take_events(flight)
    return GiveUp(reason, f"{type(error).__name__}: {error}", attempts)


def _told(flight: Flight, error: Exception) -> InternalError:
    """Log where an internal error was raised, and return what may be told of it: not the text, it may quote a value."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    _log.error("sync.fault", user_id=flight.user_id, kind=type(error).__name__, at=f"{place.name}:{place.lineno}")
    return InternalError(type(error).__name__)


def _take_events(flight: Flight) -> None:
    """A sync may end before its first read: no token, no permit, a guest by id. It still answers what waits."""
    if not flight.events:
        flight.reading()


def log_audit(flight: Flight, audit: WriteAudit) -> None:
    """Log one write: who, what by name, and the events behind it; never a value of a personal field."""
    newest = flight.events[-10:]
    _log.info(
        "contact.written",
        user_id=flight.user_id,
        **audit.as_fields(),
        partition=newest[-1].partition,
        offsets=[event.offset for event in newest],
        events=len(flight.events),
    )
