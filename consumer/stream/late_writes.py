"""Writes that took effect too late: a frozen process may overwrite what its successor wrote (promise P2).

The lease is checked in the step that sends a write, but a process can be frozen between two instructions. So each write
is timed from that check to the end of its response, on a clock that counts suspended time. Within the write time-out
and the lease's margin the session was still this process's. Beyond that another instance may have read and written the
user meanwhile, and this write may have put an older state back: the user is synced again, by a request in the topic.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import structlog
from aiokafka import AIOKafkaProducer
from msgspec import Struct

from consumer.clock import Clock
from consumer.ops.metrics import Metrics
from consumer.stream.flight import Flight

_log = structlog.get_logger("late_writes")

_MOST: Final = 10_000
"""Users that may wait for their request to be stored."""

_STORE_SECONDS: Final = 5.0
_RETRY_BASE: Final = 0.5
_RETRY_CAP: Final = 10.0


class WriteTimes(Protocol):
    """How long a write may take; see `consumer.stream.membership.Membership`."""

    @property
    def write_timeout(self) -> float:
        """Seconds until a write is given up."""

    @property
    def late_after(self) -> float:
        """Seconds from the check of the lease after which the session may have ended."""


class _Late(Struct, frozen=True):
    partition: int
    due: float


class LateWrites:
    """Notices them, and requests a sync of each user until the request is stored. Implements `WriteWatch`.

    A request is published also when this process has lost its partitions: whoever owns them syncs the user.
    """

    def __init__(
        self,
        request_sync: Callable[[str, int], Awaitable[None]],
        times: WriteTimes,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """Have `request_sync` store a request for a user in a partition; `clock` counts suspended time."""
        self._request_sync = request_sync
        self._times = times
        self._clock = clock
        self._metrics = metrics
        self._waiting: dict[str, _Late] = {}
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        """Return how many users' requests are not stored yet."""
        return len(self._waiting)

    def now(self) -> float:
        """Return the time, to be taken before the lease is checked."""
        return self._clock()

    def ended(self, flight: Flight, checked_at: float, *, answered: bool) -> None:
        """Note the end of a write, whatever its result; without a response it may still take effect for a while."""
        now = self._clock()
        if now - checked_at <= self._times.late_after:
            return
        self._metrics.late_writes.inc()
        newest = flight.events[-1]
        _log.error(
            "write.late",
            user_id=flight.user_id,
            seconds=round(now - checked_at, 1),
            answered=answered,
            partition=newest.partition,
            offset=newest.offset,
            reason="this process stood still while it wrote; a sync of the user is requested",
        )
        if len(self._waiting) >= _MOST and flight.user_id not in self._waiting:
            _log.error("sync_request.dropped", user_id=flight.user_id, reason=f"{_MOST} others wait to be stored")
            return
        due = now if answered else now + self._times.write_timeout
        self._waiting[flight.user_id] = _Late(newest.partition, due)
        self._arrived.set()

    async def run(self) -> None:
        """Store requests when they are due, until cancelled."""
        pause = _RETRY_BASE
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                next_due = min(late.due for late in self._waiting.values())
                if (wait := next_due - self._clock()) > 0:
                    await asyncio.sleep(wait)
                elif await self._store_due():
                    pause = _RETRY_BASE
                else:
                    await asyncio.sleep(pause)
                    pause = min(_RETRY_CAP, 2 * pause)

    async def finish(self, budget: float) -> None:
        """Store what is left, also what is not due, in at most `budget` seconds; called after `run` was cancelled."""
        if not self._waiting:
            return
        try:
            async with asyncio.timeout(budget):
                stored = await self._store_due(even_early=True)
                while not stored:
                    await asyncio.sleep(_RETRY_BASE)
                    stored = await self._store_due(even_early=True)
        except TimeoutError:
            _log.error(
                "sync_request.not_stored",
                users=len(self._waiting),
                user_ids=list(self._waiting)[:20],
                reason="the service ends; request a sync of these users: sesamy-mailmojo sync USER_ID",
            )

    async def _store_due(self, *, even_early: bool = False) -> bool:
        """Store the requests that are due; return whether all of them are stored."""
        now = self._clock()
        for user_id, late in list(self._waiting.items()):
            if late.due > now and not even_early:
                continue
            try:
                async with asyncio.timeout(_STORE_SECONDS):
                    await self._request_sync(user_id, late.partition)
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                return False  # aiokafka's clients raise it when they are closed
            except Exception as error:  # noqa: BLE001 - any exception means "not stored"
                _log.warning("sync_request.failed", user_id=user_id, error=type(error).__name__)
                return False
            if self._waiting.get(user_id) is late:  # else another write of the user was late meanwhile
                del self._waiting[user_id]
            _log.info("sync_request.stored", user_id=user_id, partition=late.partition)
        return True


class SyncRequestTopic:
    """Stores requests in the topic, in the partition of the user's own events: its owner syncs the user."""

    def __init__(
        self,
        use_producer: Callable[[], AbstractAsyncContextManager[AIOKafkaProducer]],
        topic: str,
        encode: Callable[[str], bytes],
    ) -> None:
        """Store with this producer the value that `encode` gives for a user."""
        self._use_producer = use_producer
        self._topic = topic
        self._encode = encode

    async def request_sync(self, user_id: str, partition: int) -> None:
        """Store a request, and return once the broker acknowledged it. Any exception means that it is not stored."""
        async with self._use_producer() as producer:
            await producer.send_and_wait(self._topic, self._encode(user_id), key=user_id.encode(), partition=partition)
