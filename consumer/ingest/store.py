"""The topic's end of `ingest`: an event is stored when the broker says so, or it is not."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordTooLargeError
from msgspec import Struct

from consumer import kafka, kafka_clients, kafka_outlook
from consumer.failure import Failure
from consumer.ingest.metrics import IngestMetrics
from consumer.kafka_outlook import KafkaOutage
from consumer.ops.tracing import Carried
from consumer.settings import KafkaSettings

_log = structlog.get_logger("ingest")

STORE_SECONDS: Final = 4.0
"""Until an event that is not acknowledged counts as not stored: Sesamy wants its answer within a few seconds."""

_LOOK_EVERY: Final = 2.0
_CALL_SECONDS: Final = 5.0
_UNANSWERED: Final = 2
"""Questions in a row that no broker answered, after which the producer is replaced."""


class Place(Struct, frozen=True):
    """Where an event is. The offset is -1 where the broker knew the event already and not where."""

    partition: int
    offset: int


class NotStored(Exception):
    """The broker did not take the event, or did not say so in time; it may be there all the same."""


class TooLarge(Exception):
    """The topic takes no record of this size."""


class Store(Protocol):
    """Where events go."""

    async def put(self, user_id: str, value: bytes, trace: Carried | None) -> Place:
        """Store the event, with the trace context that it came with, and return once the broker acknowledged it.

        Raises:
            NotStored: it did not within `STORE_SECONDS`.
            TooLarge: it never will.
        """


class TopicStore:
    """Appends events to the topic, keyed by user, through one idempotent producer at a time.

    A batch that fails leaves a gap in its producer's sequence numbers, and the broker takes nothing more for that
    partition from this producer (aiokafka 0.14 starts no new epoch): `run` puts another one in its place, made from
    the settings with secrets and certificates read again. It does the same for one that no broker answers.
    """

    def __init__(self, settings: KafkaSettings, metrics: IngestMetrics) -> None:
        self.away: str | None = None
        """Why the broker takes no events, as far as is known; None when it does."""
        self.ticked_at = 0.0
        """The loop's time at which `run` last took a turn."""
        self._settings = settings
        self._metrics = metrics
        self._producer: AIOKafkaProducer
        self._failed: AIOKafkaProducer | None = None
        self._unanswered = 0
        self._outage = KafkaOutage(asyncio.get_running_loop().time)
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Connect.

        Raises:
            Failure: Kafka is out of reach, or has no such topic.
        """
        topic = self._settings.topic
        if topic not in await kafka.topic_partitions(self._settings, {topic}):
            raise Failure(kafka.missing_topics(self._settings, {topic: "KAFKA_TOPIC"}))
        try:
            self._producer = await self._connect()
        except (KafkaError, OSError) as error:
            raise Failure(kafka.explain(self._settings, error)) from error
        self._tick()
        self._metrics.ready.set(1)

    async def run(self) -> None:
        """Watch the broker and replace a producer that failed, until cancelled.

        Raises:
            Failure: Kafka took no event for five minutes, while it served others.
        """
        async with asyncio.TaskGroup() as retired:
            while True:
                self._tick()
                if self._failed is self._producer or self._unanswered >= _UNANSWERED:
                    await self._replace(lambda old: retired.create_task(kafka.stop(old, STORE_SECONDS)))
                else:
                    self._tell(await self._look())
                if self.away is None:
                    self._outage.over()
                else:
                    self._tick()
                    self._outage.see(await kafka_outlook.look(self._settings), self.away)
                self._wake.clear()
                try:
                    async with asyncio.timeout(_LOOK_EVERY):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def close(self) -> None:
        """Disconnect. What is not acknowledged yet is given a second."""
        await kafka.stop(self._producer, 1.0)

    async def put(self, user_id: str, value: bytes, trace: Carried | None) -> Place:
        """Store the event under the key that makes all of a user's events share a partition (`docs/contract.md`)."""
        producer = self._producer
        try:
            async with asyncio.timeout(STORE_SECONDS):
                headers = trace.headers if trace else None
                stored = await producer.send_and_wait(
                    self._settings.topic, value, key=user_id.encode(), headers=headers
                )
        except (KafkaError, OSError) as error:
            self._failed = producer
            self._wake.set()
            if isinstance(error, MessageSizeTooLargeError | RecordTooLargeError):
                raise TooLarge from error
            reason = kafka.explain(self._settings, error)
            self._tell(reason)
            raise NotStored(reason) from error
        self._metrics.last_stored.set_to_current_time()
        self._tell(None)
        return Place(stored.partition, stored.offset)

    async def _connect(self) -> AIOKafkaProducer:
        def build() -> AIOKafkaProducer:
            return AIOKafkaProducer(**kafka.producer_arguments(self._settings))

        return await kafka_clients.start(build, self._settings, _CALL_SECONDS)

    async def _replace(self, retire: Callable[[AIOKafkaProducer], object]) -> None:
        try:
            fresh = await self._connect()
        except (KafkaError, OSError, Failure) as error:
            self._tell(str(error) if isinstance(error, Failure) else kafka.explain(self._settings, error))
            return
        old, self._producer = self._producer, fresh
        self._unanswered = 0
        retire(old)
        self._metrics.producers_replaced.inc()
        _log.warning("ingest.producer_replaced")

    async def _look(self) -> str | None:
        """Ask the broker for the topic, so that recovery shows even when a load balancer sends nothing more."""
        client = self._producer.client
        self._unanswered += 1
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                answered = await client.force_metadata_update()
        except TimeoutError as error:
            return kafka.explain(self._settings, error)
        if not answered:
            return f"no broker answers at {self._settings.bootstrap_servers} (KAFKA_BOOTSTRAP_SERVERS)"
        self._unanswered = 0
        if not client.cluster.available_partitions_for_topic(self._settings.topic):
            return f"topic {self._settings.topic} (KAFKA_TOPIC) has no partition that takes records"
        return None

    def _tick(self) -> None:
        self.ticked_at = asyncio.get_running_loop().time()

    def _tell(self, reason: str | None) -> None:
        if (reason is None) != (self.away is None):
            self._metrics.ready.set(reason is None)
            if reason is None:
                _log.info("ingest.broker_back")
            else:
                _log.error("ingest.broker_away", reason=reason)
        self.away = reason
