"""Where a partition starts when it is assigned: our own decision, aiokafka's reset policy is `none`."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, Literal

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import Struct

from consumer.clock import Clock
from consumer.kafka import Committed
from consumer.ops.metrics import Metrics

_log = structlog.get_logger("start_offsets")

Reset = Literal["earliest", "latest"]

_BELIEVED_AFTER: Final = 5.0
"""Seconds until a log that ends below the commit is believed to have been made anew: a new leader may lag so long."""


class LogEndBehind(Exception):
    """The log ends below the group's commit. Ask again: it is the start of a new log only if that lasts."""


class Start(Struct, frozen=True):
    """Where a partition starts.

    Attributes:
        offset: the first offset to read.
        metadata: the metadata of the commit at that very offset, or None where it is no commit's.
        end: the end of the partition when it was assigned.
        lost: how many records were removed from the log before they were read.
    """

    offset: int
    metadata: str | None
    end: int
    lost: int = 0


def decide(commit: Committed | None, *, first: int, end: int, group_is_new: bool, reset: Reset) -> Start:
    """Return where to start (`docs/contract.md`, the topic: offsets).

    Args:
        commit: the group's offset and its metadata, or None without one.
        first: the log's first offset.
        end: the offset after its last record.
        group_is_new: whether the group has no commit in any partition of the topic; a partition without one in a
            group that has others was added later, and its first records must not be lost.
        reset: where a new group starts.
    """
    if commit is None:
        return Start(end if group_is_new and reset == "latest" else first, None, end)
    if commit.offset < first:
        return Start(first, None, end, lost=first - commit.offset)
    if commit.offset > end:
        # The log is shorter than what was committed: the topic was made anew, so nothing of it was read.
        return Start(first, None, end)
    return Start(commit.offset, commit.metadata or "", end)


class Layout(Struct, frozen=True):
    """What all partitions have to do with: where they are led, and what the group committed."""

    leaders: Mapping[int, int]
    """The topic's partitions with the node that leads each, -1 where there is none."""
    commits: Mapping[int, Committed]


class StartOffsets:
    """Looks up what `decide` needs to know."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        layout: Callable[[], Awaitable[Layout]],
        *,
        topic: str,
        reset: Reset,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """Look up with a started consumer; `layout` asks for the topic and the group's commits, metadata included."""
        self._consumer = consumer
        self._layout = layout
        self._topic = topic
        self._reset: Reset = reset
        self._metrics = metrics
        self._clock = clock
        self._behind_since: dict[int, float] = {}

    async def layout(self) -> Layout:
        """Return the topic's leaders and the group's commits.

        Raises:
            KafkaError, OSError, Failure: Kafka did not answer.
        """
        return await self._layout()

    async def find(self, partitions: Iterable[int], layout: Layout) -> dict[int, Start]:
        """Return where each partition starts; records that were lost are counted and logged as an error.

        Raises:
            KafkaError: a leader did not answer.
            LogEndBehind: a log is shorter than the group's commit, so far.
        """
        wanted = [TopicPartition(self._topic, partition) for partition in partitions]
        commits = layout.commits
        # Both wait behind the consumer's long poll, so they go out together.
        first, end = await asyncio.gather(self._consumer.beginning_offsets(wanted), self._consumer.end_offsets(wanted))
        self._refuse_behind({place.partition: end[place] for place in wanted}, commits)
        starts = {}
        for place in wanted:
            commit = commits.get(place.partition)
            start = decide(commit, first=first[place], end=end[place], group_is_new=not commits, reset=self._reset)
            if commit is not None and start.offset != commit.offset:
                self._metrics.records_lost.inc(start.lost)
                _log.error(
                    "offsets.out_of_range",
                    partition=place.partition,
                    committed=commit.offset,
                    log_start=first[place],
                    log_end=end[place],
                    records_lost=start.lost,
                )
            starts[place.partition] = start
        return starts

    def _refuse_behind(self, ends: Mapping[int, int], commits: Mapping[int, Committed]) -> None:
        now, doubtful = self._clock(), []
        for partition, end in ends.items():
            commit = commits.get(partition)
            if commit is None or commit.offset <= end:
                self._behind_since.pop(partition, None)
            elif now < self._behind_since.setdefault(partition, now) + _BELIEVED_AFTER:
                doubtful.append(partition)
        if doubtful:
            raise LogEndBehind(f"partitions {doubtful} end below the commit")
