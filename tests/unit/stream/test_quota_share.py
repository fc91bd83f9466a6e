"""The share of the quotas: never more than this instance's part of the partitions that there are (P6)."""

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError

from consumer.stream.quota_share import QuotaShare
from tests.unit.stream.in_virtual_time import in_virtual_time

HANGS = -1


class Topic:
    """Counts what it is told to count, and keeps the shares that were announced."""

    def __init__(self) -> None:
        self.partitions, self.known = 4, 4
        self.shares: list[float] = []
        self.share = QuotaShare(self.count, self.shares.append, timeout=2)

    async def count(self) -> int:
        if self.partitions == HANGS:
            await asyncio.sleep(3600)
        if not self.partitions:
            raise KafkaConnectionError
        return self.partitions

    def assign(self, *partitions: int) -> None:
        self.share.assign(frozenset(partitions), lambda: self.known)


@pytest.fixture
def topic() -> Topic:
    return Topic()


def test_an_assignment_has_no_share_before_the_partitions_were_counted(topic: Topic) -> None:
    topic.assign(0, 1)
    assert topic.shares == []
    topic.share.counted(4)
    assert topic.shares == [0.5]
    topic.share.counted(4)
    assert topic.shares == [0.5], "nothing is announced twice: each time begins without a burst"


def test_a_revoked_assignment_has_no_share(topic: Topic) -> None:
    topic.assign(0, 1)
    topic.share.counted(4)
    topic.share.release()
    topic.share.counted(4)
    assert topic.shares == [0.5, 0]


def test_k3_a_new_count_is_taken_from_zero_at_each_assignment(topic: Topic) -> None:
    topic.known = 1  # as the metadata of a follower that lags
    topic.assign(0)
    topic.share.counted(1)
    topic.share.release()
    topic.assign(0)
    topic.share.counted(2)
    assert topic.shares == [1, 0, 0.5]


@pytest.mark.parametrize(("counted", "known", "assigned"), [(8, 4, (0,)), (4, 8, (0,)), (4, 4, (7,))])
def test_k3_the_largest_number_of_partitions_that_is_known_counts(
    topic: Topic, counted: int, known: int, assigned: tuple[int, ...]
) -> None:
    topic.known = known
    topic.assign(*assigned)
    topic.share.counted(counted)
    assert topic.shares == [1 / 8]


def test_k3_a_smaller_number_counts_when_it_is_seen_twice(topic: Topic) -> None:
    topic.known = 2
    topic.assign(0)
    topic.share.counted(4)
    topic.share.counted(2)
    assert topic.shares == [0.25]
    topic.share.counted(2)
    assert topic.shares == [0.25, 0.5]


@in_virtual_time
async def test_k3_partitions_added_later_are_counted_within_seconds() -> None:
    topic = Topic()
    topic.assign(0, 1)
    topic.share.counted(4)
    running = asyncio.create_task(topic.share.run())
    topic.partitions = 8
    await asyncio.sleep(6)
    assert topic.shares == [0.5, 0.25]
    running.cancel()


@in_virtual_time
async def test_a_count_that_fails_or_hangs_changes_nothing_and_is_tried_again() -> None:
    topic = Topic()
    topic.assign(0, 1)
    topic.share.counted(4)
    running = asyncio.create_task(topic.share.run())
    for topic.partitions in (HANGS, 0):
        await asyncio.sleep(20)
    assert topic.shares == [0.5]
    topic.partitions = 8
    await asyncio.sleep(8)
    assert topic.shares == [0.5, 0.25]
    running.cancel()


@in_virtual_time
async def test_without_an_assignment_nothing_is_counted() -> None:
    topic = Topic()
    topic.partitions = 0  # a count would fail
    running = asyncio.create_task(topic.share.run())
    await asyncio.sleep(60)
    topic.partitions = 4
    topic.assign(0)
    await asyncio.sleep(10)
    running.cancel()
    await asyncio.wait([running])
    assert topic.shares == [0.25]
