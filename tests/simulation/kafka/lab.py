"""A cluster of two nodes, hosts, and what a test does with them."""

from collections.abc import Callable, Coroutine
from typing import Any

from aiokafka import AIOKafkaConsumer

from consumer import kafka
from consumer.settings import KafkaSettings
from tests.simulation.host import Host
from tests.simulation.kafka import Cluster
from tests.simulation.timeline import Timeline


class Lab:
    """A cluster of two nodes with one topic of four partitions, and hosts."""

    def __init__(self, seed: int = 1) -> None:
        self.timeline = Timeline(seed)
        self.trace: list[str] = []
        self.cluster = Cluster(self.timeline, nodes=2, tell=self._tell)
        self.cluster.create_topic("t", 4)
        self.hosts: dict[str, Host] = {}
        self.clients: dict[str, Any] = {}

    def _tell(self, text: str) -> None:
        self.trace.append(f"{self.timeline.now:.6f} {text}")

    def host(self, name: str) -> Host:
        host = self.hosts[name] = Host(self.timeline, name)
        self.clients[name] = self.cluster.clients(host)
        return host

    async def consumer(self, host: Host, group: str = "g") -> AIOKafkaConsumer:
        settings = KafkaSettings(bootstrap_servers=self.cluster.bootstrap_servers, session_timeout=10.0)
        consumer: AIOKafkaConsumer = self.clients[host.name].consumer(**kafka.consumer_arguments(settings, group))
        await consumer.start()
        consumer.subscribe(["t"])
        return consumer

    async def admin(self, host: Host) -> Any:
        client = self.clients[host.name].admin(bootstrap_servers=self.cluster.bootstrap_servers)
        await client.start()
        return client

    def run(self, host: Host, work: Coroutine[Any, Any, Any], seconds: float = 300.0) -> Any:
        task = host.spawn(work)
        end = self.timeline.now + seconds
        while not task.done():
            assert self.timeline.now < end, "it takes too long"
            assert self.timeline.step()
        assert host.failures == []
        return task.result()

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        end = self.timeline.now + seconds
        while not condition():
            assert self.timeline.now < end, "it takes too long"
            self.timeline.run_until(self.timeline.now + 0.1)

    def assigned(self, consumer: AIOKafkaConsumer, count: int) -> None:
        self.until(lambda: len(consumer.assignment()) == count)


async def read(consumer: AIOKafkaConsumer, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        for records in (await consumer.getmany(timeout_ms=250)).values():
            found += records
    return found


def seek(consumer: AIOKafkaConsumer) -> None:
    for place in consumer.assignment():
        consumer.seek(place, 0)
