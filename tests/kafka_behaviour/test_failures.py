import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError

from consumer import kafka, kafka_stopping
from consumer.kafka import Committed
from consumer.kafka_connections import ConnectionWatch
from consumer.kafka_factory import bootstrap_failure
from tests.kafka_behaviour.world import World, behaviour, eventually, read


@asynccontextmanager
async def _frozen(world: World) -> AsyncIterator[None]:
    await world.freeze()
    try:
        yield
    finally:
        await world.thaw()


@asynccontextmanager
async def _killed(world: World) -> AsyncIterator[None]:
    await world.kill()
    try:
        yield
    finally:
        await world.restart()


@behaviour
async def test_a_poll_of_a_frozen_broker_returns_nothing_and_records_come_when_it_goes_on(world: World) -> None:
    topic = await world.topic()
    consumer = await world.reader(topic, position=0)
    await world.write(topic, b"0")
    await read(consumer, 1)
    async with _frozen(world):
        await asyncio.sleep(0.5)
        assert await consumer.getmany(timeout_ms=500) == {}

    await world.write(topic, b"1")
    assert [record.offset for record in await read(consumer, 1)] == [1]


@behaviour
async def test_a_poll_while_the_broker_is_down_returns_nothing_and_records_come_when_it_is_back(world: World) -> None:
    topic = await world.topic()
    consumer = await world.reader(topic, position=0)
    await world.write(topic, b"0")
    await read(consumer, 1)
    async with _killed(world):
        assert await consumer.getmany(timeout_ms=1000) == {}

    await world.write(topic, b"1")
    assert [record.offset for record in await read(consumer, 1, 60)] == [1]


@behaviour
async def test_a_group_outlives_its_broker_and_no_member_is_told(world: World) -> None:
    topic, group = await world.topic(2), world.name()
    options = {"session_timeout_ms": 30_000, "rebalance_timeout_ms": 30_000}
    first = await world.member(topic, group, None, **options)
    second = await world.member(topic, group, None, **options)
    await eventually(lambda: first.generation == second.generation == 2)
    place = TopicPartition(topic, first.partitions[0])
    async with _killed(world):
        await asyncio.sleep(1)

    async with asyncio.timeout(30):
        await first.consumer.commit({place: (1, "again")})
    found = await kafka.group_offsets(await world.admin(), group, topic)
    assert found == {place.partition: Committed(1, "again")}
    assert (first.generation, len(first.listener.events)) == (2, 4)


@behaviour
async def test_a_commit_while_the_broker_is_down_does_not_return(world: World) -> None:
    topic = await world.topic()
    member = await world.member(topic, world.name())
    async with _killed(world):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await member.consumer.commit({TopicPartition(topic, 0): (1, "")})


@behaviour
async def test_a_new_client_cannot_start_while_the_broker_is_down(world: World) -> None:
    async with _killed(world):
        with pytest.raises(KafkaConnectionError):
            await world.consumer(world.name())
        settings = world.settings()
        failure = await bootstrap_failure(settings, kafka.connection_arguments(settings), world.factory)
    assert isinstance(failure, ConnectionRefusedError)


@behaviour
async def test_a_new_client_of_a_frozen_broker_waits_for_its_time_out(world: World) -> None:
    async with _frozen(world):
        settings = world.settings()
        failure = await bootstrap_failure(settings, kafka.connection_arguments(settings), world.factory)
    assert isinstance(failure, TimeoutError)


@behaviour
async def test_a_record_for_a_frozen_broker_is_given_up_after_the_time_of_a_request(world: World) -> None:
    topic = await world.topic()
    producer = await world.producer(request_timeout_ms=2000)
    await producer.send_and_wait(topic, b"0", key=b"k")
    async with _frozen(world):
        with pytest.raises(KafkaError) as failed:
            await producer.send_and_wait(topic, b"1", key=b"k")
        assert isinstance(failed.value, KafkaTimeoutError) or failed.value.retriable


@behaviour
async def test_a_client_of_a_frozen_broker_is_stopped_in_about_two_seconds(world: World) -> None:
    topic = await world.topic()
    member = await world.member(topic, world.name())
    loop = asyncio.get_running_loop()
    async with _frozen(world):
        await asyncio.sleep(0.5)
        began = loop.time()
        await kafka_stopping.stop(member.consumer)
        assert loop.time() - began < 4


@behaviour
async def test_a_connection_on_which_nothing_moves_is_closed_by_the_watch_and_made_anew(world: World) -> None:
    topic = await world.topic()
    await world.write(topic, b"0")
    consumer = await world.reader(topic, position=0)
    watch = ConnectionWatch(consumer, timeout=2.0, clock=asyncio.get_running_loop().time)
    await read(consumer, 1)
    before = set(consumer._client._conns.values())
    for _ in range(12):  # as long as the broker answers, connections stay
        watch.look()
        await consumer.getmany(timeout_ms=250)
    assert all(connection.connected() for connection in before)

    async with _frozen(world):
        for _ in range(14):
            watch.look()
            await consumer.getmany(timeout_ms=250)
        assert not any(connection.connected() for connection in before)

    await world.write(topic, b"1")
    assert [record.offset for record in await read(consumer, 1)] == [1]


@behaviour
async def test_a_member_of_a_frozen_broker_believes_in_its_partitions_and_goes_on_afterwards(world: World) -> None:
    topic, group = await world.topic(), world.name()
    member = await world.member(topic, group)
    place = TopicPartition(topic, 0)
    member.consumer.seek(place, 0)
    async with _frozen(world):
        await asyncio.sleep(5)
        assert member.partitions == [0]

    async def commits() -> bool:
        try:
            async with asyncio.timeout(5):
                await member.consumer.commit({place: (1, "")})
        except (KafkaError, TimeoutError):
            return False
        return True

    await eventually(commits, 60)
    assert await kafka.group_offsets(await world.admin(), group, topic) == {0: Committed(1, "")}


@behaviour
async def test_a_commit_on_a_connection_that_a_gateway_forgot_is_sent_again_after_the_time_of_a_request(
    world: World,
) -> None:
    topic, group = await world.topic(), world.name()
    loop = asyncio.get_running_loop()
    async with world.gateway() as forget:
        member = await world.member(topic, group, None, session_timeout_ms=30_000, request_timeout_ms=2000)
        place = TopicPartition(topic, 0)
        await member.consumer.commit({place: (1, "")})
        forget()
        began = loop.time()
        await member.consumer.commit({place: (2, "")})
        assert 1.5 < loop.time() - began < 15

        found = await kafka.group_offsets(await world.admin(), group, topic)
        assert found == {0: Committed(2, "")}
        assert member.generation == 1


@behaviour
async def test_a_poll_on_a_connection_that_a_gateway_forgot_waits_until_the_watch_closes_it(world: World) -> None:
    topic = await world.topic()
    async with world.gateway() as forget:
        consumer = await world.reader(topic, position=0)
        watch = ConnectionWatch(consumer, timeout=2.0, clock=asyncio.get_running_loop().time)
        await world.write(topic, b"0")
        await read(consumer, 1)
        forget()
        await world.write(topic, b"1")
        assert await consumer.getmany(timeout_ms=1000) == {}

        found: list[int] = []
        while not found:
            watch.look()
            for records in (await consumer.getmany(timeout_ms=250)).values():
                found += [record.offset for record in records]
        assert found == [1]
