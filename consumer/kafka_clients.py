"""Kafka clients that can be replaced: one that failed is built anew from the settings (promise P9).

aiokafka never goes back to the bootstrap servers, keeps the password and the certificates that it was given, and a
call that was cancelled leaves its dead connection in use. A new client has none of these faults.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.protocol.metadata import MetadataRequest

from consumer import kafka
from consumer.kafka_factory import AIOKAFKA, KafkaFactory
from consumer.settings import KafkaSettings

_log = structlog.get_logger("kafka_clients")

Client = TypeVar("Client", AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaAdminClient)


class ReplaceableClient(Generic[Client]):
    """One client at a time: connected when it is needed, replaced after it was discarded."""

    def __init__(self, build: Callable[[], Client], settings: KafkaSettings, *, timeout: float) -> None:
        """Have `build` make a client that is not started from the settings; to start it takes `timeout` seconds."""
        self._build: Callable[[], Client] = build
        self._settings = settings
        self._timeout = timeout
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._retired: set[asyncio.Task[None]] = set()

    async def get(self) -> Client:
        """Return the client, started.

        Raises:
            KafkaError, OSError: it cannot connect.
            Failure: the certificates cannot be loaded.
        """
        async with self._connecting:
            if self._client is None:
                self._client = await start(self._build, self._settings, self._timeout)
            return self._client

    def discard(self, client: Client) -> None:
        """Use this client no more; the next call builds another one."""
        if client is self._client:
            self._client = None
            task = asyncio.create_task(kafka.stop(client), name="kafka-stop")
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Client]:
        """Enclose calls with the client; one that fails, or is cancelled by a time-out, discards it.

        Raises:
            KafkaError, OSError, Failure: as `get`.
        """
        client = await self.get()
        try:
            yield client
        except BaseException:
            self.discard(client)
            raise

    async def close(self) -> None:
        """Stop the client, and those that were discarded, within about two seconds."""
        if self._client is not None:
            self.discard(self._client)
        if self._retired:
            await asyncio.wait(self._retired)


class ReplaceableProducer(ReplaceableClient[AIOKafkaProducer]):
    """A producer that is replaced when Kafka failed it several times in a row; a record that is refused is no reason.

    An idempotent one should not tolerate a single failure: a batch that failed leaves a gap in its sequence numbers.
    """

    def __init__(
        self,
        arguments: Callable[[], Mapping[str, Any]],
        settings: KafkaSettings,
        *,
        timeout: float,
        tolerated: int = 1,
        clients: KafkaFactory = AIOKAFKA,
    ) -> None:
        """Connect with these arguments; more than `tolerated` failures in a row replace the producer."""
        super().__init__(lambda: clients.producer(**arguments()), settings, timeout=timeout)
        self._tolerated = tolerated
        self._failures = 0

    @asynccontextmanager
    async def use(self) -> AsyncIterator[AIOKafkaProducer]:
        """Enclose the storing of records, several at a time if need be.

        Raises:
            KafkaError, OSError, Failure: as `get`.
        """
        producer = await self.get()
        try:
            yield producer
        except BaseException as error:
            if _is_clients(error):
                self._failures += 1
                if self._failures > self._tolerated:
                    self._failures = 0
                    _log.warning("kafka.producer_replaced", error=repr(error))
                    self.discard(producer)
            raise
        self._failures = 0


def _is_clients(error: BaseException) -> bool:
    """Return whether the client may be to blame: Kafka did not answer it, or a time-out cancelled the call."""
    if isinstance(error, KafkaError):
        return bool(error.retriable) or isinstance(error, KafkaTimeoutError)
    return isinstance(error, OSError | asyncio.CancelledError)


async def start(build: Callable[[], Client], settings: KafkaSettings, timeout: float) -> Client:  # noqa: ASYNC109
    """Return a started client, made from settings whose secrets were read again.

    Raises:
        KafkaError, OSError: it cannot connect, or not within `timeout` seconds.
        Failure: the certificates cannot be loaded.
    """
    await settings.sasl_password.reload()
    client = build()
    try:
        async with asyncio.timeout(timeout):
            await client.start()
    except BaseException:
        await kafka.stop(client)
        raise
    return client


async def partition_leaders(client: AIOKafkaAdminClient, topic: str) -> dict[int, int]:
    """Return the topic's partitions with the node that leads each, -1 where there is none; empty without the topic.

    Raises:
        KafkaError: no broker answered.
    """
    # `describe_topics` with a name creates a missing topic where the broker allows that, and without a name it is told
    # of every topic there is.
    request = MetadataRequest([topic], allow_auto_topic_creation=False)
    answer = await client._send_request(request)  # noqa: SLF001 - there is no public call that creates nothing
    (found,) = answer.to_object()["topics"]
    if found["error_code"]:
        return {}
    return {partition["partition"]: partition["leader"] for partition in found["partitions"]}
