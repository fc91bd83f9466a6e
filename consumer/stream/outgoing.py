"""The records that the service stores: dead letters, and requests to sync a user again. In a dry run there are none."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Protocol

import structlog
from aiokafka.errors import KafkaError
from msgspec import Struct

from consumer import kafka, sync_requests
from consumer.clock import Clock
from consumer.failure import Failure
from consumer.kafka_clients import ReplaceableProducer
from consumer.kafka_factory import KafkaFactory
from consumer.masking import mask_addresses
from consumer.ops.metrics import Metrics
from consumer.settings import Settings
from consumer.stream.dead_letter_problems import Problem
from consumer.stream.dead_letters import STORE_SECONDS, DeadLetterTopic, Letter, Reason, user_of
from consumer.stream.late_writes import SyncRequestTopic

_log = structlog.get_logger("dry_run")

_LONGEST_ERROR: Final = 500


class DeadLetterStore(Protocol):
    """Where dead letters go, and what keeps them from being stored."""

    @property
    def problem(self) -> Problem | None:
        """Why a letter waits, and since when."""

    async def store(self, letter: Letter, reason: Reason, error: str, attempts: int) -> None:
        """Store the letter; see `consumer.stream.dead_letters.DeadLetters`."""


class Outgoing(Struct, frozen=True):
    """The ways to store a record."""

    dead_letters: DeadLetterStore
    request_sync: Callable[[str, int], Awaitable[None]]
    """Store a request to sync a user, in a partition."""


@asynccontextmanager
async def open_outgoing(
    settings: Settings, metrics: Metrics, clients: KafkaFactory, wall_clock: Clock
) -> AsyncIterator[Outgoing]:
    """Connect a producer; a dry run has none, so that nothing can be stored by mistake.

    Raises:
        Failure: Kafka is out of reach.
    """
    if settings.sync.dry_run:
        yield Outgoing(_UnwrittenDeadLetters(), _leave_out_request)
        return
    own = settings.kafka
    producer = ReplaceableProducer(
        lambda: kafka.letter_producer_arguments(own, STORE_SECONDS), own, timeout=STORE_SECONDS, clients=clients
    )
    try:
        try:
            await producer.get()
        except (KafkaError, OSError) as error:
            raise Failure(kafka.explain(own, error)) from error
        dead_letters = DeadLetterTopic(
            producer.use,
            own.dead_letter_topic,
            metrics=metrics,
            wall_clock=wall_clock,
            explain=partial(kafka.explain, own),
        )
        requests = SyncRequestTopic(
            producer.use, own.topic, partial(sync_requests.encode, settings, wall_clock=wall_clock)
        )
        yield Outgoing(dead_letters, requests.request_sync)
    finally:
        await producer.close()


class _UnwrittenDeadLetters:
    """Takes the letters of a dry run, so that their offsets advance."""

    problem: Problem | None = None

    async def store(self, letter: Letter, reason: Reason, error: str, attempts: int) -> None:
        """Log the letter that would be stored."""
        _log.info(
            "dead_letter.would_be_stored",
            user_id=user_of(letter),
            reason=reason,
            error=mask_addresses(error)[:_LONGEST_ERROR],
            partition=letter.partition,
            offset=letter.offset,
            attempts=attempts,
        )


async def _leave_out_request(user_id: str, partition: int) -> None:
    _log.info("sync_request.would_be_stored", user_id=user_id, partition=partition)
