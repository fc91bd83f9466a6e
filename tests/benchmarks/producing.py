"""Events into the topic, all in one moment."""

import asyncio
import uuid
from collections.abc import Iterable, Sequence

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from consumer.sandbox.population import Seed


def event_of(user_id: str) -> bytes:
    """Return an event as Sesamy sends it."""
    return msgspec.json.encode(
        {
            "eventType": "contract.1#update",
            "vendorId": "bench",
            "userId": user_id,
            "contractId": "contract_1",
            "occured_at": "2026-01-01T12:00:00Z",
        }
    )


async def produce_at_once(bootstrap: str, topic: str, sequence: Sequence[Seed], partitions: int) -> dict[int, int]:
    """Append the events in one transaction: they are seen all at once, and producing takes no time from the run.

    Returns by partition the offset after the last event.
    """
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=uuid.uuid4().hex)
    async with producer, producer.transaction():
        sent = [
            await producer.send(topic, event_of(seed.user_id), seed.user_id.encode(), _partition(seed, partitions))
            for seed in sequence
        ]
        return _ends(await asyncio.gather(*sent))


def _partition(seed: Seed, partitions: int) -> int:
    """Send users round the partitions, so that none is longer; that a user keeps to one is all that order asks for."""
    return seed.number % partitions


def _ends(stored: Iterable[RecordMetadata]) -> dict[int, int]:
    ends: dict[int, int] = {}
    for place in stored:
        ends[place.partition] = max(ends.get(place.partition, 0), place.offset + 1)
    return ends
