import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, OffsetOutOfRangeError

from consumer.records.fetching import UndecodableRecord
from tests.kafka_behaviour.world import World, behaviour, eventually, read
from tests.simulation.kafka import NewRecord


async def _position_is(consumer: AIOKafkaConsumer, topic: str, offset: int) -> None:
    place = TopicPartition(topic, 0)

    async def reached() -> bool:
        await consumer.getmany(timeout_ms=100)
        return bool(await consumer.position(place) == offset)

    await eventually(reached)


@behaviour
async def test_records_come_in_order_with_key_value_headers_and_offset(world: World) -> None:
    topic = await world.topic()
    await world.write_records(topic, 0, [NewRecord(b"a", b"0", [("h", b"1"), ("h", b"2")]), NewRecord(None, b"1")])
    await world.write_records(topic, 0, [NewRecord(b"b", None)])
    found = await read(await world.reader(topic), 3)

    assert [(record.offset, record.key, record.value) for record in found] == [
        (0, b"a", b"0"),
        (1, None, b"1"),
        (2, b"b", None),
    ]
    assert found[0].headers == (("h", b"1"), ("h", b"2"))
    assert all(record.timestamp > 1_600_000_000_000 for record in found)


@behaviour
async def test_a_poll_returns_at_most_max_records_and_the_next_one_goes_on(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, *(b"%d" % number for number in range(10)))
    consumer = await world.reader(topic)
    place = TopicPartition(topic, 0)
    first: list[int] = []
    while not first:
        first = [record.offset for record in (await consumer.getmany(timeout_ms=500, max_records=4)).get(place, [])]
    second = [record.offset for record in (await consumer.getmany(timeout_ms=500, max_records=4))[place]]

    assert (first, second) == ([0, 1, 2, 3], [4, 5, 6, 7])
    assert await consumer.position(place) == 8


@behaviour
async def test_a_poll_without_records_ends_with_its_time_out(world: World) -> None:
    consumer = await world.reader(await world.topic(), position=0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await consumer.getmany(timeout_ms=500) == {}
    assert 0.45 <= loop.time() - began < 2


@behaviour
async def test_a_poll_that_waits_gets_a_record_as_soon_as_it_is_written(world: World) -> None:
    topic = await world.topic()
    consumer = await world.reader(topic, position=0)
    poll = asyncio.create_task(consumer.getmany(timeout_ms=20_000))
    await asyncio.sleep(1)
    await world.write(topic, b"0")

    async with asyncio.timeout(10):
        assert len((await poll)[TopicPartition(topic, 0)]) == 1


@behaviour
async def test_the_marker_of_a_transaction_takes_an_offset_that_the_position_passes(world: World) -> None:
    topic = await world.topic()
    await world.transaction(topic, [b"0", b"1"], commit=True)
    consumer = await world.reader(topic)

    assert [record.offset for record in await read(consumer, 2)] == [0, 1]
    await _position_is(consumer, topic, 3)
    assert await consumer.end_offsets([TopicPartition(topic, 0)]) == {TopicPartition(topic, 0): 3}


@behaviour
async def test_an_aborted_transaction_is_passed_without_a_record(world: World) -> None:
    topic = await world.topic()
    await world.transaction(topic, [b"0", b"1"], commit=False)
    await world.write(topic, b"after")
    consumer = await world.reader(topic)

    assert [(record.offset, record.value) for record in await read(consumer, 1)] == [(3, b"after")]
    await _position_is(consumer, topic, 4)


@behaviour
async def test_an_aborted_transaction_at_the_end_moves_the_position_too(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, b"before")
    await world.transaction(topic, [b"1"], commit=False)
    consumer = await world.reader(topic)

    assert len(await read(consumer, 1)) == 1
    await _position_is(consumer, topic, 3)


@behaviour
async def test_an_open_transaction_holds_back_all_that_comes_after_it(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, b"0")
    await world.transaction(topic, [b"1"], commit=None)
    await world.write(topic, b"2")
    place = TopicPartition(topic, 0)
    consumer = await world.reader(topic)

    assert [record.offset for record in await read(consumer, 1)] == [0]
    assert await consumer.getmany(timeout_ms=500) == {}
    assert await consumer.end_offsets([place]) == {place: 1}
    assert consumer.highwater(place) == 3


@behaviour
async def test_a_reader_of_everything_gets_open_and_aborted_records(world: World) -> None:
    topic = await world.topic()
    await world.transaction(topic, [b"0"], commit=False)
    await world.transaction(topic, [b"2"], commit=None)
    consumer = await world.reader(topic, isolation_level="read_uncommitted")

    assert [record.offset for record in await read(consumer, 2)] == [0, 2]


@behaviour
async def test_compaction_leaves_gaps_and_the_log_still_begins_at_0(world: World) -> None:
    topic = await world.compacted_topic()
    place = TopicPartition(topic, 0)
    consumer = await world.reader(topic, position=0)

    assert await consumer.beginning_offsets([place]) == {place: 0}
    assert [(record.offset, record.value) for record in await read(consumer, 3)] == [(2, b"2"), (3, b"3"), (4, b"4")]
    await _position_is(consumer, topic, 5)


@behaviour
async def test_a_position_that_retention_has_passed_is_out_of_range(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, b"0", b"1", b"2")
    await world.remove_before(topic, 2)
    consumer = await world.reader(topic, position=0, auto_offset_reset="none")
    place = TopicPartition(topic, 0)
    for _ in range(2):
        with pytest.raises(OffsetOutOfRangeError):
            await read(consumer, 1)

    assert await consumer.beginning_offsets([place]) == {place: 2}
    consumer.seek(place, 2)
    assert [record.offset for record in await _after_errors(consumer)] == [2]


async def _after_errors(consumer: AIOKafkaConsumer) -> list[Any]:
    try:
        return await read(consumer, 1)
    except OffsetOutOfRangeError:
        return await read(consumer, 1)


@behaviour
async def test_a_reader_with_a_reset_policy_moves_to_the_start_that_retention_left(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, b"0", b"1", b"2")
    await world.remove_before(topic, 1)
    consumer = await world.reader(topic, position=0)

    assert [record.offset for record in await read(consumer, 2)] == [1, 2]


@behaviour
async def test_a_position_beyond_the_end_is_out_of_range(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, b"0")
    consumer = await world.reader(topic, position=5, auto_offset_reset="none")

    with pytest.raises(OffsetOutOfRangeError):
        await read(consumer, 1)


@behaviour
async def test_the_end_itself_is_no_position_out_of_range(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, b"0")
    consumer = await world.reader(topic, position=1, auto_offset_reset="none")

    assert await consumer.getmany(timeout_ms=2000) == {}
    assert consumer.highwater(TopicPartition(topic, 0)) == 1


@behaviour
async def test_a_seek_back_returns_records_again(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, b"0", b"1")
    consumer = await world.reader(topic, position=0)
    await read(consumer, 2)
    consumer.seek(TopicPartition(topic, 0), 1)

    assert await consumer.position(TopicPartition(topic, 0)) == 1
    assert [record.offset for record in await read(consumer, 1)] == [1]


@behaviour
async def test_a_paused_partition_returns_nothing_and_loses_nothing(world: World) -> None:
    topic = await world.topic(2)
    consumer = await world.reader(topic, 0, 1, position=0)
    place = TopicPartition(topic, 0)
    await world.write(topic, b"0", b"1", b"2")
    await world.write(topic, b"0", partition=1)
    assert (await consumer.getmany(place, timeout_ms=5000, max_records=1))[place][0].offset == 0

    consumer.pause(place)
    assert {record.partition for record in await read(consumer, 1)} == {1}
    assert await consumer.getmany(timeout_ms=500) == {}
    assert await consumer.position(place) == 1

    consumer.resume(place)
    assert [record.offset for record in await read(consumer, 2)] == [1, 2]


@behaviour
async def test_a_damaged_batch_is_reported_by_its_offsets_and_all_others_are_read(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, b"0")
    await world.write(topic, b"a value to damage", b"2")
    await world.write(topic, b"3")
    await world.damage(topic, 1, b"a value to damage")
    found = await read(await world.reader(topic), 3)

    assert [(record.offset, isinstance(record, UndecodableRecord)) for record in found] == [
        (0, False),
        (1, True),
        (3, False),
    ]
    assert found[1].last_offset == 2


@behaviour
async def test_a_cancelled_poll_leaves_the_idle_time_at_0_for_ever(world: World) -> None:
    topic = await world.topic()
    member = await world.member(topic, world.name())
    member.consumer.seek(TopicPartition(topic, 0), 0)
    poll = asyncio.create_task(member.consumer.getmany(timeout_ms=10_000))
    await asyncio.sleep(0.2)
    poll.cancel()
    await asyncio.wait([poll])
    await asyncio.sleep(1)
    assert member.consumer._subscription.fetcher_idle_time == 0

    await member.consumer.getmany(timeout_ms=0)
    assert member.consumer._subscription.fetcher_idle_time == 0


@behaviour
async def test_a_topic_made_anew_ends_below_the_position(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, b"0", b"1")
    consumer = await world.reader(topic, position=0, auto_offset_reset="none", metadata_max_age_ms=500)
    await read(consumer, 2)

    await world.delete_topic(topic)
    await world.create_topic(topic, 1, {})

    async def is_out_of_range() -> bool:
        try:
            await consumer.getmany(timeout_ms=200)
        except OffsetOutOfRangeError:
            return True
        return False

    await eventually(is_out_of_range)


@behaviour
async def test_the_partitions_of_a_topic_that_is_deleted_are_forgotten(world: World) -> None:
    topic = await world.topic(2)
    member = await world.member(topic, world.name(), metadata_max_age_ms=500)
    assert member.consumer.partitions_for_topic(topic) == {0, 1}

    await world.delete_topic(topic)

    await eventually(lambda: not member.consumer.partitions_for_topic(topic))


@behaviour
async def test_a_partition_of_others_has_no_position(world: World) -> None:
    topic = await world.topic(2)
    consumer = await world.reader(topic, 0, position=0)
    place = TopicPartition(topic, 1)
    with pytest.raises(IllegalStateError):
        await consumer.position(place)
    with pytest.raises(IllegalStateError):
        consumer.pause(place)
    with pytest.raises(IllegalStateError):
        consumer.seek(place, 0)


@behaviour
async def test_a_stopped_consumer_polls_no_more(world: World) -> None:
    consumer = await world.reader(await world.topic(), position=0)
    poll = asyncio.create_task(consumer.getmany(timeout_ms=60_000))
    await asyncio.sleep(0.1)
    await consumer.stop()

    assert await poll == {}
    with pytest.raises(ConsumerStoppedError):
        await consumer.getmany()


@behaviour
async def test_many_partitions_of_a_reader_are_read_at_once(world: World) -> None:
    topic = await world.topic(5)
    for number in range(5):
        await world.write(topic, b"%d" % number, partition=number)
    consumer = await world.reader(topic, *range(5))

    assert sorted(record.partition for record in await read(consumer, 5)) == [0, 1, 2, 3, 4]
