"""Partitions start one by one: what hangs or fails delays only itself (P5)."""

import asyncio
from collections.abc import Iterable

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from consumer.kafka import Committed
from consumer.stream.partition_starts import PartitionStarts
from consumer.stream.start_offsets import Layout, Start
from tests.unit.stream.in_virtual_time import in_virtual_time

TIMEOUT = 2.0


class Cluster:
    """Partitions 0 and 1 are led by node 1, partitions 2 and 3 by node 2."""

    def __init__(self) -> None:
        self.leaders = {0: 1, 1: 1, 2: 2, 3: 2}
        self.hanging: set[int] = set()
        self.failing: set[int] = set()
        self.away = False
        self.asked: list[set[int]] = []
        self.counted: list[int] = []
        self.started: dict[int, float] = {}
        loop = asyncio.get_running_loop()
        self.starts = PartitionStarts(self, timeout=TIMEOUT, wall_clock=loop.time, counted=self.counted.append)

    async def layout(self) -> Layout:
        if self.away:
            raise KafkaConnectionError("nobody there")
        return Layout(dict(self.leaders), {0: Committed(5, "")})

    async def find(self, partitions: Iterable[int], layout: Layout) -> dict[int, Start]:
        wanted = set(partitions)
        self.asked.append(wanted)
        if wanted & self.failing:
            raise KafkaTimeoutError
        if wanted & self.hanging:
            await asyncio.sleep(3600)
        return {partition: Start(partition, "", 10) for partition in wanted}

    def begin(self, *partitions: int) -> None:
        self.starts.begin(partitions or tuple(self.leaders), self.take)

    def take(self) -> None:
        now = asyncio.get_running_loop().time()
        self.started |= dict.fromkeys(self.starts.take(), now)


@in_virtual_time
async def test_all_partitions_start_with_one_question_to_each_leader() -> None:
    cluster = Cluster()
    cluster.begin()
    await asyncio.sleep(0.1)
    assert sorted(map(sorted, cluster.asked)) == [[0, 1], [2, 3]]
    assert cluster.started == dict.fromkeys(range(4), 0)
    assert cluster.counted == [4]
    assert cluster.starts.waiting == {}


@in_virtual_time
async def test_k4_partitions_without_a_leader_wait_and_start_when_they_have_one() -> None:
    cluster = Cluster()
    cluster.leaders |= {2: -1, 3: -1}
    cluster.begin()
    await asyncio.sleep(60)
    assert cluster.started == {0: 0, 1: 0}
    assert {partition: it.since for partition, it in cluster.starts.waiting.items()} == {2: 0, 3: 0}
    assert {it.reason for it in cluster.starts.waiting.values()} == {"it has no leader"}
    assert cluster.asked == [{0, 1}]

    cluster.leaders |= {2: 1, 3: 1}
    await asyncio.sleep(5)
    assert cluster.started.keys() == {0, 1, 2, 3}
    assert cluster.starts.waiting == {}


@pytest.mark.parametrize("how", ["hanging", "failing"])
@in_virtual_time
async def test_k4_a_leader_that_does_not_answer_delays_only_its_own_partitions(how: str) -> None:
    cluster = Cluster()
    getattr(cluster, how).update({2, 3})
    cluster.begin()
    await asyncio.sleep(60)
    assert cluster.started == {0: 0, 1: 0}
    assert cluster.starts.waiting.keys() == {2, 3}
    getattr(cluster, how).clear()
    await asyncio.sleep(8)
    assert cluster.started.keys() == {0, 1, 2, 3}


@in_virtual_time
async def test_k4_one_partition_of_a_leader_that_does_not_answer_delays_the_others_only_for_a_moment() -> None:
    cluster = Cluster()
    cluster.hanging = {2}
    cluster.begin()
    await asyncio.sleep(60)
    assert cluster.started == {0: 0, 1: 0, 3: TIMEOUT + 0.5}
    assert cluster.starts.waiting.keys() == {2}
    await cluster.starts.end()


@in_virtual_time
async def test_as_long_as_the_commits_cannot_be_read_nothing_starts() -> None:
    cluster = Cluster()
    cluster.away = True
    cluster.begin(0, 1)
    await asyncio.sleep(30)
    assert cluster.started == {}
    assert "nobody there" in cluster.starts.waiting[0].reason
    cluster.away = False
    await asyncio.sleep(5)
    assert cluster.started.keys() == {0, 1}


@in_virtual_time
async def test_a_topic_that_is_gone_is_told_and_counted_as_nothing() -> None:
    cluster = Cluster()
    cluster.leaders.clear()
    cluster.begin(0)
    await asyncio.sleep(1)
    assert cluster.starts.waiting[0].reason == "the topic does not exist"
    await cluster.starts.end()


@in_virtual_time
async def test_an_assignment_that_ended_starts_nothing() -> None:
    cluster = Cluster()
    cluster.hanging = {2}
    cluster.begin()
    await asyncio.sleep(0.1)
    await cluster.starts.end()
    cluster.hanging.clear()
    await asyncio.sleep(60)
    assert cluster.started.keys() == {0, 1}
    assert (cluster.starts.take(), cluster.starts.waiting) == ({}, {})


@in_virtual_time
async def test_an_error_that_nobody_expected_is_not_kept_quiet() -> None:
    cluster = Cluster()

    async def layout() -> Layout:
        raise ZeroDivisionError

    cluster.layout = layout  # type: ignore[method-assign]
    cluster.begin()
    await asyncio.sleep(1)
    with pytest.raises(ZeroDivisionError):
        cluster.starts.take()


@in_virtual_time
async def test_what_was_found_and_not_taken_before_the_end_counts_for_nothing() -> None:
    cluster = Cluster()
    cluster.hanging = {2}
    found: list[None] = []
    cluster.starts.begin([0, 2], lambda: found.append(None))
    await asyncio.sleep(30)
    assert found
    assert cluster.starts.waiting
    await cluster.starts.end()
    assert (cluster.starts.take(), cluster.starts.waiting) == ({}, {})
