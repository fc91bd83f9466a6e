"""Keeps this process a member of the consumer group, whatever becomes of its Kafka clients (promise P9)."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import structlog
from aiokafka.errors import KafkaError

from consumer.failure import Failure
from consumer.kafka_outlook import KafkaOutage, Outlook
from consumer.ops.metrics import Metrics
from consumer.stream.limits import Limits
from consumer.stream.partition_starts import WaitingPartition
from consumer.stream.source import Source

_log = structlog.get_logger("group")

_RETRY_AFTER: Final = 0.5
_RETRY_CAP: Final = 5.0

T = TypeVar("T")


class Group:
    """Runs a source, and makes another one from the settings when Kafka does not serve it but would serve a new one.

    That is the case when no commit was accepted for a while, though a new client can log in at the bootstrap servers:
    at once if the password or a certificate has changed, else after a session time-out, which a rebalance may take.
    A session time-out without a join that the broker has to answer: clients that are given up while they join stay
    members until their session ends, and the others wait for them, the successor included.
    While Kafka is away for everybody it waits; aiokafka comes back by itself then.
    """

    def __init__(
        self,
        build: Callable[[], Awaitable[Source]],
        look: Callable[[], Awaitable[Outlook]],
        credentials: Callable[[], object],
        explain: Callable[[BaseException], str],
        *,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        """Keep one source running.

        Args:
            build: makes one from the settings, connected; it raises a Failure otherwise.
            look: looks what a new client would meet; see `consumer.kafka_outlook.look`.
            credentials: returns something that differs when a password or a certificate has changed.
            explain: words an error of Kafka.
            limits: the session time-out, and that of a call.
            metrics: where replaced clients are counted.
        """
        self._build = build
        self._look = look
        self._credentials = credentials
        self._explain = explain
        self._limits = limits
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._outage = KafkaOutage(self._loop.time)
        self._source: Source | None = None
        self._built_with: object = None
        self._was_served = False
        self._trouble: str | None = None
        self._failed = False
        self._delay = _RETRY_AFTER
        self._stopping = asyncio.Event()
        self._ticked_at = self._loop.time()

    async def start(self) -> None:
        """Connect.

        Raises:
            Failure: Kafka is out of reach, or refuses.
        """
        await self._make()

    async def run(self) -> None:
        """Consume until `stop` is called; on return the group is left.

        Raises:
            KafkaError: Kafka refused before it ever served this process, as for lack of an authorization.
            Failure: Kafka did not serve this process for five minutes, while it served others.
        """
        while not self._stopping.is_set():
            if self._source is None:
                await self._rebuild()
            else:
                await self._serve(self._source)
                self._source = None
                if self._failed:
                    await self._pause()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping.set()
        if self._source is not None:
            self._source.stop()

    async def close(self) -> None:
        """Disconnect, also where `run` never ran."""
        if self._source is not None:
            await self._source.close()

    def unready(self) -> str | None:
        """Return why no records come, or None."""
        if self._source is None:
            return f"not a member of the consumer group: {self._trouble or 'connecting anew'}"
        reason = self._source.unready()
        return f"{reason}: {self._trouble}" if reason and self._trouble else reason

    def stuck_for(self) -> float:
        """Return for how many seconds the polling or the committing has not moved on; 0 when told to stop."""
        if self._stopping.is_set():
            return 0.0
        return self._loop.time() - self._ticked_at if self._source is None else self._source.stuck_for()

    def waiting(self) -> dict[int, WaitingPartition]:
        """Return the assigned partitions that could not be started yet."""
        return {} if self._source is None else self._source.waiting()

    def progress(self) -> dict[str, dict[str, int]]:
        """Return by partition how far it was read and how far it is committed."""
        return {} if self._source is None else self._source.committer.progress()

    async def _make(self) -> None:
        self._ticked_at = self._loop.time()
        credentials = self._credentials()
        self._source = await self._build()
        self._built_with = credentials
        if self._stopping.is_set():
            self._source.stop()

    async def _serve(self, source: Source) -> None:
        """Run a source to its end, which comes early where its clients are of no use any more."""
        running = asyncio.create_task(source.run(), name="source")
        watching = asyncio.create_task(self._watch(source), name="watch")
        try:
            await asyncio.wait([running, watching], return_when=asyncio.FIRST_COMPLETED)
            source.give_up()
            await asyncio.wait([running])
        finally:
            for task in (running, watching):
                task.cancel()
            await asyncio.wait([running, watching])
        self._ticked_at = self._loop.time()
        self._was_served |= source.was_served
        if watching.done() and not watching.cancelled():
            watching.result()  # five minutes are over
        self._failed = running.exception() is not None
        try:
            running.result()
        except KafkaError as error:
            if not self._was_served:
                raise
            self._tell(self._explain(error))

    async def _watch(self, source: Source) -> None:
        """Return when another source should take over from this one."""
        others_since: float | None = None
        joining_at = float("-inf")
        while True:
            await asyncio.sleep(self._limits.call_timeout)
            if source.is_joining:
                joining_at = self._loop.time()
            served_at = source.committer.served_at
            if self._loop.time() - served_at < 2 * self._limits.call_timeout:
                others_since = None
                if source.was_served and served_at > (self._outage.since or 0):
                    self._outage.over()
                    self._trouble, self._delay = None, _RETRY_AFTER
                continue
            outlook = await self._look()
            self._see(outlook, _complaint(source))
            if outlook.reason is not None:
                others_since = None
                continue
            if self._credentials() != self._built_with:
                _log.warning("group.rebuilding", reason="a password or certificate has changed")
                return
            now = self._loop.time()
            others_since = now if others_since is None else others_since
            patience = self._limits.session_timeout
            if now - max(served_at, others_since, joining_at) >= patience and now - source.rebalanced_at >= patience:
                _log.warning("group.rebuilding", reason=_complaint(source))
                return

    async def _rebuild(self) -> None:
        """Make a source, as soon as that is possible and unless told to stop."""
        self._metrics.kafka_rebuilds.inc()
        while not self._stopping.is_set():
            self._ticked_at = self._loop.time()
            outlook = await self._unless_stopped(self._look())
            if outlook is not None:
                self._see(outlook, self._trouble or "the clients cannot be built")
                if outlook.reason is None:
                    try:
                        await self._unless_stopped(self._make())
                    except Failure as failure:
                        self._tell(str(failure))
                    else:
                        return
            await self._pause()

    async def _pause(self) -> None:
        """Wait before the next try, longer each time; `stop` ends it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._delay):
                await self._stopping.wait()
        self._delay = min(2 * self._delay, _RETRY_CAP)

    def _see(self, outlook: Outlook, reason: str) -> None:
        self._outage.see(outlook, reason)
        if outlook.reason is not None:
            self._tell(outlook.reason)

    def _tell(self, reason: str) -> None:
        if reason != self._trouble:
            _log.warning("kafka.trouble", reason=reason)
        self._trouble = reason

    async def _unless_stopped(self, work: Awaitable[T]) -> T | None:
        """Return what the work does, or None if `stop` was called first."""
        task, stopped = asyncio.ensure_future(work), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for one in (task, stopped):
                one.cancel()
            await asyncio.wait([task, stopped])


def _complaint(source: Source) -> str:
    """Return what Kafka did last against this member, in a few words."""
    return source.committer.failure or "the group assigns it no partitions"
