"""What the demo puts into the topic: a backlog, a stream, and the records that are nobody's event."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import orjson
from aiokafka import AIOKafkaProducer
from msgspec import Struct

from consumer import kafka
from consumer.demo.cast import Role
from consumer.sandbox import World
from consumer.settings import Settings

if TYPE_CHECKING:
    from aiokafka.structs import RecordMetadata

VENDOR: Final = "vendor_demo"
_JOURNEYS: Final = (
    ("userVendor.1#new", "contract.1#purchased", "checkout.1#confirm", "entitlement.1#new"),
    ("contract.1#update", "entitlement.1#update"),
    ("userVendor.1#update", "contract.1#update", "contract#cancelRequest"),
)
"""What users do: a purchase is four events at once, which one sync answers."""


class Step(Struct, frozen=True, kw_only=True):
    """One record, when it comes (0 to 1; what is below 0 is there before the service), and what happens before it."""

    at: float
    key: str | None
    value: bytes | None
    first: Callable[[], object] | None = None


def script(world: World, roles: Sequence[Role], seed: int) -> list[Step]:
    """Return all records, in the order in which they come. Same seed, same script."""
    dice = random.Random(seed)  # noqa: S311 - a story, no secrets
    ours = {role.user_id for role in roles}
    others = [user_id for user_id in world.user_ids() if user_id not in ours]
    steps = [*_nobodys_events(dice)]
    for number, user_id in enumerate(others):
        begun = dice.uniform(-1, 0.6)
        steps += _journey(user_id, _JOURNEYS[number % len(_JOURNEYS)], begun)
        if number % 5 == 0:  # a change at Sesamy, and its event
            steps.append(_event(user_id, "contract.1#update", 0.95, lambda it=user_id: world.change(it)))  # type: ignore[misc]
        elif number % 10 == 1:  # the same event again, as every forwarder does now and then
            steps.append(_event(user_id, "userVendor.1#update", 0.9))
    for role in roles:
        steps += _journey(role.user_id, _JOURNEYS[0], dice.uniform(-1, 0.2))
        if role.later is not None:
            steps.append(_event(role.user_id, "contract.1#update", 0.7, lambda it=role: it.change(world)))  # type: ignore[misc]
    return sorted(steps, key=lambda step: step.at)


def _journey(user_id: str, event_types: Sequence[str], begun: float) -> Iterator[Step]:
    for number, event_type in enumerate(event_types):
        yield _event(user_id, event_type, begun + number * 0.01)


def _event(
    user_id: str, event_type: str, at: float, first: Callable[[], object] | None = None, vendor: str = VENDOR
) -> Step:
    value = {
        "eventType": event_type,
        "vendorId": vendor,
        "userId": user_id,
        "contractId": None,
        "occured_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return Step(at=at, key=user_id, value=orjson.dumps(value), first=first)


def _nobodys_events(dice: random.Random) -> Iterator[Step]:
    stranger = f"email|{dice.getrandbits(96):024x}"
    yield Step(at=0.1, key=stranger, value=b'{"eventType": "contract.1#update", "userId": ')
    yield Step(at=0.2, key=stranger, value=None)
    yield _event(stranger, "contract.1#update", 0.3)
    yield _event(stranger, "contract.1#renamed", 0.4)
    yield _event(stranger, "contract.1#update", 0.5, vendor="vendor_other")


class Feeder:
    """Puts the script into the topic."""

    def __init__(self, settings: Settings, steps: Sequence[Step]) -> None:
        self.planned = len(steps)
        self.sent = 0
        self.ends: Counter[int] = Counter()
        """By partition, how many records were stored."""
        self._backlog = [step for step in steps if step.at < 0]
        self._stream = [step for step in steps if step.at >= 0]
        self._topic = settings.kafka.topic
        self._producer = AIOKafkaProducer(**kafka.producer_arguments(settings.kafka))

    @property
    def finished(self) -> bool:
        """Whether everything is stored."""
        return self.ends.total() == self.planned

    async def start(self) -> None:
        """Connect, and store the backlog."""
        await self._producer.start()
        await self._store([await self._send(step) for step in self._backlog])

    async def stream(self, seconds: float) -> None:
        """Store the rest, spread over so many seconds."""
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), []
        for step in self._stream:
            await asyncio.sleep(max(0.0, began + step.at * seconds - loop.time()))
            sent.append(await self._send(step))
        await self._store(sent)

    async def stop(self) -> None:
        """Disconnect."""
        await self._producer.stop()

    async def _send(self, step: Step) -> "asyncio.Future[RecordMetadata]":
        if step.first is not None:
            step.first()
        key = step.key.encode() if step.key else None
        self.sent += 1
        sent: asyncio.Future[RecordMetadata] = await self._producer.send(self._topic, step.value, key=key)
        return sent

    async def _store(self, sent: "Sequence[asyncio.Future[RecordMetadata]]") -> None:
        for place in await asyncio.gather(*sent):
            self.ends[place.partition] += 1
