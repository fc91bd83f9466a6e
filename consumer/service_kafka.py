"""The service's Kafka clients, built from the settings: a part of the composition root (`service.py`)."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from consumer import kafka, kafka_clients
from consumer.failure import Failure
from consumer.kafka_clients import ReplaceableClient
from consumer.kafka_factory import KafkaFactory
from consumer.settings import Settings
from consumer.stream.limits import Limits
from consumer.stream.start_offsets import Layout

_START_SECONDS: Final = 8.0
"""Until a consumer that cannot find a broker has failed to start."""


async def connect(
    settings: Settings, stack: AsyncExitStack, limits: Limits, clients: KafkaFactory
) -> ReplaceableClient[AIOKafkaAdminClient]:
    """Start the client that asks about the group and the topic; it cannot keep the service from ending.

    Raises:
        Failure: Kafka is out of reach.
    """
    own, patience = settings.kafka, {"request_timeout_ms": int(limits.call_timeout * 1000)}
    cluster = ReplaceableClient(
        lambda: clients.admin(**kafka.connection_arguments(own) | patience), own, timeout=limits.call_timeout
    )
    stack.push_async_callback(cluster.close)
    try:
        await cluster.get()
    except (KafkaError, OSError) as error:
        raise Failure(kafka.explain(own, error)) from error
    return cluster


async def start_consumer(settings: Settings, more: Mapping[str, Any], clients: KafkaFactory) -> AIOKafkaConsumer:
    """Return a started consumer of the group, which has not subscribed yet.

    Raises:
        Failure: Kafka is out of reach, or the certificates cannot be loaded.
    """

    def build() -> AIOKafkaConsumer:
        return clients.consumer(**{**kafka.consumer_arguments(settings.kafka, settings.group_id), **more})

    try:
        return await kafka_clients.start(build, settings.kafka, _START_SECONDS)
    except (KafkaError, OSError) as error:
        raise Failure(kafka.explain(settings.kafka, error)) from error


async def partitions(cluster: ReplaceableClient[AIOKafkaAdminClient], topic: str) -> int:
    """Return how many partitions the topic has, 0 without it."""
    async with cluster.use() as client:
        return len(await kafka_clients.partition_leaders(client, topic))


async def layout(cluster: ReplaceableClient[AIOKafkaAdminClient], topic: str, group_id: str) -> Layout:
    """Return where the topic is led, and what the group committed."""
    async with cluster.use() as client:
        leaders = await kafka_clients.partition_leaders(client, topic)
        return Layout(leaders, await kafka.group_offsets(client, group_id, topic, len(leaders)))


async def start_reader(
    settings: Settings, more: Mapping[str, Any], clients: KafkaFactory, limits: Limits
) -> AIOKafkaConsumer:
    """Return a started consumer outside any group. Raises as `kafka_clients.start`."""
    return await kafka_clients.start(
        lambda: clients.consumer(**kafka.reader_arguments(settings.kafka), **more), settings.kafka, limits.call_timeout
    )
