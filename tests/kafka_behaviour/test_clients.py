import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.partitioner import DefaultPartitioner

from consumer import kafka, kafka_clients
from consumer.dead_letters import topic_check
from consumer.kafka_factory import bootstrap_failure
from tests.kafka_behaviour.world import World, behaviour, read


@behaviour
async def test_topics_are_counted_by_their_partitions_and_a_missing_one_is_left_out(world: World) -> None:
    topic, other = await world.topic(3), await world.topic()
    admin = await world.admin()

    assert await kafka.count_partitions(admin, [topic, other, "missing"]) == {topic: 3, other: 1}
    assert await kafka.count_partitions(admin, ["missing"]) == {}


@behaviour
async def test_the_leaders_of_a_topic_are_told_and_of_a_missing_one_none(world: World) -> None:
    topic = await world.topic(2)
    admin = await world.admin()

    assert await kafka_clients.partition_leaders(admin, topic) == {0: 1, 1: 1}
    assert await kafka_clients.partition_leaders(admin, "missing") == {}
    assert await kafka_clients.partition_leaders(admin, "missing") == {}


@behaviour
async def test_the_settings_of_a_topic_are_told(world: World) -> None:
    admin = await world.admin()

    assert await topic_check.faults(admin, await world.topic()) == []
    (fault,) = await topic_check.faults(admin, await world.topic(config={"cleanup.policy": "compact"}))
    assert "compact" in fault


@behaviour
async def test_a_record_is_stored_where_its_key_belongs_and_its_offset_is_told(world: World) -> None:
    topic = await world.topic(4)
    producer = await world.producer()
    stored = [await producer.send_and_wait(topic, b"v", key=b"user", headers=[("h", b"1")]) for _ in range(2)]

    assert [found.offset for found in stored] == [0, 1]
    assert {found.partition for found in stored} == {DefaultPartitioner()(b"user", [0, 1, 2, 3], [0, 1, 2, 3])}
    found = await read(await world.reader(topic, *range(4)), 2)
    assert [(record.key, record.value, record.headers) for record in found] == [(b"user", b"v", (("h", b"1"),))] * 2


@behaviour
async def test_a_record_can_be_stored_in_a_partition_of_choice(world: World) -> None:
    topic = await world.topic(3)
    producer = await world.producer()

    assert (await producer.send_and_wait(topic, b"v", key=b"k", partition=2)).partition == 2


@behaviour
async def test_a_record_with_neither_key_nor_value_goes_as_a_batch_of_its_own(world: World) -> None:
    topic = await world.topic()
    producer = await world.producer()
    await producer.partitions_for(topic)
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=None, headers=[("h", b"1")])
    batch.close()
    await (await producer.send_batch(batch, topic, partition=0))

    (found,) = await read(await world.reader(topic), 1)
    assert (found.key, found.value, found.headers) == (None, None, (("h", b"1"),))


@behaviour
async def test_a_record_larger_than_the_topic_takes_is_refused_and_the_next_one_is_stored(world: World) -> None:
    topic = await world.topic(config={"max.message.bytes": "2000"})
    producer = await world.producer()
    with pytest.raises(MessageSizeTooLargeError):
        await producer.send_and_wait(topic, b"v" * 3000, key=b"k")

    assert (await producer.send_and_wait(topic, b"v", key=b"k")).offset == 0


@behaviour
async def test_a_record_for_a_topic_that_is_missing_is_refused_in_the_time_of_a_request(world: World) -> None:
    producer = await world.producer(request_timeout_ms=2000)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(KafkaError):
        await producer.send_and_wait("missing", b"v", key=b"k")
    assert 1.5 < loop.time() - began < 8


@behaviour
async def test_first_and_last_offsets_are_asked_of_the_leader(world: World) -> None:
    topic = await world.topic(2)
    await world.write(topic, b"0", b"1")
    await world.remove_before(topic, 1)
    consumer = await world.consumer(world.name())
    places = [TopicPartition(topic, number) for number in range(2)]

    assert await consumer.beginning_offsets(places) == dict(zip(places, (1, 0), strict=True))
    assert await consumer.end_offsets(places) == dict(zip(places, (2, 0), strict=True))


@behaviour
async def test_a_bootstrap_server_that_answers_leaves_no_failure(world: World) -> None:
    settings = world.settings()
    assert await bootstrap_failure(settings, kafka.connection_arguments(settings), world.factory) is None
