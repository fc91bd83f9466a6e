"""A commit is the proof of membership, so only the member that the assignment was made for may send one (P1, P2)."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, KafkaConnectionError

from consumer.ops.metrics import Metrics
from consumer.stream.committer import Committer
from consumer.stream.ledger import Ledger
from consumer.stream.membership import Membership
from consumer.stream.pending import Waiting
from consumer.stream.start_offsets import Start
from tests.unit.stream.in_virtual_time import in_virtual_time

SESSION = 10.0


class Consumer:
    """The part of aiokafka's consumer that commits, and its place in the group."""

    def __init__(self) -> None:
        self._coordinator = SimpleNamespace(member_id="member-1", generation=7, coordinator_id=1)
        self.commits: list[dict[TopicPartition, tuple[int, str]]] = []
        self.sent_at: list[float] = []
        self.positions = {0: 5, 1: 5}
        self.topic_exists = True
        self.takes = 0.0
        self.fails: Exception | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0, 1} if self.topic_exists else set()

    async def position(self, place: TopicPartition) -> int:
        return self.positions[place.partition]

    def highwater(self, place: TopicPartition) -> int:
        return 10

    async def commit(self, offsets: dict[TopicPartition, tuple[int, str]]) -> None:
        self.sent_at.append(asyncio.get_running_loop().time())
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
        self.planning = 0.0
        """Seconds that all plans together took."""
        self.consumer, self.membership = Consumer(), Membership(SESSION, lambda: loop.time() + self.planning)
        self.ledger = Ledger(Metrics(), lambda: 0.0)
        self.leases = 0
        self.wakes = 0
        self.woken = asyncio.Event()
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
        self.ledger.begin(1, {}, waiting={0, 1}, on_done=self.committer.note_done)
        self.committer.begin(self.committer.member(), self.wake)

    def lease(self) -> None:
        self.leases += 1

    def wake(self) -> None:
        self.wakes += 1
        self.woken.set()

    def start(self, partitions: int = 1) -> None:
        for partition in range(partitions):
            self.ledger.start(partition, 5, "")
        self.membership.start(range(partitions))
        self.committer.start({partition: Start(5, "", 10) for partition in range(partitions)})

    def read(self, offset: int) -> None:
        """Have the consumer read a record, and everything before it."""
        self.ledger.deliver(0, offset)
        self.consumer.positions[0] = offset + 1

    def do(self, offset: int) -> None:
        """Have a record be done."""
        self.ledger.done(1, Waiting(0, offset, "contract.1#update", 0.0, 0.0, is_request=False), "synced")

    async def own(self, seconds: float) -> None:
        """Do for so long what the owner does: commit when that is due, and look again when woken or in time."""
        end = asyncio.get_running_loop().time() + seconds
        while (left := end - asyncio.get_running_loop().time()) > 0:
            await self.committer.note_positions()
            await self.committer.commit_if_due()
            self.woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, 0.25, self.committer.due_in())):
                    await self.woken.wait()

    def offsets(self) -> list[dict[int, int]]:
        return [{place.partition: offset for place, (offset, _) in commit.items()} for commit in self.consumer.commits]


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


@in_virtual_time
async def test_what_is_done_is_committed_at_once() -> None:
    bench = Bench()
    bench.start()
    await bench.committer.commit()
    bench.read(5)
    await bench.own(1)
    assert len(bench.consumer.commits) == 1, "it was read, and is not done"
    bench.do(5)
    assert bench.wakes == 1
    assert bench.committer.due_in() == 0
    await bench.committer.commit_if_due()
    assert bench.offsets()[-1] == {0: 6}


@in_virtual_time
async def test_under_load_it_commits_ten_times_a_second_and_wakes_its_owner_once_per_commit() -> None:
    bench = Bench()
    bench.start()
    await bench.committer.commit()
    before = bench.wakes

    async def work() -> None:
        for offset in range(5, 5 + 2000):
            bench.read(offset)
            bench.do(offset)
            await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work())
        tasks.create_task(bench.own(2))
    gaps = [later - earlier for earlier, later in itertools.pairwise(bench.consumer.sent_at)]
    assert min(gaps) >= 0.099
    assert max(gaps) <= 0.11
    assert bench.wakes - before <= len(gaps) + 1


@in_virtual_time
async def test_a_slow_commit_is_followed_by_the_next_as_soon_as_it_returns() -> None:
    bench = Bench()
    bench.start()
    await bench.committer.commit()
    bench.consumer.takes = 0.4
    for offset in (5, 6, 7):
        bench.read(offset)
    bench.do(5)
    await asyncio.sleep(0.1)

    async def finish_more() -> None:
        await asyncio.sleep(0.2)
        bench.do(6)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(bench.own(1))
        tasks.create_task(finish_more())
    assert bench.offsets() == [{0: 5}, {0: 6}, {0: 7}]
    assert round(bench.consumer.sent_at[2] - bench.consumer.sent_at[1], 2) == 0.4


@in_virtual_time
async def test_only_the_partitions_in_which_something_is_done_are_committed_until_the_lease_is_renewed() -> None:
    bench = Bench()
    bench.start(partitions=2)
    await bench.committer.commit()
    bench.read(5)
    bench.do(5)
    await bench.own(0.5)
    assert bench.offsets() == [{0: 5, 1: 5}, {0: 6}]
    assert bench.committer.progress()["1"]["committed"] == 5
    await bench.own(SESSION)
    assert {0: 6, 1: 5} in bench.offsets()


@in_virtual_time
async def test_without_work_it_commits_only_to_renew_the_lease() -> None:
    bench = Bench()
    bench.start()
    await bench.committer.commit()
    await bench.own(60)
    gaps = {round(later - earlier, 1) for earlier, later in itertools.pairwise(bench.consumer.sent_at)}
    assert gaps == {round(bench.membership.lease_duration / 3, 1)}
    assert bench.membership.lease_remaining() > 0
    assert bench.wakes == 0


@in_virtual_time
async def test_a_commit_that_failed_is_not_repeated_within_a_second() -> None:
    bench = Bench()
    bench.start()
    await bench.committer.commit()
    bench.consumer.fails = KafkaConnectionError("gone")
    bench.read(5)
    bench.do(5)
    await bench.own(3)
    assert len(bench.consumer.sent_at) <= 1 + 4
    bench.consumer.fails = None
    await bench.own(1)
    assert bench.offsets()[-1] == {0: 6}


@in_virtual_time
async def test_a_commit_that_may_not_be_sent_keeps_nobody_busy() -> None:
    bench = Bench()
    bench.start()
    await bench.committer.commit()
    bench.read(5)
    bench.do(5)
    bench.consumer.topic_exists = False
    await asyncio.sleep(0.1)
    await bench.committer.commit_if_due()
    assert bench.committer.due_in() > 0.5
    bench.consumer.expelled()
    await asyncio.sleep(1)
    await bench.committer.commit_if_due()
    assert bench.committer.due_in() > 0.5
    assert len(bench.consumer.commits) == 1


@in_virtual_time
async def test_records_that_are_passed_without_work_are_committed_soon() -> None:
    bench = Bench()
    bench.start()
    await bench.committer.commit()
    bench.consumer.positions[0] = 9  # transaction markers, or a compacted log
    await bench.own(0.3)
    assert bench.offsets()[-1] == {0: 9}


@in_virtual_time
async def test_plans_that_take_long_are_made_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    plan = bench.ledger.commit_plan

    def slow_plan(positions: Mapping[int, int]) -> dict[int, tuple[int, str]]:
        bench.planning += 0.02
        return plan(positions)

    monkeypatch.setattr(bench.ledger, "commit_plan", slow_plan)
    bench.start()
    await bench.committer.commit()
    for offset in range(5, 8):
        bench.read(offset)
        bench.do(offset)
        await bench.own(0.5)
    assert [round(at, 1) for at in bench.consumer.sent_at] == [0.0, 0.4, 0.8, 1.2]
