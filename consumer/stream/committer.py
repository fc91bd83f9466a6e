"""Commits what is done, and so keeps the lease: a commit that the broker accepts proves membership."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    OffsetMetadataTooLargeError,
    RebalanceInProgressError,
)
from msgspec import Struct

from consumer.ops.metrics import Metrics
from consumer.stream.ledger import Ledger
from consumer.stream.membership import Membership
from consumer.stream.start_offsets import Start

_log = structlog.get_logger("committer")

_INTERVAL: Final = 1.0
"""Seconds between commits while work is being done: what a crash does again is at most this and what was in flight."""

_LOOK: Final = 0.25
_RENEWAL: Final = 3.0
"""Seconds between commits while nothing changes."""


class Member(Struct, frozen=True):
    """Who a commit comes from, as the group coordinator knows it."""

    member_id: str
    generation: int


class Committer:
    """The commits of the consumer's owner, who alone calls it."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        ledger: Ledger,
        membership: Membership,
        *,
        topic: str,
        timeout: float,
        metrics: Metrics,
        leased: Callable[[], None],
    ) -> None:
        """Commit for a started consumer.

        Args:
            consumer: whose positions and commits.
            ledger: what is done.
            membership: gets its lease from the commits.
            topic: the source topic.
            timeout: seconds until a commit counts as failed; with the broker down it would never return.
            metrics: where lag and failures are shown.
            leased: called when a generation gets its first lease: from then on syncs may write.
        """
        self._consumer = consumer
        self._ledger = ledger
        self._membership = membership
        self._topic = topic
        self._timeout = timeout
        self._metrics = metrics
        self._leased = leased
        self.served_at = asyncio.get_running_loop().time()
        """The loop's time of the last proof that Kafka serves this member: a commit that was accepted.

        Without a partition it is when the coordinator was last known. At first it is the time at which this was made.
        """
        self.failure: str | None = None
        """Why the last commit failed, or None if it did not."""
        self._member: Member | None = None
        self._positions: dict[int, int] = {}
        self._committed: dict[int, tuple[int, str]] = {}
        self._sent_at = 0.0

    def member(self) -> Member | None:
        """Return who the broker takes the consumer for at this moment; None without a group."""
        coordinator = self._consumer._coordinator  # noqa: SLF001 - there is no public way to know
        return coordinator and Member(coordinator.member_id, coordinator.generation)

    def begin(self, member: Member | None) -> None:
        """Begin a generation, which was assigned to this member of the group; nothing else may commit in it."""
        self._member = member
        self._positions = {}
        self._committed = {}

    def start(self, starts: Mapping[int, Start]) -> None:
        """Take over partitions that start there."""
        for partition, start in starts.items():
            self._positions[partition] = start.offset
            self._metrics.consumer_lag.labels(str(partition)).set(start.end - start.offset)

    def end(self) -> None:
        """End the generation; there is no lag to speak of for partitions of others."""
        self._positions = {}
        self._metrics.consumer_lag.clear()
        self._metrics.committed_offset.clear()

    def progress(self) -> dict[str, dict[str, int]]:
        """Return by partition how far it was read and how far it is committed."""
        return {
            str(partition): {"position": position, "committed": self._committed.get(partition, (position, ""))[0]}
            for partition, position in sorted(self._positions.items())
        }

    async def note_positions(self) -> None:
        """Note how far the consumer is, called when all it returned was handed on.

        At any other time a position may lie beyond records that nobody has seen, and a commit would overtake the
        work (P1).
        """
        try:
            for partition in self._membership.partitions:
                self._positions[partition] = await self._consumer.position(TopicPartition(self._topic, partition))
        except IllegalStateError:
            return  # Revoked this very moment; its owner is told right now.
        self._report_lag()

    async def commit_if_due(self) -> None:
        """Commit what is new, at most once a second, or the same again before the lease runs out."""
        now = asyncio.get_running_loop().time()
        if not self._membership.partitions:
            coordinator = self._consumer._coordinator  # noqa: SLF001 - there is no public way to know
            if coordinator is not None and coordinator.coordinator_id is not None:  # forgotten when a heartbeat fails
                self.served_at = now
            return
        age = now - self._sent_at
        renewal = min(_RENEWAL, self._membership.lease_duration / 3)
        if age >= min(_INTERVAL, renewal) and (
            age >= renewal or self._ledger.commit_plan(self._positions) != self._committed
        ):
            await self.commit()

    @asynccontextmanager
    async def renewing(self) -> AsyncIterator[None]:
        """Commit whatever is due while the block runs: the lease has to be valid for the last commit, too."""
        task = asyncio.create_task(self._renew(), name="renew-lease")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _renew(self) -> None:
        while True:
            await self.commit_if_due()
            await asyncio.sleep(_LOOK)

    async def commit(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - a shutdown has less time
        """Commit what is done, changed or not, unless this process may not be a member any more.

        The commit is sent as the member of this generation and proves that it still is one. One that was expelled is
        given a new identity before its listener hears of it, and without any a group that became empty accepts
        everything (measured: it rewound the group).
        """
        if not (self._membership.may_commit and self._consumer.partitions_for_topic(self._topic)):
            return  # What was done in a topic that is gone must not count for one that is made anew.
        if self.member() != self._member:
            return  # Its listener is told right now.
        plan = self._ledger.commit_plan(self._positions)
        started_at = self._membership.now()
        self._sent_at = asyncio.get_running_loop().time()
        self._ledger.sending(plan)
        try:
            async with asyncio.timeout(timeout or self._timeout):
                await self._consumer.commit(
                    {TopicPartition(self._topic, partition): at for partition, at in plan.items()}
                )
        except (KafkaError, TimeoutError) as error:
            self._metrics.commit_failures.inc()
            _log.warning("commit.failed", error=repr(error))
            self.failure = str(error) or type(error).__name__
            if isinstance(error, OffsetMetadataTooLargeError):
                self._ledger.shrink_maps()
            elif isinstance(error, CommitFailedError) and not isinstance(error.__cause__, RebalanceInProgressError):
                self._membership.expel()
            return
        self.failure = None
        if self.member() != self._member:
            return  # It may have been accepted from no member at all.
        self.served_at = asyncio.get_running_loop().time()
        if not self._membership.lease_remaining():
            self._leased()
        self._membership.renew(started_at)
        self._committed = plan
        self._ledger.committed(plan)
        self._report_lag()

    def _report_lag(self) -> None:
        for partition, (committed, _) in self._committed.items():
            try:
                end = self._consumer.highwater(TopicPartition(self._topic, partition))
            except IllegalStateError:
                return  # Revoked this very moment.
            if end is not None:
                self._metrics.consumer_lag.labels(str(partition)).set(max(0, end - committed))
