"""Which dead letters were put back already, remembered by Kafka itself.

A consumer group of its own, `<KAFKA_GROUP_ID>.dead-letters`, holds it as the service holds what is done: the commit is
the first letter that was not put back, and its metadata names those above it that were (`stream/offset_map.py`). The
topic of dead letters stays as it is. What is forgotten (brokers drop a group's commits after
`offsets.retention.minutes`, a week by default, and a map holds some thousands of letters) is listed again, and put
back again when asked to: that does no harm, since a sync writes what is true now.
"""

from collections.abc import Collection, Mapping

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata
from msgspec import Struct

from consumer import kafka
from consumer.dead_letters.stored import Place
from consumer.settings import Settings
from consumer.stream.offset_map import SPAN, UnreadableMap, decode, encode


class Retried(Struct, frozen=True):
    """What the group remembers, by partition: the commit, and what is done above it."""

    commits: Mapping[int, int]
    above: Mapping[int, frozenset[int]]

    def __contains__(self, place: Place) -> bool:
        """Tell whether the letter there was put back."""
        partition, offset = place
        return offset < self.commits.get(partition, 0) or offset in self.above.get(partition, ())


def group_of(settings: Settings) -> str:
    """Return the group's name."""
    return f"{settings.kafka.group_id}.dead-letters"


async def load(settings: Settings) -> Retried:
    """Return what is remembered. Raises `Failure` when Kafka cannot tell."""
    async with kafka.admin(settings.kafka) as admin:
        found = await kafka.group_offsets(admin, group_of(settings), settings.kafka.dead_letter_topic)
    above = {}
    for partition, commit in found.items():
        try:
            above[partition] = decode(commit.metadata, commit.offset)
        except UnreadableMap:
            continue
    return Retried({partition: commit.offset for partition, commit in found.items()}, above)


def commits(
    settings: Settings, open_letters: Mapping[int, Collection[int]], ends: Mapping[int, int]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """Return what the group must hold so that of all letters below the ends these alone count as not put back."""
    found = {}
    for partition, end in ends.items():
        still = open_letters.get(partition, ())
        first = min(still, default=end)
        done = (offset for offset in range(first + 1, min(end, first + 1 + SPAN)) if offset not in still)
        found[TopicPartition(settings.kafka.dead_letter_topic, partition)] = OffsetAndMetadata(
            first, encode(first, done)
        )
    return found
