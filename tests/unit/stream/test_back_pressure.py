"""Partitions are paused while too much waits, each for its own reason, and resumed well below the bound (P7)."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from consumer.stream.back_pressure import BackPressure
from consumer.stream.offset_map import SPAN
from tests.unit.stream.fake_group import FakeConsumer, place

PLACES = [place(0), place(1)]
MEBIBYTE = 1024 * 1024


class Bench:
    """Back-pressure over a fake consumer, and counts that the test sets."""

    def __init__(self) -> None:
        self.consumer = FakeConsumer()
        self.consumer._assigned = {0, 1}
        self.queues = SimpleNamespace(counted=0)
        self.malformed = Malformed()
        self.spans = {0: 0, 1: 0}
        self.pressure = BackPressure(
            cast("Any", self.consumer),
            cast("Any", self.queues),
            cast("Any", self.malformed),
            cast("Any", SimpleNamespace(span=self.spans.__getitem__)),
            max_pending=100,
        )

    def paused_with(self, waiting: int) -> set[int]:
        self.queues.counted = waiting
        self.pressure.apply(PLACES)
        return set(self.consumer.paused)


class Malformed:
    """Malformed records that are not stored yet."""

    def __init__(self) -> None:
        self.count = self.bytes_waiting = 0

    def __len__(self) -> int:
        return self.count


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_everything_is_paused_at_the_bound_and_resumed_well_below_it(bench: Bench) -> None:
    assert [bench.paused_with(waiting) for waiting in (99, 100, 250, 99, 71, 70, 99, 100)] == [
        set(), {0, 1}, {0, 1}, {0, 1}, {0, 1}, set(), set(), {0, 1},
    ]  # fmt: skip


def test_malformed_records_count_as_waiting_and_by_their_bytes(bench: Bench) -> None:
    bench.malformed.count = 1
    assert bench.paused_with(99) == {0, 1}
    bench.malformed.count = 0
    assert bench.paused_with(0) == set()
    bench.malformed.bytes_waiting = 17 * MEBIBYTE
    assert bench.paused_with(0) == {0, 1}
    bench.malformed.bytes_waiting = 15 * MEBIBYTE
    assert bench.paused_with(0) == set()


def test_a_partition_whose_open_record_holds_back_too_many_is_paused_alone(bench: Bench) -> None:
    bench.spans[1] = SPAN
    assert bench.paused_with(0) == {1}
    bench.spans[1] = int(SPAN * 0.7) + 1
    assert bench.paused_with(0) == {1}
    bench.spans[1] = int(SPAN * 0.7)
    assert bench.paused_with(0) == set()


def test_a_rebalance_forgets_pauses_so_they_are_made_again(bench: Bench) -> None:
    bench.paused_with(100)
    bench.consumer.paused = set()
    bench.pressure.begin()
    assert bench.paused_with(100) == {0, 1}


def test_one_more_record_may_always_be_read(bench: Bench) -> None:
    rooms = []
    for waiting in (0, 40, 99, 100, 500):
        bench.queues.counted = waiting
        rooms.append(bench.pressure.room())
    assert rooms == [100, 60, 1, 1, 1]
