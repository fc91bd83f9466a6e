"""Putting dead letters back into the topic of events, each once.

A Kafka transaction stores some letters together with the note that they were put back (`retried.py`): both or neither,
whenever this is killed. It bears the name of the group, so a second retry stops the one before it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerFenced
from msgspec import Struct

from consumer import kafka
from consumer.dead_letters import retried
from consumer.dead_letters.stored import RETRIES_HEADER, Place, StoredLetter, Wanted
from consumer.failure import Failure
from consumer.replay.topics import TopicSource
from consumer.settings import Settings

_AT_ONCE: Final = 500
_BYTES_AT_ONCE: Final = 4 << 20
"""Letters, and bytes of their values, in one transaction."""

_TRANSACTION_SECONDS: Final = 20.0
"""How long a transaction may take. When this is killed in the midst of one, whoever reads the topic's committed records
waits for so long at that place, or until the next retry."""

_FAREWELL_SECONDS: Final = 1.0

Report: TypeAlias = Callable[[str], object]


class Times(Struct, frozen=True):
    """Letters stored from `since` on and before `until`, in milliseconds."""

    since: int | None = None
    until: int | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """What a retry would do. `open_letters` and `ends` are what is remembered afterwards, less what is put back."""

    chosen: frozenset[Place]
    reasons: Mapping[str, int]
    left_out: Mapping[str, int]
    """How many of those asked for cannot be put back, by why."""
    open_letters: Mapping[int, set[int]]
    ends: Mapping[int, int]


async def letters(
    settings: Settings,
    times: Times = Times(),  # noqa: B008 - frozen
    *,
    report: Report | None = None,
) -> AsyncIterator[StoredLetter]:
    """Yield the letters that are stored now; `report` is told if some cannot be decoded. Raises `Failure`."""
    pointer = settings.kafka.value_pointer or ""
    topic = settings.kafka.dead_letter_topic
    async with TopicSource(settings.kafka, topic, since=times.since, until=times.until, report=report) as source:
        async for batch in source.batches():
            for record in batch:
                yield StoredLetter.of(record, pointer)


async def plan(
    settings: Settings, wanted: Wanted, times: Times, *, most_retries: int, again: bool, report: Report | None = None
) -> Plan:
    """Choose the letters to put back; those put back before only with `again`. Raises `Failure`.

    `report` is told if there are letters that cannot be decoded, which are never put back.
    """
    done = await retried.load(settings)
    pointer = settings.kafka.value_pointer or ""
    chosen: set[Place] = set()
    reasons: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    open_letters: dict[int, set[int]] = {}
    async with TopicSource(settings.kafka, settings.kafka.dead_letter_topic, report=report) as source:
        async for batch in source.batches():
            for record in batch:
                letter = StoredLetter.of(record, pointer)
                partition, offset = letter.place
                if letter.place not in done:
                    open_letters.setdefault(partition, set()).add(offset)
                elif not again:
                    continue
                if not (wanted.matches(letter) and _within(record.timestamp, times)):
                    continue
                if why := _obstacle(letter, settings.kafka.topic, most_retries):
                    left_out[why] += 1
                else:
                    chosen.add(letter.place)
                    reasons[letter.reason] += 1
        ends = source.ends
    return Plan(chosen=frozenset(chosen), reasons=reasons, left_out=left_out, open_letters=open_letters, ends=ends)


class PutBack:
    """The plan's letters on their way back. `count` may be looked at while it runs."""

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self.count = 0
        """Letters put back until now."""
        self._settings = settings
        self._left = set(plan.chosen)
        self._open = plan.open_letters
        self._ends = plan.ends
        self._partitions = 0

    async def run(self) -> None:
        """Put the letters back that are still in the log. Cancelled, it leaves the transaction in hand undone.

        Raises:
            Failure: Kafka refuses, or another retry began.
        """
        topic = self._settings.kafka.topic
        self._partitions = (await kafka.topic_partitions(self._settings.kafka, {topic})).get(topic, 0)
        if not self._partitions:
            raise Failure(kafka.missing_topics(self._settings.kafka, {topic: "KAFKA_TOPIC"}))
        try:
            async with _transactional(self._settings) as producer:
                await self._forget_what_is_done()
                batch, size = list[StoredLetter](), 0
                async for letter in letters(self._settings, report=lambda _: None):  # the plan's reading told
                    if letter.place not in self._left:
                        continue
                    batch.append(letter)
                    size += len(letter.record.value or b"")
                    if len(batch) == _AT_ONCE or size >= _BYTES_AT_ONCE:
                        await self._store(producer, batch)
                        batch, size = [], 0
                if batch:
                    await self._store(producer, batch)
        except ProducerFenced as error:
            raise Failure(
                "another retry of these dead letters began; `dead-letters list` shows what is left"
            ) from error
        except (KafkaError, OSError) as error:
            raise Failure(kafka.explain(self._settings.kafka, error)) from error

    async def _forget_what_is_done(self) -> None:
        """Leave out what another retry put back since the plan was made; from here on it can put back no more."""
        done = await retried.load(self._settings)
        for partition, offsets in self._open.items():
            since = {offset for offset in offsets if (partition, offset) in done}
            offsets.difference_update(since)
            self._left -= {(partition, offset) for offset in since}

    async def _store(self, producer: AIOKafkaProducer, batch: list[StoredLetter]) -> None:
        topic = self._settings.kafka.topic
        await producer.begin_transaction()
        try:
            async with asyncio.timeout(_TRANSACTION_SECONDS):
                sent = []
                for letter in batch:
                    record = letter.record
                    # The key decides, as for every producer here; without one the letter goes back where it came from.
                    keyless = (
                        record.key is None and letter.partition is not None and letter.partition < self._partitions
                    )
                    headers = [*letter.original_headers, (RETRIES_HEADER, b"%d" % (letter.retries + 1))]
                    partition = letter.partition if keyless else None
                    sent.append(await producer.send(topic, record.value, record.key, partition, headers=headers))
                await asyncio.gather(*sent)
                left = {partition: set(offsets) for partition, offsets in self._open.items()}
                for letter in batch:
                    left.get(letter.place[0], set()).discard(letter.place[1])
                notes = retried.commits(self._settings, left, self._ends)
                await producer.send_offsets_to_transaction(notes, retried.group_of(self._settings))
        except BaseException:
            with suppress(KafkaError, OSError, AssertionError):  # aiokafka asserts that it may; fenced, it may not
                async with asyncio.timeout(_FAREWELL_SECONDS):
                    await producer.abort_transaction()
            raise
        committing = asyncio.ensure_future(producer.commit_transaction())
        try:
            await asyncio.wait([committing], timeout=_TRANSACTION_SECONDS)
        finally:  # not cut short by a signal: whether it took effect would not be known
            async with asyncio.timeout(_TRANSACTION_SECONDS):
                await committing
            self._open = left
            self.count += len(batch)


@asynccontextmanager
async def _transactional(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        **kafka.producer_arguments(settings.kafka),
        transactional_id=retried.group_of(settings),
        transaction_timeout_ms=int(_TRANSACTION_SECONDS * 1000),
    )
    try:
        async with asyncio.timeout(_TRANSACTION_SECONDS):
            await producer.start()
        yield producer
    finally:
        await kafka.stop(producer)


def _within(timestamp: int, times: Times) -> bool:
    return (times.since is None or timestamp >= times.since) and (times.until is None or timestamp < times.until)


def _obstacle(letter: StoredLetter, topic: str, most_retries: int) -> str | None:
    if letter.topic != topic:
        return f"from another topic than {topic} (KAFKA_TOPIC)"
    if letter.truncated:
        return (
            "without their value, which was too large, could not be decoded or was gone from the log; "
            "`sync` their users instead"
        )
    if letter.retries >= most_retries:
        return f"put back {most_retries} times before (--max-retries)"
    return None
