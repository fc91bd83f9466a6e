"""What waits in the topic for the service: a backfill keeps some way ahead of it, and not more."""

from typing import Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from consumer import kafka
from consumer.failure import Failure
from consumer.settings import Settings
from consumer.stream.offset_map import UnreadableMap, decode

_READS: Final = 4
"""Calls at Sesamy for one user, at most; Mailmojo's two are within its quota meanwhile unless that is set very low."""


class Backlog:
    """Counts the records that the group has not done yet."""

    def __init__(self, settings: Settings, admin: AIOKafkaAdminClient, partitions: int) -> None:
        """Look with this admin client at a topic with so many partitions."""
        self._settings = settings
        self._admin = admin
        self._places = [TopicPartition(settings.kafka.topic, number) for number in range(partitions)]
        self._consumer = AIOKafkaConsumer(**kafka.reader_arguments(settings.kafka))

    async def __aenter__(self) -> Self:
        try:
            await self._consumer.start()
        except (KafkaError, OSError) as error:
            await kafka.stop(self._consumer)
            raise Failure(kafka.explain(self._settings.kafka, error)) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await kafka.stop(self._consumer)

    async def count(self) -> int:
        """Return how many records wait. Raises `Failure` when Kafka cannot tell."""
        try:
            commits = await kafka.group_offsets(self._admin, self._settings.group_id, self._settings.kafka.topic)
            starts = await self._consumer.beginning_offsets(self._places)
            ends = await self._consumer.end_offsets(self._places)
        except (KafkaError, OSError) as error:
            raise Failure(kafka.explain(self._settings.kafka, error)) from error
        waiting = 0
        for place, end in ends.items():
            commit = commits.get(place.partition)
            done = max(starts[place], commit.offset if commit else 0)
            waiting += max(0, end - done - (_above(commit) if commit else 0))
        return waiting


def seconds_of_work(settings: Settings, users: int) -> float:
    """Return how long syncs of so many users may take under the quotas, at most."""
    sesamy = users * _READS * 60 / settings.sesamy.requests_per_minute
    return max(sesamy, users * 2 / settings.mailmojo.requests_per_second)


def _above(commit: kafka.Committed) -> int:
    try:
        return len(decode(commit.metadata, commit.offset))
    except UnreadableMap:
        return 0
