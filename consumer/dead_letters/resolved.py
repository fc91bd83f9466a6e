"""Which dead letters are resolved: republished or dismissed, remembered by Kafka itself.

Two consumer groups of their own hold it as the service holds what is done: the commit is the first letter without the
mark, and its metadata names those above it that have it (`stream/offset_map.py`). The dead-letter topic stays as it
is. Brokers drop a group's commits after `offsets.retention.minutes`, a week by default, and a map holds some thousands
of letters; a forgotten letter is listed again. Republishing it again does no harm: a sync writes the state of now.
"""

from collections.abc import Collection, Mapping

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata
from msgspec import Struct

from consumer import kafka
from consumer.dead_letters.stored import Place
from consumer.settings import Settings
from consumer.stream.offset_map import SPAN, UnreadableMap, decode, encode


class Marks(Struct, frozen=True):
    """What one group remembers, by partition: the commit, and the marked offsets above it."""

    commits: Mapping[int, int] = {}
    above: Mapping[int, frozenset[int]] = {}

    def __contains__(self, place: Place) -> bool:
        """Tell whether the letter there has the mark."""
        partition, offset = place
        return offset < self.commits.get(partition, 0) or offset in self.above.get(partition, ())


class Resolved(Struct, frozen=True):
    """Letters that were republished, and letters that were dismissed."""

    republished: Marks = Marks()
    dismissed: Marks = Marks()

    def __contains__(self, place: Place) -> bool:
        """Tell whether nothing is left to do about the letter there."""
        return place in self.republished or place in self.dismissed


def republished_group(settings: Settings) -> str:
    """Return the name of the group that remembers what was republished."""
    return f"{settings.kafka.group_id}.dead-letters"


def dismissed_group(settings: Settings) -> str:
    """Return the name of the group that remembers what was dismissed."""
    return f"{settings.kafka.group_id}.dead-letters.dismissed"


async def load(settings: Settings) -> Resolved:
    """Return what is remembered. Raises `Failure` when Kafka cannot tell."""
    async with kafka.admin(settings.kafka) as admin:
        return Resolved(
            await _marks(admin, republished_group(settings), settings.kafka.dead_letter_topic),
            await _marks(admin, dismissed_group(settings), settings.kafka.dead_letter_topic),
        )


def commits(
    settings: Settings, unmarked: Mapping[int, Collection[int]], ends: Mapping[int, int]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """Return what a group must hold so that of all letters below the ends these alone have no mark."""
    found = {}
    for partition, end in ends.items():
        still = unmarked.get(partition, ())
        first = min(still, default=end)
        marked = (offset for offset in range(first + 1, min(end, first + 1 + SPAN)) if offset not in still)
        found[TopicPartition(settings.kafka.dead_letter_topic, partition)] = OffsetAndMetadata(
            first, encode(first, marked)
        )
    return found


async def _marks(admin: AIOKafkaAdminClient, group: str, topic: str) -> Marks:
    found = await kafka.group_offsets(admin, group, topic)
    above = {}
    for partition, commit in found.items():
        try:
            above[partition] = decode(commit.metadata, commit.offset)
        except UnreadableMap:
            continue
    return Marks({partition: commit.offset for partition, commit in found.items()}, above)
