"""Users change, and an event tells of each change: what the program has to work off."""

import asyncio
import time
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from msgspec import Struct

from consumer.sandbox import World


class Sent(Struct, frozen=True, gc=False):
    """An event: who changed to which version, at which monotonic second at the latest, and where the event lies."""

    user_id: str
    version: int
    at: float
    partition: int
    offset: int


class Events:
    """Changes users of a world and produces an event for each change, keyed by user."""

    def __init__(self, world: World, producer: AIOKafkaProducer, topic: str) -> None:
        """Produce with a started, idempotent producer: it keeps the order while the broker is away."""
        self._world = world
        self._producer = producer
        self._topic = topic
        self._open: list[tuple[str, int, float, asyncio.Future[Any]]] = []
        self._sent: list[Sent] = []

    async def change(self, user_id: str) -> None:
        """Change a user, then hand the event to the producer."""
        await self._send(user_id, self._world.change(user_id))

    async def repeat(self, user_id: str) -> None:
        """Hand an event to the producer though the user did not change."""
        user = self._world.user(user_id)
        assert user is not None
        await self._send(user_id, user.version)

    async def _send(self, user_id: str, version: int) -> None:
        at = time.monotonic()
        event = {"eventType": "contract.1#update", "vendorId": "chaos", "userId": user_id, "contractId": f"c-{version}"}
        value = msgspec.json.encode(event | {"occured_at": self._world.now()})
        self._open.append((user_id, version, at, await self._producer.send(self._topic, value, user_id.encode())))

    async def stored(self) -> list[Sent]:
        """Return every event so far once the broker has them all, in the order in which they were made."""
        open_, self._open = self._open, []
        for user_id, version, at, future in open_:
            place = await future
            self._sent.append(Sent(user_id, version, at, place.partition, place.offset))
        return self._sent
