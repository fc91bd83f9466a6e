"""A real Apache Kafka, and real time."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from consumer.kafka_factory import AIOKAFKA, KafkaFactory
from tests.kafka_behaviour.world import World, eventually
from tests.kafka_broker import KafkaBroker
from tests.relay import Relay
from tests.simulation.kafka import NewRecord

GATEWAY: Final = "GATEWAY"
"""The listener whose clients are told the address of a relay."""


class RealWorld(World):
    """A broker, or two, and clients in this process."""

    def __init__(self, broker: KafkaBroker, *others: KafkaBroker) -> None:
        super().__init__()
        self.prefix = f"behaviour-{uuid.uuid4().hex[:8]}"
        self._broker = broker
        self._nodes = (broker, *others)
        self._bootstrap = broker.bootstrap

    @property
    def bootstrap(self) -> str:
        return self._bootstrap

    @property
    def factory(self) -> KafkaFactory:
        return AIOKAFKA

    def run(self, behaviour: Coroutine[Any, Any, None]) -> None:
        async def main() -> None:
            await eventually(self._is_served)  # a broker that was frozen or killed before is let in again first
            await behaviour

        asyncio.run(main())

    async def _is_served(self) -> bool:
        admin = self.factory.admin(bootstrap_servers=self._broker.bootstrap)
        try:
            await admin.start()
            return len(admin._client.cluster.brokers()) == len(self._nodes)
        except KafkaError:
            return False
        finally:
            await admin.close()

    async def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> None:
        await self._broker.create_topic(name, partitions, config)

    async def delete_topic(self, name: str) -> None:
        await self._broker.delete_topic(name)

    async def add_partitions(self, name: str, total: int) -> None:
        await self._broker.add_partitions(name, total)

    async def write_records(self, topic: str, partition: int, records: Collection[NewRecord]) -> int:
        async with AIOKafkaProducer(bootstrap_servers=self._broker.bootstrap, max_batch_size=1 << 20) as producer:
            await producer.partitions_for(topic)
            batch = producer.create_batch()
            for record in records:
                batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
            batch.close()
            stored = await (await producer.send_batch(batch, topic, partition=partition))
            return int(stored.offset)

    async def transaction(self, topic: str, values: Collection[bytes], *, commit: bool | None) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._broker.bootstrap, transactional_id=uuid.uuid4().hex)
        self._open.append(producer)
        await producer.start()
        await producer.begin_transaction()
        sent = [await producer.send(topic, value, b"k", partition=0) for value in values]
        await asyncio.gather(*sent)
        if commit is True:
            await producer.commit_transaction()
        elif commit is False:
            await producer.abort_transaction()

    async def remove_before(self, topic: str, offset: int) -> None:
        await self._broker.delete_records(topic, {0: offset})

    async def compacted_topic(self) -> str:
        config = {
            "cleanup.policy": "compact",
            "segment.ms": "100",
            "min.cleanable.dirty.ratio": "0.001",
            "min.compaction.lag.ms": "0",
        }
        topic = await self.topic(config=config)
        for number, key in enumerate((b"a", b"b", b"a", b"b", b"c")):
            await self.write_records(topic, 0, [NewRecord(key, b"%d" % number)])
            await asyncio.sleep(0.2)  # a segment is rolled at the next append only, and the last one is not compacted

        async def is_compacted() -> bool:
            return [record.offset for record in await self._broker.read_all(topic)] == [2, 3, 4]

        await eventually(is_compacted, 60)
        return topic

    async def damage(self, topic: str, offset: int, value: bytes) -> None:
        self._broker.damage(topic, 0, value)

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[Callable[[], None]]:
        port = int(self._broker.advertised(GATEWAY).rpartition(":")[2])
        async with Relay(self._broker.address(GATEWAY), port=port) as relay:
            self._bootstrap = relay.address
            try:
                yield relay.forget
            finally:
                await self.close()
                self._bootstrap = self._broker.bootstrap

    async def freeze(self, node: int = 1) -> None:
        self._nodes[node - 1].freeze()

    async def thaw(self, node: int = 1) -> None:
        self._nodes[node - 1].thaw()

    async def kill(self, node: int = 1) -> None:
        self._nodes[node - 1].kill()

    async def restart(self, node: int = 1) -> None:
        await asyncio.to_thread(self._nodes[node - 1].start)
