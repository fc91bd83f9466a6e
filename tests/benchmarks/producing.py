"""Events into the topic: all in one moment, or each at its own."""

import asyncio
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from consumer.sandbox.population import Seed

_TICK = 0.002


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


async def produce_at_a_pace(
    bootstrap: str, topic: str, sequence: Sequence[Seed], partitions: int, pace: float
) -> tuple[dict[int, int], Mapping[str, float]]:
    """Append one event after the other, `pace` a second whatever becomes of them.

    Returns the ends as `produce_at_once`, and when each user's event was meant to be sent: a producer that falls behind
    must not make the delays look shorter.
    """
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        began = time.monotonic() + 0.1
        meant_at = {seed.user_id: began + number / pace for number, seed in enumerate(sequence)}
        sent = []
        for seed in sequence:
            while time.monotonic() < meant_at[seed.user_id]:  # noqa: ASYNC110 - it waits for the clock
                await asyncio.sleep(_TICK)
            value, key = event_of(seed.user_id), seed.user_id.encode()
            sent.append(await producer.send(topic, value, key, _partition(seed, partitions)))
        return _ends(await asyncio.gather(*sent)), meant_at


def _partition(seed: Seed, partitions: int) -> int:
    """Send users round the partitions, so that none is longer; that a user keeps to one is all that order asks for."""
    return seed.number % partitions


def _ends(stored: Iterable[RecordMetadata]) -> dict[int, int]:
    ends: dict[int, int] = {}
    for place in stored:
        ends[place.partition] = max(ends.get(place.partition, 0), place.offset + 1)
    return ends
