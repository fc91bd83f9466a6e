import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from consumer.records.fetching import UndecodableRecord
from consumer.stream.dead_letters import DeadLetterError
from consumer.stream.pending import Waiting
from consumer.stream.record_lookup import RecordLookup
from tests.unit.stream.in_virtual_time import in_virtual_time


class Log:
    """A topic as a consumer outside any group sees it: the records of each partition, by offset."""

    def __init__(self, records: Mapping[int, Mapping[int, Any]]) -> None:
        self.records = records
        self.starts: dict[int, int] = {}
        self.silent: set[int] = set()
        self.raises: Exception | None = None
        self.started = self.stopped = self.polls = 0
        self._positions: dict[TopicPartition, int] = {}

    async def connect(self) -> AIOKafkaConsumer:
        self.started += 1
        await asyncio.sleep(0.1)
        return cast("AIOKafkaConsumer", self)

    async def stop(self) -> None:
        self.stopped += 1

    def assignment(self) -> set[TopicPartition]:
        return set(self._positions)

    def assign(self, places: list[TopicPartition]) -> None:
        self._positions = dict.fromkeys(places, 0)

    def seek(self, place: TopicPartition, offset: int) -> None:
        self._positions[place] = max(offset, self.starts.get(place.partition, 0))

    async def position(self, place: TopicPartition) -> int:
        return self._positions[place]

    async def getmany(
        self, *places: TopicPartition, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[Any]]:
        self.polls += 1
        await asyncio.sleep(timeout_ms / 1000)
        if self.raises is not None:
            raise self.raises
        found = {}
        for place in places:
            later = {o: r for o, r in self.records[place.partition].items() if o >= self._positions[place]}
            if later and place.partition not in self.silent:
                found[place] = [later[min(later)]]
                self._positions[place] = min(later) + 1
        return found


def record(partition: int, offset: int) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord("t", partition, offset, 0, 0, b"key", b"value %d" % offset, None, 3, 7, (("h", b"1"),))


def log(*partitions: int) -> Log:
    return Log({number: {offset: record(number, offset) for offset in range(10)} for number in partitions})


def waiting(partition: int, offset: int) -> Waiting:
    return Waiting(partition, offset, "none", 0.0, 0.0, False)


@in_virtual_time
async def test_records_of_all_partitions_are_looked_up_at_once_and_the_reader_stays() -> None:
    topic = log(0, 1, 2)
    lookup = RecordLookup("t", topic.connect)

    letters = await asyncio.gather(*(lookup.letter(waiting(number, 5)) for number in (0, 1, 2)))
    took = asyncio.get_running_loop().time()
    again = await lookup.letter(waiting(1, 6))

    assert [(letter.partition, letter.offset, letter.value) for letter in letters] == [
        (number, 5, b"value 5") for number in (0, 1, 2)
    ]
    assert took < 1
    assert (again.key, again.value, again.headers, again.truncated) == (b"key", b"value 6", (("h", b"1"),), False)
    assert (topic.started, topic.stopped) == (1, 0)
    await lookup.close()
    assert topic.stopped == 1


@in_virtual_time
async def test_several_records_of_one_partition_are_all_found() -> None:
    topic = log(0)
    lookup = RecordLookup("t", topic.connect)
    letters = await asyncio.gather(*(lookup.letter(waiting(0, offset)) for offset in (7, 2, 5, 2)))

    assert [letter.value for letter in letters] == [b"value 7", b"value 2", b"value 5", b"value 2"]


@pytest.mark.parametrize("start", [6, 10])
@in_virtual_time
async def test_k2_a_record_that_the_log_no_longer_holds_leaves_a_letter_that_is_truncated(start: int) -> None:
    topic = log(0)
    topic.starts[0] = start
    letter = await RecordLookup("t", topic.connect).letter(waiting(0, 5))

    assert (letter.partition, letter.offset) == (0, 5)
    assert (letter.key, letter.value, letter.truncated) == (None, None, True)


@in_virtual_time
async def test_k1_a_record_that_cannot_be_decoded_leaves_a_letter_that_is_truncated() -> None:
    topic = log(0)
    marks = ("t", 0, 5, -1, 0, None, None, None, -1, -1, ())
    topic.records = {0: {5: UndecodableRecord(*marks, last_offset=5, error="damaged")}}
    letter = await RecordLookup("t", topic.connect).letter(waiting(0, 5))

    assert (letter.value, letter.truncated) == (None, True)


@in_virtual_time
async def test_p5_a_partition_that_does_not_answer_costs_the_others_nothing() -> None:
    topic = log(0, 1)
    topic.silent = {0}
    lookup = RecordLookup("t", topic.connect)
    silent = asyncio.create_task(lookup.letter(waiting(0, 5)))
    other = await lookup.letter(waiting(1, 5))

    assert other.value == b"value 5"
    assert asyncio.get_running_loop().time() < 1
    with pytest.raises(DeadLetterError):
        await silent
    assert asyncio.get_running_loop().time() < 6


@in_virtual_time
async def test_k2_whatever_the_reader_raises_means_not_now_and_the_next_one_is_new() -> None:
    topic = log(0)
    topic.raises = AssertionError("not meant to happen")
    lookup = RecordLookup("t", topic.connect)
    with pytest.raises(DeadLetterError):
        await lookup.letter(waiting(0, 5))
    topic.raises = None

    assert (await lookup.letter(waiting(0, 5))).value == b"value 5"
    assert (topic.started, topic.stopped) == (2, 1)


@in_virtual_time
async def test_a_lookup_that_is_given_up_does_not_end_those_that_wait_with_it() -> None:
    topic = log(0, 1)
    lookup = RecordLookup("t", topic.connect)
    first = asyncio.create_task(lookup.letter(waiting(0, 5)))
    second = asyncio.create_task(lookup.letter(waiting(1, 5)))
    await asyncio.sleep(0.15)
    first.cancel()

    assert (await second).value == b"value 5"
    assert first.cancelled()
