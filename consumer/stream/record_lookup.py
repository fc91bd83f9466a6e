"""Reads one record again: what waits for a user is an offset, and a dead letter needs the whole record."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from consumer.stream.dead_letters import DeadLetterError, Letter
from consumer.stream.flight import Waiting
from consumer.stream.malformed import letter_of

_log = structlog.get_logger("record_lookup")

_TIMEOUT: Final = 10.0


class RecordLookup:
    """Looks records up with a consumer that is in no group, one at a time; dead letters are rare."""

    def __init__(self, topic: str, make_consumer: Callable[[], AIOKafkaConsumer]) -> None:
        """Read from this topic; `make_consumer` gives a new consumer without a group, not started."""
        self._topic = topic
        self._make_consumer = make_consumer
        self._turn = asyncio.Lock()

    async def letter(self, event: Waiting) -> Letter:
        """Return the event's record; without its value if the log no longer holds it.

        Raises:
            DeadLetterError: it cannot be read now.
        """
        try:
            async with self._turn, asyncio.timeout(_TIMEOUT):
                return await self._read(event)
        except (KafkaError, OSError) as error:
            _log.error("record_lookup.failed", partition=event.partition, offset=event.offset, error=repr(error))
            raise DeadLetterError("cannot read the record again") from error

    async def _read(self, event: Waiting) -> Letter:
        partition = TopicPartition(self._topic, event.partition)
        consumer = self._make_consumer()
        try:
            await consumer.start()
            consumer.assign([partition])
            first = (await consumer.beginning_offsets([partition]))[partition]
            if first <= event.offset:
                consumer.seek(partition, event.offset)
                record = await consumer.getone(partition)
                if record.offset == event.offset:
                    return letter_of(record)
        finally:
            await consumer.stop()
        return Letter(
            topic=self._topic, partition=event.partition, offset=event.offset, key=None, value=None, truncated=True
        )
