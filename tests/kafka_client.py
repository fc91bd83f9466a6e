"""What tests do to a broker besides running the service against it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code
from aiokafka.structs import OffsetAndMetadata, RecordMetadata

from tests.waiting import wait_until

Record: TypeAlias = ConsumerRecord[bytes | None, bytes | None]


class Message(NamedTuple):
    """A record to produce; without a partition the key decides. aiokafka asks for a key or a value."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


class KafkaClient:
    """Short-lived clients of one broker: each call connects, does one thing and closes."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    async def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Create a topic and wait until every partition of it has a leader."""
        async with self._admin() as admin:
            response: Any = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
            _raise_first_error(response.topic_errors)
        await self._until_partitions(name, partitions)

    async def alter_topic(self, name: str, config: Mapping[str, str]) -> None:
        """Give a topic these settings, and the broker's defaults for all others."""
        async with self._admin() as admin:
            (response,) = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, dict(config))])
            answer: Any = response
            _raise_first_error((name, code, message) for code, message, *_ in answer.resources)

    async def delete_topic(self, name: str) -> None:
        async with self._admin() as admin:
            response: Any = await admin.delete_topics([name])
            _raise_first_error(response.topic_error_codes)

    async def add_partitions(self, name: str, total: int) -> None:
        """Grow a topic to `total` partitions and wait until the new ones have leaders."""
        async with self._admin() as admin:
            await admin.create_partitions({name: NewPartitions(total)})
        await self._until_partitions(name, total)

    async def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Move the start of the log: records below the offset given for each partition are gone."""
        async with self._admin() as admin:
            await admin.delete_records(
                {TopicPartition(topic, partition): RecordsToDelete(offset) for partition, offset in before.items()}
            )

    async def produce(self, topic: str, messages: Iterable[Message]) -> list[RecordMetadata]:
        """Append the messages, in order per partition, and return where each one went."""
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all", enable_idempotence=True) as producer:
            sent = [
                await producer.send(topic, value, key, partition, headers=list(headers))
                for key, value, headers, partition in messages
            ]
            return list(await asyncio.gather(*sent))

    async def read_all(self, topic: str, *, isolation_level: str = "read_uncommitted") -> list[Record]:
        """Return every record stored now, by partition and offset; no group is involved."""
        records: list[Record] = []
        async with self._consumer(isolation_level=isolation_level) as consumer:
            ends = await self._assign_all(consumer, topic)
            await consumer.seek_to_beginning(*ends)
            while [tp for tp, end in ends.items() if await consumer.position(tp) < end]:
                for batch in (await consumer.getmany(timeout_ms=100)).values():
                    records.extend(batch)
        return sorted(records, key=lambda record: (record.partition, record.offset))

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """Return the offset that each partition's next record will get."""
        async with self._consumer() as consumer:
            return {tp.partition: end for tp, end in (await self._assign_all(consumer, topic)).items()}

    async def leaders(self, topic: str) -> dict[int, int]:
        """Return the node that leads each partition, -1 where there is none."""
        async with self._admin() as admin:
            (description,) = await admin.describe_topics([topic])
        return {partition["partition"]: partition["leader"] for partition in description["partitions"]}

    async def committed(self, group: str, topic: str) -> dict[int, OffsetAndMetadata]:
        """Return the group's commits with their metadata; partitions without a commit are left out."""
        commits: dict[TopicPartition, OffsetAndMetadata] = {}

        async def known() -> bool:
            # By name, an answer names every partition, unless the coordinator still loads, which aiokafka overlooks.
            nonlocal commits
            commits = await admin.list_consumer_group_offsets(group, partitions=places)
            return len(commits) == len(places)

        async with self._admin() as admin:
            (description,) = await admin.describe_topics([topic])
            places = [TopicPartition(topic, partition["partition"]) for partition in description["partitions"]]
            await wait_until(known, what=f"the commits of {group}")
        return {place.partition: commit for place, commit in commits.items() if commit.offset >= 0}

    async def commit(self, group: str, topic: str, offsets: Mapping[int, OffsetAndMetadata]) -> None:
        """Commit for a group without members, as an operator's reset or a mirroring tool does."""
        async with self._consumer(group_id=group) as consumer:
            commits = {TopicPartition(topic, partition): commit for partition, commit in offsets.items()}
            consumer.assign(list(commits))
            await consumer.commit(commits)

    async def _until_partitions(self, topic: str, count: int) -> None:
        async def ready() -> bool:
            (description,) = await admin.describe_topics([topic])
            partitions = description["partitions"]
            return len(partitions) == count and all(p["leader"] >= 0 and not p["error_code"] for p in partitions)

        async with self._admin() as admin:
            await wait_until(ready, what=f"{count} partitions of {topic}")

    async def _assign_all(self, consumer: AIOKafkaConsumer, topic: str) -> dict[TopicPartition, int]:
        async with self._admin() as admin:
            (description,) = await admin.describe_topics([topic])
        if description["error_code"]:
            raise for_code(description["error_code"])(topic)
        consumer.assign([TopicPartition(topic, partition["partition"]) for partition in description["partitions"]])
        ends: dict[TopicPartition, int] = await consumer.end_offsets(consumer.assignment())
        return ends

    def _consumer(self, *, group_id: str | None = None, isolation_level: str = "read_uncommitted") -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=group_id,
            isolation_level=isolation_level,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()


def _raise_first_error(topic_errors: Iterable[tuple[Any, ...]]) -> None:
    for topic, code, *message in topic_errors:
        if code:
            raise for_code(code)(topic, *message)
