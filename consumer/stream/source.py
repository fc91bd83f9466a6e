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

from consumer import kafka
from consumer.kafka_connections import ConnectionWatch
from consumer.ops.metrics import Metrics
from consumer.stream.back_pressure import BackPressure
from consumer.stream.committer import Committer, Member
from consumer.stream.intake import Intake, Record
from consumer.stream.ledger import Ledger
from consumer.stream.limits import Limits
from consumer.stream.malformed import MalformedRecords
from consumer.stream.membership import Membership
from consumer.stream.partition_starts import PartitionStarts, WaitingPartition
from consumer.stream.quota_share import QuotaShare
from consumer.stream.user_queues import UserQueues

_log = structlog.get_logger("source")

_POLL: Final = 0.25
_RECORDS: Final = 2000
"""Records taken at a time at the most: the loop serves nothing else meanwhile."""

_RETRY_AFTER: Final = 0.5
_LEAVING: Final = 5.0
"""Seconds of the shutdown kept for what comes after the last commit: leaving the group and closing connections."""


class Source(ConsumerRebalanceListener):
    """Reads the topic as a member of the group, from `run` to `stop`."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        starts: PartitionStarts,
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
        share: QuotaShare,
        connections: ConnectionWatch,
        polled: Callable[[float, int], None] | None = None,
    ) -> None:
        """Own a started consumer.

        `polled` is told of each poll that brought records: the seconds it took, and how many, where somebody traces.
        """
        self._consumer = consumer
        self._starts = starts
        self._intake = intake
        self.committer = committer
        self._polled_for: list[TopicPartition] = []
        self._queues = queues
        self._malformed = malformed
        self._ledger = ledger
        self._membership = membership
        self._topic = topic
        self._limits = limits
        self._metrics = metrics
        self._share = share
        self._polled = polled
        self._connections = connections
        self._back_pressure = BackPressure(consumer, queues, malformed, ledger, max_pending=limits.max_pending)
        self._poll: asyncio.Task[dict[TopicPartition, list[Record]]] | None = None
        self._revocation: asyncio.Future[None] | None = None
        self._assignment: tuple[frozenset[int], Member | None] | None = None
        self._assigned: frozenset[int] = frozenset()
        self._signal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = False
        self._given_up = False
        self._left = False
        self.is_member = False
        self.was_served = False
        """Whether Kafka ever accepted a commit of this member, or assigned it no partition to commit for."""
        self._ticked_at = self._polling_since = self.rebalanced_at = self._now()

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
        self._assignment = frozenset(place.partition for place in assigned), self.committer.member()
        self.rebalanced_at = self._now()
        self._notify()

    # The owner.

    async def run(self) -> None:
        """Consume until `stop` is called; on return everything begun is ended, committed and the group left.

        Raises:
            KafkaError: Kafka refuses for good, such as an authorization that is missing.
        """
        self._consumer.subscribe([self._topic], listener=self)
        try:
            while not (self._stopping or self._given_up):
                await self._step()
        finally:
            await self._leave()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping = True
        self._notify()

    async def close(self) -> None:
        """Disconnect, also where `run` never ran."""
        await kafka.stop(self._consumer)

    def give_up(self) -> None:
        """Ask `run` to end without waiting for anything: another consumer takes over from this one."""
        self._given_up = True
        self._notify()

    def unready(self) -> str | None:
        """Return why no records come, or None: a member may well have no partition, but not a topic without any."""
        if not self.is_member:
            return "not a member of the consumer group"
        if not self._consumer.partitions_for_topic(self._topic):
            return f"topic {self._topic} (KAFKA_TOPIC) does not exist any more; create it"
        if self._assigned and not self._membership.partitions:
            return f"no partition could be started: {self._starts.reasons() or 'asking Kafka where they begin'}"
        return None

    @property
    def is_joining(self) -> bool:
        """Whether the broker has a request of this member to join the group that it has not answered yet."""
        return self._connections.is_joining()

    def waiting(self) -> dict[int, WaitingPartition]:
        """Return the assigned partitions that could not be started yet; each of them delays only itself."""
        return self._starts.waiting

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
        self._connections.look()
        self._signal = asyncio.get_running_loop().create_future()
        if self._revocation is not None and not self._revocation.done():
            await self._end_generation(self._revocation)
        elif self._assignment is not None and self._poll is None:
            self._begin_generation(*self._assignment)
        elif self._membership.lapsed:
            # Others may own what this process thinks it owns.
            await self._rejoin("lease lapsed")
        else:
            if self._poll is None and self._assignment is None:
                self._polling_since = self._now()
                self._polled_for = self._places(self._membership.partitions)  # none: it polls to stay a member
                self._poll = asyncio.create_task(
                    self._consumer.getmany(
                        *self._polled_for,
                        timeout_ms=int(_POLL * 1000),
                        max_records=min(self._back_pressure.room(), _RECORDS),
                    ),
                    name="kafka-poll",
                )
            awaited: list[asyncio.Future[Any]] = [self._signal, *([self._poll] if self._poll else [])]
            patience = min(_POLL, self.committer.due_in())
            await asyncio.wait(awaited, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if self._poll is not None and self._poll.done():
                await self._take_poll(self._poll)
            if self.is_member:
                await self._start_partitions()
                await self.committer.commit_if_due()
                self.was_served |= not self._assigned or self._membership.lease_remaining() > 0

    async def _take_poll(self, poll: "asyncio.Task[dict[TopicPartition, list[Record]]]") -> None:
        self._poll = None
        try:
            batches = poll.result()
        except (NoOffsetForPartitionError, OffsetOutOfRangeError):
            if self._polled_for:
                # The log's start overtook us: begin again from the commits, which counts what is lost.
                await self._rejoin("offset out of range")
            else:
                await asyncio.wait([self._signal], timeout=_POLL)  # No partition has started: that is decided later.
            return
        except (ConsumerStoppedError, IllegalStateError):
            return  # Revoked this very moment.
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
        for place, batch in batches.items():
            if place.partition in self._membership.partitions:
                for record in batch:
                    self._intake.take(record, generation)
        await self.committer.note_positions()
        self._back_pressure.apply(self._places(self._membership.partitions))

    def _begin_generation(self, partitions: frozenset[int], member: Member | None) -> None:
        """Become the owner of these partitions. Each of them starts as soon as it is known where."""
        self._assignment = None
        try:
            self._consumer.pause(*self._places(partitions))
        except IllegalStateError:
            return  # Revoked this very moment.
        self._membership.join()
        self._metrics.rebalances.inc()
        self._assigned = partitions
        self._back_pressure.begin()
        self._ledger.begin(self._membership.generation, {}, waiting=partitions, on_done=self.committer.note_done)
        self.committer.begin(member, self._notify)
        self._share.assign(partitions, lambda: len(self._consumer.partitions_for_topic(self._topic) or ()))
        self._starts.begin(partitions, self._notify)
        self._metrics.assigned_partitions.set(len(partitions))
        _log.info("group.joined", generation=self._membership.generation, partitions=sorted(partitions))
        self.is_member = True

    async def _start_partitions(self) -> None:
        """Begin to read partitions of which it is now known where they start."""
        starts = self._starts.take()
        self._metrics.waiting_partitions.set(len(self._starts.waiting))
        if not starts:
            return
        try:
            for partition, start in starts.items():
                self._consumer.seek(TopicPartition(self._topic, partition), start.offset)
            self._consumer.resume(*self._places(starts))
        except IllegalStateError:
            return  # Revoked this very moment.
        for partition, start in starts.items():
            self._ledger.start(partition, start.offset, start.metadata)
        is_first = not self._membership.partitions
        self._membership.start(starts)
        self.committer.start(starts)
        _log.info("partitions.started", generation=self._membership.generation, partitions=sorted(starts))
        if is_first:
            await self.committer.commit()

    async def _end_generation(self, revocation: "asyncio.Future[None]") -> None:
        """Stop intake, end what flies, commit, and let the rebalance go on."""
        if self.is_member:
            deadline = self._now() + self._limits.revoke_budget - self._limits.call_timeout
            async with self.committer.renewing():
                await self._queues.settle(min(self._membership.write_timeout + 0.5, deadline - self._now()))
            await self._malformed.settle(max(0.0, deadline - self._now()))
            await self.committer.commit()
            await self._close_generation()
        self.rebalanced_at = self._now()
        if not revocation.done():
            revocation.set_result(None)
        if self._revocation is revocation:
            self._revocation = None

    async def _rejoin(self, reason: str) -> None:
        """Drop what waits, without a commit, and join the group anew."""
        _log.warning("group.rejoining", reason=reason, generation=self._membership.generation)
        await self._queues.settle(self._membership.write_timeout + 0.5)
        await self._close_generation()
        # Subscribing again would do, too, but while the broker is away it ends aiokafka's coordination for good
        # (an assertion in 0.14: the old subscription is still in use there).
        coordinator = self._consumer._coordinator  # noqa: SLF001 - there is no public call that rejoins
        if coordinator is not None:  # only before the consumer was started
            coordinator.request_rejoin()

    async def _close_generation(self) -> None:
        self.is_member = False
        self._assigned = frozenset()
        self.committer.end()
        self._queues.drop()
        self._malformed.drop()
        self._ledger.close()
        self._membership.leave()
        self._share.release()
        self._metrics.assigned_partitions.set(0)
        self._metrics.waiting_partitions.set(0)
        await self._starts.end()

    async def _leave(self) -> None:
        """End what flies, commit, and leave the group, in `shutdown_timeout` whatever the broker does."""
        budget = self._limits.shutdown_timeout
        writes = min(self._membership.write_timeout, budget / 4)
        commit = min(self._limits.call_timeout, budget / 4)
        if self.is_member:
            patience = max(0.0, budget - writes - commit - _LEAVING) if self._stopping else 0.0
            async with self.committer.renewing():
                await self._queues.settle(writes, patience=patience)
            await self._malformed.settle(min(1.0, budget / 10))
            await self.committer.commit(commit)
            await self._close_generation()
        self._left = True
        if self._revocation is not None and not self._revocation.done():
            self._revocation.set_result(None)
        await kafka.stop(self._consumer, 0.5 if self._given_up else 1.5)
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.wait([self._poll], timeout=0.5)

    def _places(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, partition) for partition in partitions]

    def _notify(self) -> None:
        if not self._signal.done():
            self._signal.set_result(None)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
