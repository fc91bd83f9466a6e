"""Commits what is done, and so keeps the lease: a commit that the broker accepts proves membership."""

import asyncio
import math
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

_INTERVAL: Final = 0.1
"""Minimum seconds between commits.

A crash repeats what was in flight, and what was done within this interval and the round trip of a commit before it.
"""

_PLANNING_SHARE: Final = 0.05
"""Maximum share of the time that is spent on planning commits: a plan with long offset maps takes milliseconds."""

_RETRY: Final = 1.0
"""Seconds after which a commit that failed, or may not be sent now, is tried again."""

_RENEWAL: Final = 3.0
"""Seconds between commits while nothing changes."""

_EARLY: Final = 0.001
"""Seconds by which a timer may fire early."""


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
        self._renewal = min(_RENEWAL, membership.lease_duration / 3)
        self._wake: Callable[[], None] = lambda: None
        self._changed = False
        """Whether something may be done that is in no commit yet."""
        self._planned_at = self._tried_at = 0.0
        """The loop's time of the last plan, and of the last commit that was due."""
        self._pause = _INTERVAL
        """Minimum seconds from one plan to the next."""

    def member(self) -> Member | None:
        """Return who the broker takes the consumer for at this moment; None without a group."""
        coordinator = self._consumer._coordinator  # noqa: SLF001 - there is no public way to know
        return coordinator and Member(coordinator.member_id, coordinator.generation)

    def begin(self, member: Member | None, wake: Callable[[], None]) -> None:
        """Begin a generation, which was assigned to this member of the group; nothing else may commit in it.

        `wake` is called when `due_in` has become shorter.
        """
        self._member = member
        self._wake = wake
        self._changed = False
        self._positions = {}
        self._committed = {}

    def start(self, starts: Mapping[int, Start]) -> None:
        """Take over partitions that start there."""
        for partition, start in starts.items():
            self._positions[partition] = start.offset
            self._metrics.consumer_lag.labels(str(partition)).set(start.end - start.offset)
        self._changed = True

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
        before = dict(self._positions)
        try:
            for partition in self._membership.partitions:
                self._positions[partition] = await self._consumer.position(TopicPartition(self._topic, partition))
        except IllegalStateError:
            return  # Revoked this very moment; its owner is told right now.
        self._changed |= self._positions != before
        self._report_lag()

    def note_done(self) -> None:
        """Take note that a record is done: it is to be committed soon."""
        if not self._changed:
            self._changed = True
            self._wake()

    def due_in(self) -> float:
        """Return the seconds until `commit_if_due` has something to do."""
        if not self._membership.partitions:
            return math.inf
        due_at = self._tried_at + self._renewal
        if self._changed:
            due_at = min(due_at, self._planned_at + self._pause)
        left = due_at - asyncio.get_running_loop().time()
        return left if left > _EARLY else 0.0

    async def commit_if_due(self) -> None:
        """Commit what is new, at most ten times a second, or everything before the lease runs out.

        A commit of what is new leaves out the partitions in which nothing is.
        """
        now = asyncio.get_running_loop().time()
        if not self._membership.partitions:
            coordinator = self._consumer._coordinator  # noqa: SLF001 - there is no public way to know
            if coordinator is not None and coordinator.coordinator_id is not None:  # forgotten when a heartbeat fails
                self.served_at = now
        elif not self.due_in():
            await self._commit(self._timeout, everything=now >= self._tried_at + self._renewal - _EARLY)

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
            await asyncio.sleep(_INTERVAL)

    async def commit(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - a shutdown has less time
        """Commit what is done, changed or not, unless this process may not be a member any more.

        The commit is sent as the member of this generation and proves that it still is one. One that was expelled is
        given a new identity before its listener hears of it, and without any a group that became empty accepts
        everything (measured: it rewound the group).
        """
        await self._commit(timeout or self._timeout, everything=True)

    async def _commit(self, timeout: float, *, everything: bool) -> None:  # noqa: ASYNC109 - the caller's bound
        now = asyncio.get_running_loop().time()
        self._planned_at, self._pause = now, _RETRY
        if not self._may_send():
            self._tried_at = now
            return
        started_at = self._membership.now()
        self._changed = False
        plan = self._ledger.commit_plan(self._positions)
        pause = max(_INTERVAL, (self._membership.now() - started_at) / _PLANNING_SHARE)
        if not everything:
            plan = {partition: at for partition, at in plan.items() if self._committed.get(partition) != at}
        if not plan:
            self._pause = pause
            return
        self._tried_at = now
        self._ledger.sending(plan)
        try:
            async with asyncio.timeout(timeout):
                await self._consumer.commit(
                    {TopicPartition(self._topic, partition): at for partition, at in plan.items()}
                )
        except (KafkaError, TimeoutError) as error:
            self._metrics.commit_failures.inc()
            _log.warning("commit.failed", error=repr(error))
            self.failure = str(error) or type(error).__name__
            self._changed = True
            if isinstance(error, OffsetMetadataTooLargeError):
                self._ledger.shrink_maps()
            elif isinstance(error, CommitFailedError) and not isinstance(error.__cause__, RebalanceInProgressError):
                self._membership.expel()
            return
        self.failure = None
        self._pause = pause
        if self.member() != self._member:
            return  # It may have been accepted from no member at all.
        self.served_at = asyncio.get_running_loop().time()
        if not self._membership.lease_remaining():
            self._leased()
        self._membership.renew(started_at)
        self._committed |= plan
        self._ledger.committed(plan)
        self._report_lag()

    def _may_send(self) -> bool:
        if not (self._membership.may_commit and self._consumer.partitions_for_topic(self._topic)):
            return False  # What was done in a topic that is gone must not count for one that is made anew.
        return self.member() == self._member  # Otherwise its listener is told right now.

    def _report_lag(self) -> None:
        for partition, (committed, _) in self._committed.items():
            try:
                end = self._consumer.highwater(TopicPartition(self._topic, partition))
            except IllegalStateError:
                return  # Revoked this very moment.
            if end is not None:
                self._metrics.consumer_lag.labels(str(partition)).set(max(0, end - committed))
