"""Dismissing dead letters: they are not listed any more and never republished. Their records stay in the topic."""

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

from consumer.dead_letters import resolved
from consumer.dead_letters.retry import Report, Times, within
from consumer.dead_letters.stored import Place, StoredLetter, Wanted
from consumer.dead_letters.transaction import transaction, transactional
from consumer.replay.topics import TopicSource
from consumer.settings import Settings


class Dismissal(Struct, frozen=True, kw_only=True):
    """What would be dismissed. `others` are the letters that keep no mark, by partition."""

    chosen: frozenset[Place]
    reasons: Mapping[str, int]
    others: Mapping[int, frozenset[int]]
    ends: Mapping[int, int]


async def plan(settings: Settings, wanted: Wanted, times: Times, *, report: Report | None = None) -> Dismissal:
    """Choose the letters to dismiss among those that are not resolved.

    `report` is told if there are records that cannot be decoded. Raises `Failure`.
    """
    done = await resolved.load(settings)
    pointer = settings.kafka.value_pointer or ""
    chosen: set[Place] = set()
    reasons: Counter[str] = Counter()
    others: dict[int, set[int]] = {}
    async with TopicSource(settings.kafka, settings.kafka.dead_letter_topic, report=report) as source:
        async for batch in source.batches():
            for record in batch:
                letter = StoredLetter.of(record, pointer)
                if letter.place in done.dismissed:
                    continue
                if letter.place not in done and wanted.matches(letter) and within(record.timestamp, times):
                    chosen.add(letter.place)
                    reasons[letter.reason] += 1
                else:
                    others.setdefault(letter.place[0], set()).add(letter.place[1])
        ends = source.ends
    unmarked = {partition: frozenset(offsets) for partition, offsets in others.items()}
    return Dismissal(chosen=frozenset(chosen), reasons=reasons, others=unmarked, ends=ends)


async def dismiss(settings: Settings, dismissal: Dismissal) -> int:
    """Mark the chosen letters, all or none, and return how many. Raises `Failure`.

    What another command republished since the plan was made is left out.
    """
    async with transactional(settings) as producer:
        done = await resolved.load(settings)
        late = {place for place in dismissal.chosen if place in done}
        unmarked = {
            partition: {offset for offset in offsets if (partition, offset) not in done.dismissed}
            for partition, offsets in dismissal.others.items()
        }
        for partition, offset in late:
            if (partition, offset) not in done.dismissed:
                unmarked.setdefault(partition, set()).add(offset)
        async with transaction(producer):
            marks = resolved.commits(settings, unmarked, dismissal.ends)
            await producer.send_offsets_to_transaction(marks, resolved.dismissed_group(settings))
    return len(dismissal.chosen) - len(late)
