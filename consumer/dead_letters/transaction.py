"""The Kafka transaction in which dead letters are republished or dismissed: both commands share its name.

A command that begins one stops every other that is under way: the broker refuses the older producer.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerFenced

from consumer import kafka
from consumer.dead_letters import resolved
from consumer.failure import Failure
from consumer.settings import Settings

TRANSACTION_SECONDS: Final = 20.0
"""How long a transaction may take. If the command is killed during one, readers of the topic's committed records wait
that long at that place, or until the next command."""

_FAREWELL_SECONDS: Final = 1.0


@asynccontextmanager
async def transactional(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """Enclose transactions. Raises `Failure` when Kafka refuses, or another command began."""
    producer = AIOKafkaProducer(
        **kafka.producer_arguments(settings.kafka),
        transactional_id=resolved.republished_group(settings),
        transaction_timeout_ms=int(TRANSACTION_SECONDS * 1000),
    )
    try:
        async with asyncio.timeout(TRANSACTION_SECONDS):
            await producer.start()
        yield producer
    except ProducerFenced as error:
        raise Failure(
            "another retry or dismissal of these dead letters began; `dead-letters list` shows what is left"
        ) from error
    except (KafkaError, OSError) as error:
        raise Failure(kafka.explain(settings.kafka, error)) from error
    finally:
        await kafka.stop(producer)


class Transaction:
    """Whether it took effect, which is known after its block, even if the commit was cancelled."""

    committed = False


@asynccontextmanager
async def transaction(producer: AIOKafkaProducer) -> AsyncIterator[Transaction]:
    """Commit what the block stored, or nothing of it; a cancellation during the block undoes it."""
    outcome = Transaction()
    await producer.begin_transaction()
    try:
        async with asyncio.timeout(TRANSACTION_SECONDS):
            yield outcome
    except BaseException:
        with suppress(KafkaError, OSError, AssertionError):  # aiokafka asserts that it may; fenced, it may not
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await producer.abort_transaction()
        raise
    committing = asyncio.ensure_future(producer.commit_transaction())
    try:
        await asyncio.wait([committing], timeout=TRANSACTION_SECONDS)
    finally:  # not cut short by a signal: whether it took effect would not be known
        async with asyncio.timeout(TRANSACTION_SECONDS):
            await committing
        outcome.committed = True
