"""What a behaviour is tested with: clients and a cluster, simulated or real, and what can be done to both."""

import asyncio
import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from consumer import kafka, kafka_stopping
from consumer.kafka_factory import KafkaFactory
from consumer.settings import KafkaSettings
from tests.simulation.kafka.log import NewRecord

SESSION: Final = 3.0
"""Seconds of the session time-out, unless a test says otherwise."""

_names = itertools.count(1)

Client = TypeVar("Client", AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaAdminClient)


class World(ABC):
    """A cluster of one node, or two, and clients that are built with the program's own arguments."""

    prefix = ""

    def __init__(self) -> None:
        self._open: list[Any] = []

    @property
    @abstractmethod
    def bootstrap(self) -> str:
        """The bootstrap servers."""

    @property
    @abstractmethod
    def factory(self) -> KafkaFactory:
        """Makes the clients, as the program has them made."""

    @abstractmethod
    def run(self, behaviour: Coroutine[Any, Any, None]) -> None:
        """Run the test, and raise what it raises."""

    @abstractmethod
    async def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> None:
        """Create a topic."""

    @abstractmethod
    async def delete_topic(self, name: str) -> None:
        """Delete a topic."""

    @abstractmethod
    async def add_partitions(self, name: str, total: int) -> None:
        """Have the topic have so many partitions."""

    @abstractmethod
    async def write_records(self, topic: str, partition: int, records: Collection[NewRecord]) -> int:
        """Append records as one batch, and return the first one's offset."""

    @abstractmethod
    async def transaction(self, topic: str, values: Collection[bytes], *, commit: bool | None) -> None:
        """Append records to partition 0 in a transaction; None leaves it open."""

    @abstractmethod
    async def remove_before(self, topic: str, offset: int) -> None:
        """Move the start of partition 0's log, as retention does."""

    @abstractmethod
    async def compacted_topic(self) -> str:
        """Return a topic whose partition 0 had records at 0 to 4, of which compaction has left 2 to 4."""

    @abstractmethod
    async def damage(self, topic: str, offset: int, value: bytes) -> None:
        """Damage the batch of partition 0 that has this record on the broker's disk."""

    @abstractmethod
    async def freeze(self, node: int = 1) -> None:
        """Stop a broker's clock."""

    @abstractmethod
    async def thaw(self, node: int = 1) -> None:
        """Let a broker go on."""

    @abstractmethod
    async def kill(self, node: int = 1) -> None:
        """Kill a broker."""

    @abstractmethod
    async def restart(self, node: int = 1) -> None:
        """Start a broker again."""

    @abstractmethod
    def gateway(self) -> AbstractAsyncContextManager[Callable[[], None]]:
        """Enclose a time in which clients reach the broker through a gateway; calling it forgets all connections."""

    def settings(self, **changes: Any) -> KafkaSettings:
        """Return settings of the program for this cluster."""
        known = {"bootstrap_servers": self.bootstrap, "session_timeout": SESSION, **changes}
        return KafkaSettings(**known)

    async def topic(self, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Create a topic of a new name."""
        name = self.name()
        await self.create_topic(name, partitions, config or {})
        return name

    def name(self) -> str:
        """Return a name that nothing has yet."""
        return f"{self.prefix}-{next(_names)}"

    async def write(self, topic: str, *values: bytes, partition: int = 0) -> int:
        """Append values as one batch, and return the first one's offset."""
        return await self.write_records(topic, partition, [NewRecord(b"k", value) for value in values])

    async def consumer(self, group: str | None = None, **options: Any) -> AIOKafkaConsumer:
        """Return a started consumer with the program's arguments; without a group it is a reader."""
        settings = self.settings()
        arguments = kafka.reader_arguments(settings) if group is None else kafka.consumer_arguments(settings, group)
        return await self._started(self.factory.consumer(**{**arguments, **options}))

    async def reader(
        self, topic: str, *partitions: int, position: int | None = None, **options: Any
    ) -> AIOKafkaConsumer:
        """Return a consumer outside any group, of these partitions, or of the first."""
        consumer = await self.consumer(**options)
        places = [TopicPartition(topic, partition) for partition in partitions or (0,)]
        consumer.assign(places)
        if position is not None:
            for place in places:
                consumer.seek(place, position)
        return consumer

    async def member(self, topic: str, group: str, listener: "Listener | None" = None, **options: Any) -> "Member":
        """Return a member of a group that has got its partitions."""
        consumer = await self.consumer(group, **options)
        member = Member(consumer, listener or Listener())
        consumer.subscribe([topic], listener=member.listener)
        await eventually(lambda: member.listener.assignments)
        return member

    async def producer(self, **options: Any) -> AIOKafkaProducer:
        """Return a started producer with the arguments of the one for dead letters."""
        arguments = kafka.letter_producer_arguments(self.settings(), 3.0)
        return await self._started(self.factory.producer(**{**arguments, **options}))

    async def admin(self) -> AIOKafkaAdminClient:
        """Return a started admin client."""
        arguments = kafka.connection_arguments(self.settings()) | {"request_timeout_ms": 5000}
        return await self._started(self.factory.admin(**arguments))

    async def close(self) -> None:
        """Stop what a test has started."""
        for client in self._open:
            await kafka_stopping.stop(client)
        self._open.clear()

    async def _started(self, client: Client) -> Client:
        self._open.append(client)
        await client.start()
        return client


class Listener(ConsumerRebalanceListener):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, list[int]]] = []

    @property
    def assignments(self) -> list[list[int]]:
        """The partitions of each assignment."""
        return [partitions for event, partitions in self.events if event == "assigned"]

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Note it."""
        self.events.append(("revoked", sorted(place.partition for place in revoked)))

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Note it."""
        self.events.append(("assigned", sorted(place.partition for place in assigned)))


class Member:
    """A consumer in a group."""

    def __init__(self, consumer: AIOKafkaConsumer, listener: Listener) -> None:
        self.consumer = consumer
        self.listener = listener

    @property
    def coordinator(self) -> Any:
        """What aiokafka keeps of its membership."""
        return self.consumer._coordinator

    @property
    def generation(self) -> int:
        """The generation that it believes in."""
        return int(self.coordinator.generation)

    @property
    def partitions(self) -> list[int]:
        """The partitions that it believes in."""
        return sorted(place.partition for place in self.consumer.assignment())

    async def vanish(self) -> None:
        """End as a process that is killed: no farewell, and its connections close."""
        for task in kafka_stopping._tasks_of(self.consumer):
            task.cancel()
        self.coordinator.generation = -1  # it would leave the group when it is stopped
        await self.consumer._client.close()


async def eventually(condition: Callable[[], object | Awaitable[object]], seconds: float = 20.0) -> None:
    """Wait until something is so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert loop.time() < deadline, "it did not come about in time"
        await asyncio.sleep(0.05)


async def read(consumer: AIOKafkaConsumer, count: int, seconds: float = 20.0) -> list[Any]:
    """Return the next records, this many at least."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    records: list[Any] = []
    while len(records) < count:
        assert loop.time() < deadline, f"only {len(records)} of {count} records came"
        for batch in (await consumer.getmany(timeout_ms=200)).values():
            records += batch
    return records


def behaviour(test: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[World], None]:
    """Make a test of a coroutine function that is run in the world, on its own clock."""

    @functools.wraps(test)
    def run(world: World) -> None:
        async def main() -> None:
            try:
                await test(world)
            finally:
                await world.close()

        world.run(main())

    return run
