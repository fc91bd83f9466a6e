"""The dead-letter topic: records that cannot be synced, kept whole with the reason (`docs/contract.md`, the topic)."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Final, Literal, Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError
from msgspec import Struct

from consumer.clock import Clock
from consumer.masking import mask_addresses
from consumer.ops.metrics import Metrics
from consumer.printable import printable
from consumer.stream.dead_letter_problems import DeadLetterProblems, Problem

_log = structlog.get_logger("dead_letters")

Reason = Literal["malformed", "rejected", "exhausted"]

STORE_SECONDS: Final = 4.0
"""After which the producer gives a send up: a record it still kept would be stored beside its next attempt."""

_STORE_TIMEOUT: Final = 5.0
"""Seconds until storing counts as failed; the offset stays and it is tried again."""

_PREFIX: Final = "dead-letter-"
_LONGEST_ERROR: Final = 500
_LONGEST_USER: Final = 200


class Letter(Struct, frozen=True, kw_only=True):
    """A record on its way to the dead-letter topic.

    It is `truncated` when there is more of it than this: it could not be decoded, or is gone from the log. What is
    left of it must never be put back into the topic.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    truncated: bool = False

    @property
    def size(self) -> int:
        """Bytes of memory that its content takes, about."""
        headers = sum(len(name) + len(value or b"") for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


class DeadLetterError(Exception):
    """The dead-letter topic could not be written to. The record's offset must not move."""


class DeadLetters(Protocol):
    """Where dead letters go."""

    async def store(self, letter: Letter, reason: Reason, error: str, attempts: int) -> None:
        """Store the letter, and return once the broker acknowledged it.

        Raises:
            DeadLetterError: it was not stored.
        """


def user_of(letter: Letter) -> str | None:
    """Return the user id, which is the record's key, as it may be logged; None without a key."""
    if letter.key is None:
        return None
    return printable(mask_addresses(letter.key.decode(errors="replace")))[:_LONGEST_USER]


class DeadLetterTopic:
    """Dead letters as records of a topic: key, value and headers as they were, and headers that say why."""

    def __init__(
        self,
        producer: Callable[[], AbstractAsyncContextManager[AIOKafkaProducer]],
        topic: str,
        *,
        metrics: Metrics,
        wall_clock: Clock,
        explain: Callable[[BaseException], str] | None = None,
    ) -> None:
        """Write with the producer that `producer` encloses the use of: started, it gives up after `STORE_SECONDS`.

        `explain` words a failure of Kafka.
        """
        self._producer = producer
        self._topic = topic
        self._metrics = metrics
        self._wall_clock = wall_clock
        self._problems = DeadLetterProblems(topic, wall_clock, explain)

    @property
    def problem(self) -> Problem | None:
        """Why a letter could not be stored and waits, and since when; None while all are stored."""
        return self._problems.current

    async def store(self, letter: Letter, reason: Reason, error: str, attempts: int) -> None:
        """Store the letter, with as much of it as the topic takes: its value, its headers and its key may be left out.

        Whatever goes wrong means that it is not stored.
        """
        at = datetime.fromtimestamp(self._wall_clock(), UTC).isoformat(timespec="milliseconds")
        marks = {
            "reason": reason,
            "error": printable(mask_addresses(error))[:_LONGEST_ERROR],
            "topic": letter.topic,
            "partition": str(letter.partition),
            "offset": str(letter.offset),
            "attempts": str(attempts),
            "at": at,
        }
        place = (letter.topic, letter.partition, letter.offset)
        try:
            async with asyncio.timeout(_STORE_TIMEOUT):
                await self._store(letter, [(_PREFIX + name, value.encode()) for name, value in marks.items()])
        except asyncio.CancelledError as failure:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            # aiokafka's own, of a producer that is being closed.
            self._problems.failed(place, failure, has_key=letter.key is not None)
            raise DeadLetterError(f"cannot write to {self._topic}") from failure
        except Exception as failure:
            self._problems.failed(place, failure, has_key=letter.key is not None)
            raise DeadLetterError(f"cannot write to {self._topic}") from failure
        self._problems.stored(place)
        self._metrics.dead_letters.labels(reason).inc()
        _log.warning(
            "dead_letter.stored",
            user_id=user_of(letter),
            reason=reason,
            error=marks["error"],
            partition=letter.partition,
            offset=letter.offset,
        )

    async def _store(self, letter: Letter, marks: list[tuple[str, bytes]]) -> None:
        original = [(name, value) for name, value in letter.headers if not name.startswith(_PREFIX)]
        cut = [*marks, (f"{_PREFIX}truncated", b"true")]
        forms = [
            _Form(letter.key, letter.value, [*original, *marks]),
            _Form(letter.key, None, [*original, *cut]),
            _Form(letter.key, None, cut),
            _Form(None, None, cut),
        ]
        left = [form for number, form in enumerate(forms) if form not in forms[:number]][letter.truncated :]
        async with self._producer() as producer:
            await self._send_first(producer, left, letter.partition)

    async def _send_first(self, producer: AIOKafkaProducer, forms: "Sequence[_Form]", partition: int) -> None:
        """Store the first of these forms that is not too large."""
        for number, form in enumerate(forms, 1):
            try:
                await self._send(producer, form, partition)
            except (MessageSizeTooLargeError, RecordListTooLargeError) as failure:
                # aiokafka's frame, which has the value, has the future, too, which has the failure: a cycle that
                # keeps a megabyte for each letter until the garbage collector comes (measured: 300 of them).
                failure.__traceback__ = None
                if number == len(forms):
                    raise
            else:
                return

    async def _send(self, producer: AIOKafkaProducer, form: "_Form", partition: int) -> None:
        if form.key is not None or form.value is not None:
            await producer.send_and_wait(self._topic, form.value, key=form.key, headers=list(form.headers))
            return
        # `send` takes no record without both. The partition does not matter: spread them, and the same each time.
        partitions = sorted(await producer.partitions_for(self._topic))
        batch = producer.create_batch()
        batch.append(timestamp=None, key=None, value=None, headers=form.headers)
        batch.close()
        target = partitions[partition % len(partitions)]
        await (await producer.send_batch(batch, self._topic, partition=target))


class _Form(Struct, frozen=True):
    """A dead letter as a record, whole or with less of it."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
