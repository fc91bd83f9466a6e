"""The Kafka clients of a simulated host: aiokafka's own, with connections to simulated nodes."""

from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.simulation.host import Host
from tests.simulation.kafka import seams
from tests.simulation.kafka.connection import Connector, SimulatedConnection
from tests.simulation.kafka.network import Network, Node

_FETCHER_SECONDS: Final = 5.0
"""How often aiokafka's fetcher looks without a reason; 0.2 s by default, which only costs CPU."""


class Clients:
    """Makes the clients of one host, with the arguments that aiokafka's own classes take."""

    def __init__(self, host: Host, network: Network, nodes: Mapping[tuple[str, int], Node]) -> None:
        self._host = host
        self._connector = Connector(host, network, dict(nodes))
        seams.enter(host.loop, self._connector)

    def consumer(self, *topics: str, **options: Any) -> AIOKafkaConsumer:
        """Return a consumer that is not started."""
        return SimulatedConsumer(*topics, **{"consumer_timeout_ms": int(_FETCHER_SECONDS * 1000), **options})  # type: ignore[no-untyped-call]

    def producer(self, **options: Any) -> AIOKafkaProducer:
        """Return a producer that is not started."""
        return SimulatedProducer(self._host, **options)

    def admin(self, **options: Any) -> AIOKafkaAdminClient:
        """Return an admin client that is not started."""
        return AIOKafkaAdminClient(**options)

    async def connect(self, host: str, port: int, **options: Any) -> SimulatedConnection:
        """Return a connection, open; does what aiokafka's `create_conn` does."""
        return await self._connector.connect(host, port, **options)

    def close(self) -> None:
        """Forget the host."""
        seams.leave(self._host.loop)


class SimulatedConsumer(AIOKafkaConsumer):
    """A consumer whose held fetches end when it wants something else; see `fetches.py`."""

    def resume(self, *partitions: TopicPartition) -> None:
        """Do what aiokafka's does."""
        super().resume(*partitions)  # type: ignore[no-untyped-call]
        self._hurry()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Do what aiokafka's does."""
        super().seek(partition, offset)  # type: ignore[no-untyped-call]
        self._hurry()

    def _hurry(self) -> None:
        for connection in list(self._client._conns.values()):
            if isinstance(connection, SimulatedConnection):
                connection.hurry()

    def __del__(self, _warnings: Any = None) -> None:
        """Do nothing: a crashed process stops no client."""


class SimulatedProducer(AIOKafkaProducer):
    """A producer whose records have the host's time."""

    def __init__(self, host: Host, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._host = host

    async def send(  # noqa: PLR0917 - as aiokafka has it
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Any = None,
    ) -> Any:
        """Do what aiokafka's does."""
        if timestamp_ms is None:
            timestamp_ms = int(self._host.wall_clock() * 1000)
        return await super().send(topic, value, key, partition, timestamp_ms, headers)  # type: ignore[no-untyped-call]

    def __del__(self, _warnings: Any = None) -> None:
        """Do nothing: a crashed process stops no client."""
