from typing import cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from consumer.kafka import Committed
from consumer.ops.metrics import Metrics
from consumer.stream.start_offsets import Layout, LogEndBehind, Reset, Start, StartOffsets, decide


@pytest.mark.parametrize(
    ("reset", "new", "offset"),
    [
        ("earliest", True, 5),
        ("latest", True, 90),
        ("earliest", False, 5),
        ("latest", False, 5),
    ],
)
def test_without_a_commit(reset: Reset, new: bool, offset: int) -> None:
    assert decide(None, first=5, end=90, group_is_new=new, reset=reset) == Start(offset, None, 90)


@pytest.mark.parametrize(
    ("committed", "start"),
    [
        (5, Start(5, "map", 90)),
        (60, Start(60, "map", 90)),
        (90, Start(90, "map", 90)),
        (2, Start(5, None, 90, lost=3)),
        (91, Start(5, None, 90)),
    ],
)
@pytest.mark.parametrize("reset", ["earliest", "latest"])
def test_with_a_commit(committed: int, start: Start, reset: Reset) -> None:
    assert decide(Committed(committed, "map"), first=5, end=90, group_is_new=False, reset=reset) == start


class Log:
    """A partition's log as a consumer tells of it."""

    def __init__(self, first: int, end: int) -> None:
        self.first, self.end = first, end

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.first)

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.end)


class Starts(StartOffsets):
    """Those of one partition."""

    async def found(self) -> dict[int, Start]:
        return await self.find([0], await self.layout())


def starts_of(log: Log, committed: int, now: list[float], metrics: Metrics) -> Starts:
    async def layout() -> Layout:
        return Layout({0: 1}, {0: Committed(committed, "map")})

    return Starts(
        cast("AIOKafkaConsumer", log), layout, topic="t", reset="earliest", metrics=metrics, clock=lambda: now[0]
    )


async def test_records_lost_are_counted() -> None:
    metrics = Metrics()
    assert await starts_of(Log(10, 90), 4, [0.0], metrics).found() == {0: Start(10, None, 90, lost=6)}
    assert metrics.registry.get_sample_value("sesamy_mailmojo_records_lost_total") == 6


async def test_a_log_that_ends_below_the_commit_is_believed_only_when_that_lasts() -> None:
    log, now = Log(0, 50), [100.0]
    starts = starts_of(log, 60, now, Metrics())
    with pytest.raises(LogEndBehind):
        await starts.found()
    log.end = 70
    assert await starts.found() == {0: Start(60, "map", 70)}
    log.end = 50
    for now[0] in (200.0, 204.0):
        with pytest.raises(LogEndBehind):
            await starts.found()
    now[0] = 206.0
    assert await starts.found() == {0: Start(0, None, 50)}
