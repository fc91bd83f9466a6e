"""What a commit holds, what a failed one leads to, and what it tells; `test_committer.py` has when it is sent."""

import asyncio
import random
from typing import Any, cast

import pytest
from aiokafka.errors import (
    CommitFailedError,
    KafkaConnectionError,
    OffsetMetadataTooLargeError,
    RebalanceInProgressError,
)

from consumer.ops.metrics import Metrics
from consumer.stream import offset_map
from consumer.stream.committer import Committer
from consumer.stream.ledger import Ledger
from consumer.stream.membership import Membership
from consumer.stream.pending import Waiting
from consumer.stream.start_offsets import Start
from tests.unit.stream.fake_group import TOPIC, FakeConsumer
from tests.unit.stream.in_virtual_time import in_virtual_time

SESSION = 30.0
TIMEOUT = 2.0


class Bench:
    """A committer of one started partition, with three records of which the test completes some."""

    def __init__(self) -> None:
        loop, self.metrics = asyncio.get_running_loop(), Metrics()
        self.consumer = FakeConsumer()
        self.consumer._assigned, self.consumer._positions = {0}, {0: 13}
        self.consumer.produce(0, *"abcdefghijklm")
        self.membership = Membership(SESSION, loop.time)
        self.ledger = Ledger(self.metrics, lambda: 0.0)
        self.leases = 0
        self.committer = Committer(
            cast("Any", self.consumer),
            self.ledger,
            self.membership,
            topic=TOPIC,
            timeout=TIMEOUT,
            metrics=self.metrics,
            leased=self.lease,
        )
        self.generation = 0
        self.begin(10, "")

    def begin(self, offset: int, metadata: str) -> None:
        """Begin a generation in which the partition starts there, and read the rest of it."""
        self.generation += 1
        self.membership.join()
        self.ledger.begin(self.generation, {}, waiting={0}, on_done=self.committer.note_done)
        self.committer.begin(self.committer.member(), lambda: None)
        self.ledger.start(0, offset, metadata)
        self.membership.start({0})
        self.committer.start({0: Start(offset, metadata, 13)})
        self.open = [one for one in range(offset, 13) if self.ledger.deliver(0, one)]

    def lease(self) -> None:
        self.leases += 1

    def do(self, *offsets: int) -> None:
        for offset in offsets:
            event = Waiting(0, offset, "contract.1#update", 0.0, 0.0, is_request=False)
            self.ledger.done(self.generation, event, "synced")

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"sesamy_mailmojo_{name}", labels)


@in_virtual_time
async def test_p4_a_commit_holds_the_offset_and_what_is_done_above_it() -> None:
    bench = Bench()
    bench.do(12)
    await bench.committer.commit()
    (commit,) = bench.consumer.commits
    assert commit == {0: (10, offset_map.encode(10, [12]))}


@in_virtual_time
async def test_a_commit_whose_answer_was_lost_is_known_to_the_next_generation() -> None:
    bench = Bench()
    bench.do(10, 12)
    bench.consumer.commit_fails = KafkaConnectionError("the answer is lost")
    await bench.committer.commit()
    bench.begin(11, "")  # it was stored, without the metadata that a mirror dropped
    assert bench.open == [11]


@in_virtual_time
async def test_a_commit_that_was_stored_is_known_to_the_check_of_commits() -> None:
    bench = Bench()
    bench.do(10, 11)
    await bench.committer.commit()
    assert bench.metric("committed_offset", partition="0") == 12
    assert bench.metric("commit_violations_total") == 0


@in_virtual_time
async def test_the_lag_is_what_lies_behind_the_commit_and_goes_with_the_generation() -> None:
    bench = Bench()
    assert bench.metric("consumer_lag", partition="0") == 3
    bench.do(10)
    await bench.committer.commit()
    assert bench.metric("consumer_lag", partition="0") == 2
    bench.committer.end()
    assert bench.metric("consumer_lag", partition="0") is None
    assert bench.metric("committed_offset", partition="0") is None
    assert bench.committer.progress() == {}


@in_virtual_time
async def test_a_broker_that_takes_less_metadata_gets_less() -> None:
    bench = Bench()
    bench.consumer.produce(0, *(str(number) for number in range(4000)))
    rng = random.Random(7)
    for offset in range(13, 4013):
        bench.ledger.deliver(0, offset)
        if rng.random() < 0.5:
            bench.do(offset)
    await bench.committer.commit()
    before = len(bench.consumer.commits[-1][0][1])
    bench.consumer.commit_fails = OffsetMetadataTooLargeError()
    for _ in range(5):
        await bench.committer.commit()
    bench.consumer.commit_fails = None
    await bench.committer.commit()
    assert 0 < len(bench.consumer.commits[-1][0][1]) <= offset_map.BOUND / 2**5 < before


@in_virtual_time
async def test_a_commit_that_is_not_answered_in_time_is_a_failed_one() -> None:
    bench = Bench()
    bench.consumer.commit_takes = 3600
    began = asyncio.get_running_loop().time()
    await bench.committer.commit()
    assert asyncio.get_running_loop().time() - began == TIMEOUT
    await bench.committer.commit(0.5)
    assert asyncio.get_running_loop().time() - began == TIMEOUT + 0.5
    assert bench.committer.failure == "TimeoutError"
    assert bench.metric("commit_failures_total") == 2
    assert bench.membership.lease_remaining() == 0


@in_virtual_time
async def test_a_commit_that_takes_long_gives_a_lease_from_its_beginning() -> None:
    bench = Bench()
    bench.consumer.commit_takes = 1.5
    await bench.committer.commit()
    assert bench.membership.lease_remaining() == bench.membership.lease_duration - 1.5


@in_virtual_time
async def test_a_failed_commit_renews_nothing() -> None:
    bench = Bench()
    await bench.committer.commit()
    await asyncio.sleep(4)
    bench.consumer.commit_fails = KafkaConnectionError("gone")
    await bench.committer.commit()
    assert bench.membership.lease_remaining() == bench.membership.lease_duration - 4


@pytest.mark.parametrize(("cause", "lapsed"), [(RebalanceInProgressError(), False), (None, True)])
def test_only_a_member_that_the_broker_does_not_know_is_expelled(cause: Exception | None, lapsed: bool) -> None:
    @in_virtual_time
    async def test() -> None:
        bench = Bench()
        await bench.committer.commit()
        bench.consumer.commit_fails = CommitFailedError()
        bench.consumer.commit_fails.__cause__ = cause
        await bench.committer.commit()
        assert bench.membership.lapsed is lapsed
        assert bench.membership.may_work(bench.membership.generation) is not lapsed

    test()


@in_virtual_time
async def test_nothing_is_committed_once_the_lease_has_run_out() -> None:
    bench = Bench()
    await bench.committer.commit()
    bench.do(10)
    await asyncio.sleep(bench.membership.lease_duration)
    await bench.committer.commit()
    assert len(bench.consumer.commits) == 1


@in_virtual_time
async def test_only_the_first_commit_of_a_generation_says_that_there_is_a_lease() -> None:
    bench = Bench()
    for _ in range(3):
        await bench.committer.commit()
        await asyncio.sleep(1)
    assert bench.leases == 1
    bench.begin(10, "")
    await bench.committer.commit()
    assert bench.leases == 2


@in_virtual_time
async def test_a_partition_that_is_revoked_in_the_midst_of_it_changes_nothing() -> None:
    bench = Bench()
    await bench.committer.commit()
    bench.consumer._assigned = set()
    await bench.committer.note_positions()
    assert bench.committer.progress() == {"0": {"position": 10, "committed": 10}}
    bench.committer._report_lag()
    assert bench.metric("consumer_lag", partition="0") == 3


@in_virtual_time
async def test_the_coordinator_that_nobody_knows_is_no_member() -> None:
    bench = Bench()
    bench.consumer._coordinator = None
    assert bench.committer.member() is None
    await bench.committer.commit()
    assert bench.consumer.commits == []
    bench.membership.leave()
    served_at = bench.committer.served_at
    await asyncio.sleep(5)
    await bench.committer.commit_if_due()
    assert bench.committer.served_at == served_at
