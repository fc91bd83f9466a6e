"""The topics and the group of one load test: made under a new name, looked at, removed."""

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError, NonEmptyGroup, for_code
from aiokafka.protocol.admin import DeleteGroupsRequest
from msgspec import structs

from consumer import kafka
from consumer.failure import Failure
from consumer.loadtest.waiting import until
from consumer.settings import KafkaSettings

_REPLICAS: Final = 3
_SECONDS: Final = 30.0
_EMPTY_SECONDS: Final = 5.0
"""For members to be forgotten; one that was killed is for its session time-out."""


class OwnTopics:
    """A topic of events and its dead-letter topic; `async with` makes them and, unless `keep`, removes them.

    Whatever the caller's settings call their topic: a load test touches none that it did not make.
    """

    def __init__(self, settings: KafkaSettings, partitions: int, *, keep: bool = False) -> None:
        self.name = f"load-test-{secrets.token_hex(4)}"
        """Of the topic of events and of the group."""
        self.settings = structs.replace(
            settings, topic=self.name, group_id=self.name, dead_letter_topic=f"{self.name}.dead-letters"
        )
        self.partitions = partitions
        self.kept = False
        """Whether they are there and stay."""
        self._keep = keep
        self._places = [TopicPartition(self.name, partition) for partition in range(partitions)]

    async def __aenter__(self) -> Self:
        """Make the topics. Raises `Failure` when Kafka cannot be reached or refuses."""
        async with AsyncExitStack() as stack:
            self._admin = await stack.enter_async_context(kafka.admin(self.settings))
            if not self._keep:
                stack.push_async_callback(self._remove)
            await self._create()
            self.kept = self._keep
            self._consumer = AIOKafkaConsumer(**kafka.reader_arguments(self.settings))
            stack.push_async_callback(self._consumer.stop)
            await self._consumer.start()
            self._opened = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    async def lag(self) -> tuple[int, int]:
        """Return how many records the topic has, and how many of them no commit covers.

        Raises:
            Failure: Kafka does not tell.
        """
        try:
            ends: Mapping[TopicPartition, int] = await self._consumer.end_offsets(self._places)
            commits = await kafka.group_offsets(self._admin, self.name, self.name)
        except (KafkaError, OSError) as error:
            raise Failure(kafka.explain(self.settings, error)) from error
        done = sum(commit.offset for commit in commits.values())
        return sum(ends.values()), sum(ends.values()) - done

    async def _create(self) -> None:
        cluster = await self._admin.describe_cluster()
        replicas = min(_REPLICAS, len(cluster["brokers"]))
        wanted = {self.name: self.partitions, self.settings.dead_letter_topic: 1}
        answer: Any = await self._admin.create_topics([NewTopic(name, n, replicas) for name, n in wanted.items()])
        for name, code, *message in answer.topic_errors:
            if code:
                raise for_code(code)(f"{name}: {' '.join(filter(None, message))}")

        async def led() -> bool:
            if await kafka.count_partitions(self._admin, wanted) != wanted:
                return False
            found = await self._admin.describe_topics(list(wanted))
            return all(it["leader"] >= 0 and not it["error_code"] for topic in found for it in topic["partitions"])

        if not await until(led, _SECONDS):
            raise Failure(f"Kafka has made the topic {self.name}, but its partitions have no leaders")

    async def _remove(self) -> None:
        """Remove topics and group as far as they are there; what Kafka refuses stays, and its name tells what it is."""
        try:
            async with asyncio.timeout(_SECONDS):
                await self._admin.delete_topics([self.name, self.settings.dead_letter_topic])
                await until(self._group_removed, _EMPTY_SECONDS)
        except (KafkaError, OSError):
            return

    async def _group_removed(self) -> bool:
        """Remove the group, and return whether it is gone: not as long as it has members."""
        coordinator = await self._admin.find_coordinator(self.name)
        # aiokafka 0.14 has the request but no method for it.
        answer: Any = await self._admin._send_request(DeleteGroupsRequest([self.name]), coordinator)  # noqa: SLF001
        return all(code != NonEmptyGroup.errno for _, code in answer.results)
