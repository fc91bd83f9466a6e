"""A commit is the proof of membership, so only the member that the assignment was made for may send one (P1, P2)."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, KafkaConnectionError

from consumer.ops.metrics import Metrics
from consumer.stream.committer import Committer
from consumer.stream.ledger import Ledger
from consumer.stream.membership import Membership
from consumer.stream.start_offsets import Start
from tests.unit.stream.in_virtual_time import in_virtual_time

SESSION = 10.0


class Consumer:
    """The part of aiokafka's consumer that commits, and its place in the group."""

    def __init__(self) -> None:
        self._coordinator = SimpleNamespace(member_id="member-1", generation=7, coordinator_id=1)
        self.commits: list[dict[TopicPartition, tuple[int, str]]] = []
        self.takes = 0.0
        self.fails: Exception | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0}

    def highwater(self, place: TopicPartition) -> int:
        return 10

    async def commit(self, offsets: dict[TopicPartition, tuple[int, str]]) -> None:
        await asyncio.sleep(self.takes)
        if self.fails:
            raise self.fails
        self.commits.append(offsets)
        self.meanwhile()

    def expelled(self) -> None:
        """As aiokafka does, before its listener is told."""
        self._coordinator.member_id, self._coordinator.generation = "", -1


class Bench:
    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.consumer, self.membership = Consumer(), Membership(SESSION, loop.time)
        self.ledger = Ledger(Metrics(), lambda: 0.0)
        self.leases = 0
        self.committer = Committer(
            cast("Any", self.consumer),
            self.ledger,
            self.membership,
            topic="t",
            timeout=2,
            metrics=Metrics(),
            leased=self.lease,
        )
        self.membership.join()
        self.ledger.begin(1, {}, waiting={0})
        self.committer.begin(self.committer.member())

    def lease(self) -> None:
        self.leases += 1

    def start(self) -> None:
        self.ledger.start(0, 5, "")
        self.membership.start({0})
        self.committer.start({0: Start(5, "", 10)})


@in_virtual_time
async def test_the_first_commit_gives_the_lease() -> None:
    bench = Bench()
    bench.start()
    assert bench.membership.lease_remaining() == 0
    await bench.committer.commit()
    assert bench.leases == 1
    assert bench.membership.lease_remaining() > 0


@in_virtual_time
async def test_a_member_that_was_expelled_commits_nothing() -> None:
    bench = Bench()
    bench.start()
    bench.consumer.expelled()
    await bench.committer.commit()
    assert bench.consumer.commits == []
    assert bench.membership.lease_remaining() == 0


@in_virtual_time
async def test_a_commit_that_was_accepted_from_nobody_gives_no_lease() -> None:
    bench = Bench()
    bench.start()
    bench.consumer.meanwhile = bench.consumer.expelled
    await bench.committer.commit()
    assert len(bench.consumer.commits) == 1
    assert bench.leases == 0
    assert bench.membership.lease_remaining() == 0


@in_virtual_time
async def test_k11_the_lease_stays_valid_while_something_is_drained() -> None:
    bench = Bench()
    bench.start()
    await bench.committer.commit()
    async with bench.committer.renewing():
        await asyncio.sleep(6 * SESSION)
    assert bench.membership.may_commit
    assert bench.membership.lease_remaining() > 0
    count = len(bench.consumer.commits)
    await asyncio.sleep(SESSION)
    assert len(bench.consumer.commits) == count, "it ends with the block"


@in_virtual_time
async def test_k11_a_renewal_that_hangs_delays_the_end_of_the_block_by_nothing() -> None:
    bench = Bench()
    bench.start()
    await bench.committer.commit()
    bench.consumer.takes = 3600
    began = asyncio.get_running_loop().time()
    async with bench.committer.renewing():
        await asyncio.sleep(3)
    assert asyncio.get_running_loop().time() - began == 3


@in_virtual_time
async def test_p9_what_proves_that_kafka_serves_a_member() -> None:
    bench, loop = Bench(), asyncio.get_running_loop()
    await asyncio.sleep(5)
    await bench.committer.commit_if_due()
    assert bench.committer.served_at == 5, "without a partition: the coordinator is known"
    bench.consumer._coordinator.coordinator_id = None
    await asyncio.sleep(5)
    await bench.committer.commit_if_due()
    assert bench.committer.served_at == 5
    bench.start()
    await asyncio.sleep(1)
    bench.consumer.fails = KafkaConnectionError("gone")
    await bench.committer.commit()
    assert (bench.committer.served_at, bench.committer.failure) == (5, "KafkaConnectionError: gone")
    bench.consumer.fails = None
    await bench.committer.commit()
    assert (bench.committer.served_at, bench.committer.failure) == (loop.time(), None)


@in_virtual_time
async def test_the_brokers_word_that_it_is_no_member_ends_the_lease() -> None:
    bench = Bench()
    bench.start()
    await bench.committer.commit()
    bench.consumer.fails = CommitFailedError()
    await bench.committer.commit()
    assert bench.membership.lapsed
