"""The dead-letter topic: records that cannot be synced, kept whole with the reason (`contract.md`, the topic)."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal, Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordTooLargeError
from msgspec import Struct

from consumer.clock import Clock
from consumer.masking import mask_addresses
from consumer.ops.metrics import Metrics

_log = structlog.get_logger("dead_letters")

Reason = Literal["malformed", "rejected", "exhausted"]

STORE_SECONDS: Final = 4.0
"""After which the producer gives a send up: a record it still kept would be stored beside its next attempt."""

_STORE_TIMEOUT: Final = 5.0
"""Seconds until storing counts as failed; the offset stays and it is tried again."""

_PREFIX: Final = "dead-letter-"


class Letter(Struct, frozen=True, kw_only=True):
    """A record on its way to the dead-letter topic. `value` is None also when the record could not be read again."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    truncated: bool = False


class DeadLetterError(Exception):
    """The dead-letter topic could not be written to. The record's offset must not move."""


class DeadLetters(Protocol):
    """Where dead letters go."""

    async def store(self, letter: Letter, reason: Reason, error: str, attempts: int) -> None:
        """Store the letter, and return once the broker acknowledged it.

        Raises:
            DeadLetterError: it was not stored.
        """


class DeadLetterTopic:
    """Dead letters as records of a topic: key, value and headers as they were, and headers that say why."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, *, metrics: Metrics, wall_clock: Clock) -> None:
        """Write with a started producer that gives up after `STORE_SECONDS`."""
        self._producer = producer
        self._topic = topic
        self._metrics = metrics
        self._wall_clock = wall_clock

    async def store(self, letter: Letter, reason: Reason, error: str, attempts: int) -> None:
        """Store the letter; a value too large to be produced again is left out."""
        at = datetime.fromtimestamp(self._wall_clock(), UTC).isoformat(timespec="milliseconds")
        marks = {
            "reason": reason,
            "error": mask_addresses(error)[:500],
            "topic": letter.topic,
            "partition": str(letter.partition),
            "offset": str(letter.offset),
            "attempts": str(attempts),
            "at": at,
        }
        original = [(name, value) for name, value in letter.headers if not name.startswith(_PREFIX)]
        headers = [(_PREFIX + name, value.encode()) for name, value in marks.items()]
        cut = [*headers, (f"{_PREFIX}truncated", b"true")]
        forms = [
            (letter.key, letter.value, [*original, *headers]),
            (letter.key, None, [*original, *cut]),
            # Nothing is too large to be told of: where even key and headers are, what is left says where it lies.
            # (aiokafka takes no record without both key and value.)
            (None, b"", cut),
        ]
        try:
            async with asyncio.timeout(_STORE_TIMEOUT):
                for form in forms[letter.truncated :]:
                    try:
                        await self._send(*form)
                        break
                    except (MessageSizeTooLargeError, RecordTooLargeError):
                        if form is forms[-1]:
                            raise
        except (KafkaError, TimeoutError) as failure:
            _log.error("dead_letter.not_stored", topic=self._topic, reason=reason, error=repr(failure))
            raise DeadLetterError(f"cannot write to {self._topic}") from failure
        self._metrics.dead_letters.labels(reason).inc()
        _log.warning(
            "dead_letter.stored", reason=reason, error=marks["error"], partition=letter.partition, offset=letter.offset
        )

    async def _send(self, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        await self._producer.send_and_wait(self._topic, value, key=key, headers=headers)
