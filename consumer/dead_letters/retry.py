"""Putting dead letters back into the topic of events."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from msgspec import Struct

from consumer import kafka
from consumer.dead_letters import retried
from consumer.dead_letters.stored import RETRIES_HEADER, Place, StoredLetter, Wanted
from consumer.failure import Failure
from consumer.replay.topics import TopicSource
from consumer.settings import Settings

_AT_ONCE: Final = 500
"""Letters put back between two commits: so many are put back twice at most when this is killed."""


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


async def letters(settings: Settings, times: Times = Times()) -> AsyncIterator[StoredLetter]:  # noqa: B008 - frozen
    """Yield the letters that are stored now. Raises `Failure`."""
    pointer = settings.kafka.value_pointer or ""
    topic = settings.kafka.dead_letter_topic
    async with TopicSource(settings.kafka, topic, since=times.since, until=times.until) as source:
        async for batch in source.batches():
            for record in batch:
                yield StoredLetter.of(record, pointer)


async def plan(settings: Settings, wanted: Wanted, times: Times, *, most_retries: int, again: bool) -> Plan:
    """Choose the letters to put back; those put back before only with `again`. Raises `Failure`."""
    done = await retried.load(settings)
    pointer = settings.kafka.value_pointer or ""
    chosen: set[Place] = set()
    reasons: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    open_letters: dict[int, set[int]] = {}
    async with TopicSource(settings.kafka, settings.kafka.dead_letter_topic) as source:
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


async def put_back(settings: Settings, plan: Plan) -> int:
    """Put the plan's letters back, remember it, and return how many there were: some may be gone from the log.

    Raises:
        Failure: Kafka refuses. What was put back until then is remembered.
    """
    topic = settings.kafka.topic
    partitions = (await kafka.topic_partitions(settings.kafka, {topic})).get(topic)
    if partitions is None:
        raise Failure(kafka.missing_topics(settings.kafka, {topic: "KAFKA_TOPIC"}))
    producer = AIOKafkaProducer(**kafka.producer_arguments(settings.kafka))
    count, batch = 0, list[StoredLetter]()
    try:
        await producer.start()
        async for letter in letters(settings):
            if letter.place in plan.chosen:
                batch.append(letter)
            if len(batch) == _AT_ONCE:
                count += await _store(settings, producer, plan, partitions, batch)
        count += await _store(settings, producer, plan, partitions, batch)
    except (KafkaError, OSError) as error:
        raise Failure(kafka.explain(settings.kafka, error)) from error
    finally:
        await producer.stop()
    return count


async def _store(
    settings: Settings, producer: AIOKafkaProducer, plan: Plan, partitions: int, batch: list[StoredLetter]
) -> int:
    sent = []
    for letter in batch:
        record = letter.record
        # The key decides, as for every producer here; without one the letter goes back where it came from.
        keyless = record.key is None and letter.partition is not None and letter.partition < partitions
        partition = letter.partition if keyless else None
        headers = [*letter.original_headers, (RETRIES_HEADER, b"%d" % (letter.retries + 1))]
        sent.append(await producer.send(settings.kafka.topic, record.value, record.key, partition, headers=headers))
    await asyncio.gather(*sent)
    for letter in batch:
        plan.open_letters.get(letter.place[0], set()).discard(letter.place[1])
    if batch:
        await retried.save(settings, plan.open_letters, plan.ends)
    count = len(batch)
    batch.clear()
    return count


def _within(timestamp: int, times: Times) -> bool:
    return (times.since is None or timestamp >= times.since) and (times.until is None or timestamp < times.until)


def _obstacle(letter: StoredLetter, topic: str, most_retries: int) -> str | None:
    if letter.topic != topic:
        return f"from another topic than {topic} (KAFKA_TOPIC)"
    if letter.truncated:
        return "without their value, which was too large to keep or gone from the log; `sync` their users instead"
    if letter.retries >= most_retries:
        return f"put back {most_retries} times before (--max-retries)"
    return None
