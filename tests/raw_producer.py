"""Appends record batches as bytes, past the producer: what other clients, or damage, may leave in a topic."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest


class Appended(NamedTuple):
    """What the broker said of a batch: the name of its error, or none and the offset of its first record."""

    error: str
    offset: int


class RawProducer:
    """Sends batches to the leaders of a topic's partitions."""

    def __init__(self, client: AIOKafkaClient, topic: str) -> None:
        self._client, self._topic = client, topic

    async def append(self, data: bytes | bytearray, partition: int = 0) -> Appended:
        """Have the broker append a batch, and return what became of it."""
        request = ProduceRequest(
            required_acks=-1,
            timeout=5000,
            topics=[(self._topic, [(partition, bytes(data))])],
            transactional_id=None,
        )
        node = next(iter(self._client.cluster.brokers())).nodeId
        response: Any = await self._client.send(node, request)
        ((_, ((_, code, offset, *_),)),) = response.topics
        return Appended(for_code(code).__name__ if code else "", offset)


@asynccontextmanager
async def raw_producer(bootstrap: str, topic: str) -> AsyncIterator[RawProducer]:
    """Connect to a broker that leads all of the topic's partitions."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    try:
        await client.bootstrap()
        yield RawProducer(client, topic)
    finally:
        await client.close()
