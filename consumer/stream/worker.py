"""One flight from its sync to its end: done, given up, or again later."""

import random
import traceback
from collections.abc import Callable
from typing import Final

import structlog

from consumer.clients.errors import ApiError, Rejected, Throttled
from consumer.mapping.instants import UnreadableState
from consumer.ops.metrics import Metrics
from consumer.stream.dead_letters import Reason
from consumer.stream.flight import Again, Flight, GiveUp, Landed, Trace, Verdict
from consumer.stream.ledger import Ledger
from consumer.sync.breaker import Gatekeeper
from consumer.sync.flight import LeaseLost, WriteAudit
from consumer.sync.outcome import Outcome
from consumer.sync.syncer import Syncer

_log = structlog.get_logger("worker")

_POSTPONED: Final = 0.5
"""Seconds until a flight that could not write under its lease is tried again; a rebalance drops it before that."""


class Fault(Exception):
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
        gatekeeper: Gatekeeper,
        ledger: Ledger,
        *,
        retry: RetryPolicy,
        metrics: Metrics,
        wall_clock: Callable[[], float],
        new_trace: Callable[[str], Trace | None] | None = None,
    ) -> None:
        """Work with these; `new_trace` gives the trace of a user's sync, where somebody traces."""
        self._syncer = syncer
        self._gatekeeper = gatekeeper
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
        before = {api: breaker.successes for api, breaker in self._gatekeeper.breakers.items()}
        try:
            outcome = await self._syncer.sync(flight.user_id, flight)
        except Rejected as error:
            return self._refused(flight, error)
        except ApiError as error:
            self._metrics.syncs.labels("failed").inc()
            counts = await self._gatekeeper.breakers[error.api].is_fault_of_user(error, before[error.api])
            return self._failed(flight, error, counts=counts)
        except UnreadableState as error:
            self._metrics.syncs.labels("failed").inc()
            return self._failed(flight, error, counts=True)
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours must hold back this user only (P5)
            self._metrics.syncs.labels("failed").inc()
            place = traceback.extract_tb(error.__traceback__)[-1]
            # Not the text: it may quote a value.
            _log.error(
                "sync.fault", user_id=flight.user_id, kind=type(error).__name__, at=f"{place.name}:{place.lineno}"
            )
            return self._failed(flight, Fault(type(error).__name__), counts=True)
        self._succeeded(flight, outcome)
        return Landed()

    def _succeeded(self, flight: Flight, outcome: Outcome) -> None:
        self._synced[outcome].inc()
        self._metrics.last_success.set(self._wall_clock())
        self._gatekeeper.breakers["sesamy"].succeeded()
        if outcome.sync_outcome != "skipped":
            self._gatekeeper.breakers["mailmojo"].succeeded()
        if outcome in {Outcome.CREATED, Outcome.UPDATED}:
            self._gatekeeper.rejections.accepted()
        _take_events(flight)
        if flight.trace is not None:
            flight.trace.succeeded(outcome.value)
        self._ledger.answered(flight.generation, flight.events, outcome.event_outcome, outcome.value)

    def _refused(self, flight: Flight, error: Rejected) -> Verdict:
        """Refuse for good only what was refused again after a fresh read (`reference/mailmojo.md`, rule 8)."""
        if flight.trace is not None:
            flight.trace.failed(error)
        self._metrics.syncs.labels("failed").inc()
        flight.queue.refusals += 1
        if flight.queue.refusals == 1:
            self._metrics.retries.inc()
            return Again(0)
        if not self._gatekeeper.rejections.rejected(flight.user_id, error):
            return self._later(flight.queue.refusals)
        return _give_up(flight, "rejected", error, flight.queue.refusals)

    def _failed(self, flight: Flight, error: Exception, *, counts: bool) -> Verdict:
        if flight.trace is not None:
            flight.trace.failed(error)
        queue = flight.queue
        queue.attempts += counts
        _log.info("sync.failed", user_id=flight.user_id, error=str(error), attempt=queue.attempts, counts=counts)
        if queue.attempts >= self._retry.max_attempts:
            return _give_up(flight, "exhausted", error, queue.attempts)
        return self._later(0 if isinstance(error, Throttled) else queue.attempts)

    def _later(self, attempts: int) -> Again:
        self._metrics.retries.inc()
        return Again(self._retry.delay(attempts))


def _give_up(flight: Flight, reason: Reason, error: Exception, attempts: int) -> GiveUp:
    _take_events(flight)
    return GiveUp(reason, f"{type(error).__name__}: {error}", attempts)


def _take_events(flight: Flight) -> None:
    """A sync may end before its first read: no token, no permit, a guest by id. It still answers what waits."""
    if not flight.events:
        flight.reading()


def log_audit(flight: Flight, audit: WriteAudit) -> None:
    """Log one write: who, what by name, and the events behind it; never a value of a personal field."""
    _log.info(
        "contact.written",
        user_id=flight.user_id,
        **audit.as_fields(),
        partition=flight.events[-1].partition,
        offsets=[event.offset for event in flight.events[-10:]],
        events=len(flight.events),
    )
