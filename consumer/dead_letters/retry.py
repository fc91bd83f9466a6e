"""Putting dead letters back into the topic of events, each once.

A Kafka transaction stores some letters together with the mark that they were republished (`resolved.py`): both or
neither, whenever this is killed.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, TypeAlias

from aiokafka import AIOKafkaProducer
from msgspec import Struct

from consumer import kafka
from consumer.dead_letters import resolved
from consumer.dead_letters.stored import RETRIES_HEADER, Place, StoredLetter, Wanted
from consumer.dead_letters.transaction import Transaction, transaction, transactional
from consumer.failure import Failure
from consumer.replay.topics import TopicSource
from consumer.settings import Settings

_AT_ONCE: Final = 500
_BYTES_AT_ONCE: Final = 4 << 20
"""Letters, and bytes of their values, in one transaction."""

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
    """Choose the letters to put back; those put back before only with `again`, dismissed ones never. Raises `Failure`.

    `report` is told if there are letters that cannot be decoded, which are never put back.
    """
    done = await resolved.load(settings)
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
                if letter.place not in done.republished:
                    open_letters.setdefault(partition, set()).add(offset)
                elif not again:
                    continue
                if letter.place in done.dismissed:
                    continue
                if not (wanted.matches(letter) and within(record.timestamp, times)):
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
        async with transactional(self._settings) as producer:
            await self._forget_what_is_resolved()
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

    async def _forget_what_is_resolved(self) -> None:
        """Leave out what another command resolved since the plan was made; from here on it can resolve no more."""
        done = await resolved.load(self._settings)
        self._left -= {place for place in self._left if place in done.dismissed}
        for partition, offsets in self._open.items():
            since = {offset for offset in offsets if (partition, offset) in done.republished}
            offsets.difference_update(since)
            self._left -= {(partition, offset) for offset in since}

    async def _store(self, producer: AIOKafkaProducer, batch: list[StoredLetter]) -> None:
        topic = self._settings.kafka.topic
        left = {partition: set(offsets) for partition, offsets in self._open.items()}
        outcome = Transaction()
        try:
            async with transaction(producer) as outcome:
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
                for letter in batch:
                    left.get(letter.place[0], set()).discard(letter.place[1])
                marks = resolved.commits(self._settings, left, self._ends)
                await producer.send_offsets_to_transaction(marks, resolved.republished_group(self._settings))
        finally:
            if outcome.committed:
                self._open = left
                self.count += len(batch)


def within(timestamp: int, times: Times) -> bool:
    """Tell whether a record of this time, in milliseconds, is meant."""
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
