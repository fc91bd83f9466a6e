"""The one owner of the aiokafka consumer: it polls, hands records on, commits, and follows the group.

aiokafka rebalances eagerly: every rebalance revokes everything, rewinds kept partitions to the last commit, forgets
pauses and seeks, and swallows what its listener raises. So the listener only signals this owner, and each assignment
is a generation that starts from the group's commits.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from msgspec import Struct

from consumer.ops.metrics import Metrics
from consumer.stream.committer import Committer
from consumer.stream.intake import Intake, Record
from consumer.stream.ledger import Ledger
from consumer.stream.malformed import MalformedRecords
from consumer.stream.membership import Membership
from consumer.stream.offset_map import SPAN
from consumer.stream.start_offsets import LogEndBehind, StartOffsets
from consumer.stream.user_queues import UserQueues

_log = structlog.get_logger("source")

_POLL: Final = 0.25
_RECORDS: Final = 2000
"""Records taken at a time at the most: the loop serves nothing else meanwhile."""

_RESUME_AT: Final = 0.7
_MALFORMED_BYTES: Final = 16 * 1024 * 1024
_RETRY_AFTER: Final = 0.5
_LEAVING: Final = 5.0
"""Seconds of the shutdown kept for what comes after the last commit: leaving the group and closing connections."""


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds in seconds, and how many events may wait."""

    max_pending: int
    session_timeout: float
    heartbeat_interval: float
    shutdown_timeout: float

    @property
    def revoke_budget(self) -> float:
        """Seconds that a revoke may take; a member learns of a rebalance up to a heartbeat late."""
        return self.session_timeout - self.heartbeat_interval - 1.0

    @property
    def call_timeout(self) -> float:
        """Seconds until a call of the broker counts as failed: with the broker down `commit()` never returns."""
        return self.session_timeout / 6


class Source(ConsumerRebalanceListener):
    """Reads the topic as a member of the group, from `run` to `stop`."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        starts: StartOffsets,
        intake: Intake,
        committer: Committer,
        *,
        queues: UserQueues,
        malformed: MalformedRecords,
        ledger: Ledger,
        membership: Membership,
        topic: str,
        limits: Limits,
        metrics: Metrics,
        share_changed: Callable[[float], None],
        polled: Callable[[float, int], None] | None = None,
    ) -> None:
        """Own a started consumer; `share_changed` is told this instance's part of all partitions, 0 to 1.

        `polled` is told of each poll that brought records: the seconds it took, and how many, where somebody traces.
        """
        self._consumer = consumer
        self._starts = starts
        self._intake = intake
        self._committer = committer
        self._queues = queues
        self._malformed = malformed
        self._ledger = ledger
        self._membership = membership
        self._topic = topic
        self._limits = limits
        self._metrics = metrics
        self._share_changed = share_changed
        self._polled = polled
        self._paused: set[TopicPartition] = set()
        self._poll: asyncio.Task[dict[TopicPartition, list[Record]]] | None = None
        self._revocation: asyncio.Future[None] | None = None
        self._assignment: frozenset[int] | None = None
        self._assigned_at = 0.0
        self._signal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = False
        self._left = False
        self.is_member = False
        self._ticked_at = self._polling_since = self._now()

    # The listener: signals the owner, and does nothing slow.

    async def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        """Have the owner end the generation, and wait for that within the rebalance's time."""
        if self._left:
            return
        self._assignment = None
        self._revocation = asyncio.get_running_loop().create_future()
        self._notify()
        await asyncio.wait([self._revocation], timeout=self._limits.revoke_budget)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Have the owner begin a generation."""
        self._assignment = frozenset(place.partition for place in assigned)
        self._assigned_at = self._membership.now()
        self._notify()

    # The owner.

    async def run(self) -> None:
        """Consume until `stop` is called; on return everything begun is ended, committed and the group left.

        Raises:
            KafkaError: Kafka refuses for good, such as an authorization that is missing.
        """
        self._consumer.subscribe([self._topic], listener=self)
        try:
            while not self._stopping:
                await self._step()
        finally:
            await self._leave()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping = True
        self._notify()

    def unready(self) -> str | None:
        """Return why no records come, or None: a member may well have no partition, but not a topic without any."""
        if not self.is_member:
            return "not a member of the consumer group"
        if not self._consumer.partitions_for_topic(self._topic):
            return f"topic {self._topic} (KAFKA_TOPIC) does not exist any more; create it"
        return None

    def stuck_for(self) -> float:
        """Return for how many seconds the polling or the committing has not moved on; 0 when told to stop.

        A member's poll ends in a fraction of a second, with or without a broker, and all else here in the session
        time-out. Without an assignment a poll waits for one, as long as the broker is away.
        """
        if self._stopping:
            return 0.0
        polling = self._poll is not None and self.is_member
        return self._now() - (min(self._ticked_at, self._polling_since) if polling else self._ticked_at)

    async def _step(self) -> None:
        self._ticked_at = self._now()
        self._signal = asyncio.get_running_loop().create_future()
        if self._revocation is not None and not self._revocation.done():
            await self._end_generation(self._revocation)
        elif self._assignment is not None and self._poll is None:
            await self._begin_generation(self._assignment)
        elif self._membership.lapsed:
            # Others may own what this process thinks it owns.
            await self._rejoin("lease lapsed")
        else:
            if self._poll is None and self._assignment is None:
                # No more than there is room for: one fetch can hold thousands of records of each partition.
                room = max(1, self._limits.max_pending - self._queues.pending - len(self._malformed))
                self._polling_since = self._now()
                self._poll = asyncio.create_task(
                    self._consumer.getmany(timeout_ms=int(_POLL * 1000), max_records=min(room, _RECORDS)),
                    name="kafka-poll",
                )
            awaited: list[asyncio.Future[Any]] = [self._signal, *([self._poll] if self._poll else [])]
            await asyncio.wait(awaited, timeout=_POLL, return_when=asyncio.FIRST_COMPLETED)
            if self._poll is not None and self._poll.done():
                await self._take_poll(self._poll)
            if self.is_member:
                await self._committer.commit_if_due()

    async def _take_poll(self, poll: "asyncio.Task[dict[TopicPartition, list[Record]]]") -> None:
        self._poll = None
        try:
            batches = poll.result()
        except (NoOffsetForPartitionError, OffsetOutOfRangeError):
            if self.is_member:
                # The log's start overtook us: begin again from the commits, which counts what is lost.
                await self._rejoin("offset out of range")
            return
        except ConsumerStoppedError:
            return
        except KafkaError as error:
            if not error.retriable:
                raise
            _log.warning("kafka.poll_failed", error=repr(error))
            await asyncio.sleep(_RETRY_AFTER)
            return
        if self._assignment is not None or self._revocation is not None or not self.is_member:
            return  # Read across a rebalance: the next generation seeks to where it starts.
        if self._polled is not None and batches:
            self._polled(self._now() - self._polling_since, sum(map(len, batches.values())))
        generation = self._membership.generation
        for batch in batches.values():
            for record in batch:
                self._intake.take(record, generation)
        await self._committer.note_positions()
        self._hold_back()

    async def _begin_generation(self, partitions: frozenset[int]) -> None:
        try:
            async with asyncio.timeout(self._limits.call_timeout):
                starts = await self._starts.find(partitions) if partitions else {}
            for partition, start in starts.items():
                self._consumer.seek(TopicPartition(self._topic, partition), start.offset)
        except (KafkaError, TimeoutError, IllegalStateError, LogEndBehind) as error:
            _log.warning("assignment.not_ready", error=repr(error))
            await asyncio.wait([self._signal], timeout=_RETRY_AFTER)
            return
        if self._assignment is not partitions:
            return  # Revoked meanwhile.
        self._assignment = None
        self._membership.join(partitions, self._assigned_at)
        self._metrics.rebalances.inc()
        self._paused = set()
        self._ledger.begin(
            self._membership.generation,
            {partition: (start.offset, start.metadata) for partition, start in starts.items()},
        )
        total = len(self._consumer.partitions_for_topic(self._topic) or partitions) or 1
        self._share_changed(len(partitions) / total)
        self._metrics.assigned_partitions.set(len(partitions))
        self._committer.begin(starts)
        _log.info("group.joined", generation=self._membership.generation, partitions=sorted(partitions))
        self.is_member = True
        await self._committer.commit()

    async def _end_generation(self, revocation: "asyncio.Future[None]") -> None:
        """Stop intake, end what flies, commit, and let the rebalance go on."""
        if self.is_member:
            deadline = self._now() + self._limits.revoke_budget - self._limits.call_timeout
            await self._queues.settle(min(self._membership.write_timeout + 0.5, deadline - self._now()))
            await self._malformed.settle(max(0.0, deadline - self._now()))
            await self._committer.commit()
            self._close_generation()
        if not revocation.done():
            revocation.set_result(None)
        if self._revocation is revocation:
            self._revocation = None

    async def _rejoin(self, reason: str) -> None:
        """Drop what waits, without a commit, and join the group anew."""
        _log.warning("group.rejoining", reason=reason, generation=self._membership.generation)
        await self._queues.settle(self._membership.write_timeout + 0.5)
        self._close_generation()
        # Subscribing again would do, too, but while the broker is away it ends aiokafka's coordination for good
        # (an assertion in 0.14: the old subscription is still in use there).
        coordinator = self._consumer._coordinator  # noqa: SLF001 - there is no public call that rejoins
        if coordinator is not None:  # only before the consumer was started
            coordinator.request_rejoin()

    def _close_generation(self) -> None:
        self.is_member = False
        self._committer.end()
        self._queues.drop()
        self._malformed.drop()
        self._ledger.close()
        self._membership.leave()
        self._share_changed(0.0)
        self._metrics.assigned_partitions.set(0)

    def _hold_back(self) -> None:
        """Back-pressure: pause above a bound, resume well below it, since a pause throws away what was fetched.

        Everything is paused while too much waits; a partition alone, while one open record holds back more than the
        offset map can speak of.
        """
        waiting = self._queues.pending + len(self._malformed)
        full = waiting >= self._limits.max_pending or self._malformed.bytes_waiting > _MALFORMED_BYTES
        eased = not full and waiting <= self._limits.max_pending * _RESUME_AT
        for place in self._consumer.assignment():
            span = self._ledger.span(place.partition)
            if place not in self._paused and (full or span >= SPAN):
                self._consumer.pause(place)
                self._paused.add(place)
            elif place in self._paused and eased and span <= SPAN * _RESUME_AT:
                self._consumer.resume(place)
                self._paused.discard(place)

    async def _leave(self) -> None:
        """End what flies, commit, and leave the group, in `shutdown_timeout` whatever the broker does."""
        budget = self._limits.shutdown_timeout
        writes = min(self._membership.write_timeout, budget / 4)
        commit = min(self._limits.call_timeout, budget / 4)
        if self.is_member:
            await self._queues.settle(writes, patience=max(0.0, budget - writes - commit - _LEAVING))
            await self._malformed.settle(min(1.0, budget / 10))
            await self._committer.commit(commit)
            self._close_generation()
        self._left = True
        if self._revocation is not None and not self._revocation.done():
            self._revocation.set_result(None)
        await end_task(asyncio.create_task(self._consumer.stop(), name="kafka-stop"), 1.5)
        if self._poll is not None:
            await end_task(self._poll, 0)

    def _notify(self) -> None:
        if not self._signal.done():
            self._signal.set_result(None)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


async def end_task(task: "asyncio.Task[Any]", patience: float) -> None:
    """Await a task of aiokafka's, which may never end, or raise CancelledError though nobody cancelled it."""
    await asyncio.wait([task], timeout=patience)
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.5)
    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("kafka.stop_failed", error=repr(error))
