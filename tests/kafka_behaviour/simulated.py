"""The simulated Kafka, in virtual time."""

from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from consumer.kafka_factory import KafkaFactory
from tests.kafka_behaviour.world import World
from tests.simulation.host import Host
from tests.simulation.kafka import Cluster, NewRecord
from tests.simulation.timeline import Timeline

_LONGEST: Final = 600.0
"""Virtual seconds that a test may take."""


class SimulatedWorld(World):
    """A simulated cluster, and one host that all clients live in."""

    prefix = "simulated"

    def __init__(self, seed: int, *, nodes: int = 1) -> None:
        super().__init__()
        self.timeline = Timeline(seed)
        self.trace: list[str] = []
        self.cluster = Cluster(self.timeline, nodes=nodes, tell=self._tell)
        self.host = Host(self.timeline, "client")
        self._clients = self.cluster.clients(self.host)

    def _tell(self, text: str) -> None:
        self.trace.append(f"{self.timeline.now:8.3f} {text}")

    @property
    def bootstrap(self) -> str:
        return self.cluster.bootstrap_servers

    @property
    def factory(self) -> KafkaFactory:
        return self._clients

    def run(self, behaviour: Coroutine[Any, Any, None]) -> None:
        task = self.host.spawn(behaviour)
        while not task.done():
            assert self.timeline.now < _LONGEST, "the test did not end in its time"
            assert self.timeline.step(), "nothing is left to happen, and the test waits"
        self.host.close()
        self.cluster.close()
        task.result()
        assert self.host.failures == []

    async def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> None:
        self.cluster.create_topic(name, partitions, config, replication=1)

    async def delete_topic(self, name: str) -> None:
        self.cluster.delete_topic(name)

    async def add_partitions(self, name: str, total: int) -> None:
        self.cluster.add_partitions(name, total)

    async def write_records(self, topic: str, partition: int, records: Collection[NewRecord]) -> int:
        return self.cluster.write(topic, partition, records)

    async def transaction(self, topic: str, values: Collection[bytes], *, commit: bool | None) -> None:
        log, producer = self.cluster.log(topic, 0), self.cluster.begin()
        log.write([NewRecord(b"k", value) for value in values], self.cluster.now_ms(), producer)
        if commit is not None:
            log.end_transaction(producer, self.cluster.now_ms(), commit=commit)

    async def remove_before(self, topic: str, offset: int) -> None:
        self.cluster.log(topic, 0).truncate(offset)

    async def compacted_topic(self) -> str:
        topic = await self.topic(config={"cleanup.policy": "compact"})
        await self.write(topic, *(b"%d" % number for number in range(5)))
        self.cluster.log(topic, 0).compact([0, 1])
        return topic

    async def damage(self, topic: str, offset: int, value: bytes) -> None:
        self.cluster.log(topic, 0).damage(offset)

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[Callable[[], None]]:
        yield lambda: self.cluster.forget(self.host)

    async def freeze(self, node: int = 1) -> None:
        self.cluster.freeze(node)

    async def thaw(self, node: int = 1) -> None:
        self.cluster.thaw(node)

    async def kill(self, node: int = 1) -> None:
        self.cluster.kill(node)

    async def restart(self, node: int = 1) -> None:
        self.cluster.restart(node)
