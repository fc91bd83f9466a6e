"""Makes Kafka clients and connections: aiokafka's, unless the service is given others."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import KafkaError

from consumer.settings import KafkaSettings

_CONNECT_SECONDS: Final = 5.0


class KafkaFactory(Protocol):
    """Makes clients that are not started. The arguments are those of aiokafka's classes."""

    def consumer(self, **arguments: Any) -> AIOKafkaConsumer:
        """Return a consumer."""

    def producer(self, **arguments: Any) -> AIOKafkaProducer:
        """Return a producer."""

    def admin(self, **arguments: Any) -> AIOKafkaAdminClient:
        """Return an admin client."""

    async def connect(self, host: str, port: int, **arguments: Any) -> AIOKafkaConnection:
        """Return a connection to one broker that is open and logged in."""


class AiokafkaFactory(KafkaFactory):
    """Makes aiokafka's own clients."""

    def consumer(self, **arguments: Any) -> AIOKafkaConsumer:
        """Return a consumer."""
        return AIOKafkaConsumer(**arguments)

    def producer(self, **arguments: Any) -> AIOKafkaProducer:
        """Return a producer."""
        return AIOKafkaProducer(**arguments)

    def admin(self, **arguments: Any) -> AIOKafkaAdminClient:
        """Return an admin client."""
        return AIOKafkaAdminClient(**arguments)

    async def connect(self, host: str, port: int, **arguments: Any) -> AIOKafkaConnection:
        """Return a connection to one broker that is open and logged in."""
        connection: AIOKafkaConnection = await create_conn(host, port, **arguments)
        return connection


AIOKAFKA = AiokafkaFactory()


async def bootstrap_failure(
    kafka: KafkaSettings, arguments: Mapping[str, Any], clients: KafkaFactory = AIOKAFKA
) -> Exception | None:
    """Connect to the bootstrap servers at once until one answers, and return why none did, or None.

    aiokafka itself keeps the reasons to its log. `arguments` are those of `connection_arguments`.
    """
    own = {key: value for key, value in arguments.items() if key != "bootstrap_servers"}

    async def connect(host: str, port: int) -> Exception | None:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                connection = await clients.connect(host, port, request_timeout_ms=int(_CONNECT_SECONDS * 1000), **own)
        except (KafkaError, OSError) as error:
            return error
        await connection.close()
        return None

    hosts = collect_hosts(kafka.bootstrap_servers)
    failures = await asyncio.gather(*(connect(host, port) for host, port, _ in hosts))
    if not all(failures):
        return None
    return min(failures, key=lambda failure: isinstance(failure, TimeoutError))  # the most telling one first
