"""The consumer's owner commits what is done while it waits for records (P4: little is done again after a crash)."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from consumer.ops.metrics import Metrics
from consumer.stream.committer import Committer
from consumer.stream.ledger import Ledger
from consumer.stream.limits import Limits
from consumer.stream.membership import Membership
from consumer.stream.partition_starts import PartitionStarts
from consumer.stream.pending import Waiting
from consumer.stream.source import Source
from consumer.stream.start_offsets import Layout, Start
from tests.unit.stream.in_virtual_time import in_virtual_time

PLACE = TopicPartition("t", 0)


class Consumer:
    """A member of the group with one partition, whose polls and commits take the time that they are told to."""

    def __init__(self) -> None:
        self._coordinator = SimpleNamespace(member_id="member-1", generation=1, coordinator_id=1)
        self._client = SimpleNamespace(_conns={}, _get_conn=None)
        self.log: list[int] = []
        self.at = 0
        self.polls: list[float] = []
        self.commits: list[tuple[float, int]] = []
        self.commit_takes = 0.002

    def subscribe(self, _topics: list[str], *, listener: Source) -> None:
        listener.on_partitions_assigned([PLACE])

    def partitions_for_topic(self, _topic: str) -> set[int]:
        return {0}

    def pause(self, *_places: TopicPartition) -> None: ...
    def resume(self, *_places: TopicPartition) -> None: ...
    def seek(self, _place: TopicPartition, offset: int) -> None:
        self.at = offset

    def highwater(self, _place: TopicPartition) -> int:
        return len(self.log)

    async def position(self, _place: TopicPartition) -> int:
        return self.at

    async def getmany(self, *places: TopicPartition, timeout_ms: int, max_records: int) -> dict[TopicPartition, Any]:
        self.polls.append(now())
        end = now() + timeout_ms / 1000
        while not (places and self.at < len(self.log)):
            if now() >= end:
                return {}
            await asyncio.sleep(0.01)
        records = [record(offset) for offset in self.log[self.at : self.at + max_records]]
        self.at += len(records)
        return {PLACE: records}

    async def commit(self, offsets: dict[TopicPartition, tuple[int, str]]) -> None:
        at = now()
        await asyncio.sleep(self.commit_takes)
        self.commits.append((at, offsets[PLACE][0]))

    async def stop(self) -> None: ...


class Lookup:
    """Knows at once where the partition starts."""

    async def layout(self) -> Layout:
        return Layout({0: 1}, {})

    async def find(self, _partitions: Any, _layout: Layout) -> dict[int, Start]:
        return {0: Start(0, "", 0)}


class Part:
    """Whatever the owner has to tell, and nothing that happens in these tests."""

    counted = bytes_waiting = 0

    def __len__(self) -> int:
        return 0

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args, **_options: None

    async def settle(self, *_args: float, **_options: float) -> None: ...


def now() -> float:
    return asyncio.get_running_loop().time()


def record(offset: int) -> ConsumerRecord[bytes, bytes]:
    return cast("ConsumerRecord[bytes, bytes]", SimpleNamespace(partition=0, offset=offset))


class Owner:
    """The owner of a consumer whose records wait until the test says that they are done."""

    def __init__(self) -> None:
        self.consumer, metrics = Consumer(), Metrics()
        self.membership = Membership(30, now)
        self.ledger = Ledger(metrics, lambda: 0.0)
        consumer = cast("Any", self.consumer)
        self.source = Source(
            consumer,
            PartitionStarts(Lookup(), timeout=5, wall_clock=lambda: 0.0, counted=lambda _count: None),
            cast("Any", SimpleNamespace(take=lambda record, _generation: self.ledger.deliver(0, record.offset))),
            Committer(
                consumer,
                self.ledger,
                self.membership,
                topic="t",
                timeout=5,
                metrics=metrics,
                leased=lambda: None,
            ),
            queues=cast("Any", Part()),
            malformed=cast("Any", Part()),
            ledger=self.ledger,
            membership=self.membership,
            topic="t",
            limits=Limits(max_pending=100, session_timeout=30, heartbeat_interval=3, shutdown_timeout=20),
            metrics=metrics,
            share=cast("Any", Part()),
            connections=cast("Any", Part()),
        )

    def done(self, offset: int) -> None:
        self.ledger.done(1, Waiting(0, offset, "contract.1#update", 0.0, 0.0, is_request=False), "synced")

    def committed_at(self, offset: int) -> float:
        """Return when the first commit of this offset, or of a later one, was sent."""
        return next(at for at, committed in self.consumer.commits if committed >= offset)


def owning(test: Callable[[Owner], Awaitable[None]]) -> Callable[[], None]:
    """Run a test beside an owner that has read ten records and has its lease."""

    @in_virtual_time
    async def run() -> None:
        owner = Owner()
        owner.consumer.log = list(range(10))
        running = asyncio.create_task(owner.source.run())
        await asyncio.sleep(2)
        assert (owner.consumer.at, owner.membership.lease_remaining() > 0) == (10, True)
        await test(owner)
        owner.source.stop()
        await running

    run.__doc__ = test.__doc__
    return run


@owning
async def test_what_is_done_in_the_midst_of_a_poll_is_committed_at_once(owner: Owner) -> None:
    for offset in range(3):
        await asyncio.sleep(0.37)
        at = now()
        owner.done(offset)
        await asyncio.sleep(0.05)
        assert owner.committed_at(offset + 1) == pytest.approx(at, abs=0.001)


@owning
async def test_a_commit_does_not_end_the_poll_beside_it(owner: Owner) -> None:
    await asyncio.sleep(1)
    before = len(owner.consumer.polls)
    for offset in range(10):
        owner.done(offset)
        await asyncio.sleep(0.1)
    assert len(owner.consumer.polls) - before <= 5, "a poll lasts a quarter of a second"
    assert owner.committed_at(10) <= now()


@owning
async def test_while_nothing_happens_it_wakes_up_for_polls_and_renewals_only(owner: Owner) -> None:
    polls, commits = len(owner.consumer.polls), len(owner.consumer.commits)
    await asyncio.sleep(30)
    assert len(owner.consumer.polls) - polls <= 30 / 0.25 + 1
    assert len(owner.consumer.commits) - commits <= 30 / 3 + 1


@owning
async def test_it_is_read_on_while_commits_are_slow(owner: Owner) -> None:
    owner.consumer.commit_takes = 1.0
    for offset in range(5):
        owner.done(offset)
        owner.consumer.log.append(len(owner.consumer.log))
        await asyncio.sleep(1)
    assert owner.consumer.at >= 14
    await asyncio.sleep(2)
    assert owner.committed_at(5) < now()
