"""Behaviours of a cluster with two nodes: topics are kept by one of them, groups by both."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from consumer import kafka, kafka_clients
from consumer.kafka import Committed
from tests.kafka_behaviour.real import RealWorld
from tests.kafka_behaviour.simulated import SimulatedWorld
from tests.kafka_behaviour.world import Listener, World, behaviour, eventually, read
from tests.kafka_broker import KafkaBroker

_REPLICATED = {
    "offsets.topic.replication.factor": "2",
    "leader.imbalance.check.interval.seconds": "1",  # a node that is back soon leads what it led before
    "leader.imbalance.per.broker.percentage": "0",
}
_LONG: dict[str, Any] = {"session_timeout_ms": 30_000, "rebalance_timeout_ms": 30_000, "metadata_max_age_ms": 500}


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[KafkaBroker, KafkaBroker]]:
    with KafkaBroker(_REPLICATED) as first, KafkaBroker(_REPLICATED, joins=first) as second:
        yield first, second


_WORLDS = [pytest.param("simulated", marks=pytest.mark.simulated), pytest.param("real", marks=pytest.mark.kafka)]


@pytest.fixture(params=_WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """In place of the one with a single node."""
    if request.param == "simulated":
        simulated = SimulatedWorld(1, nodes=2)
        yield simulated
        simulated.host.close()
    else:
        yield RealWorld(*request.getfixturevalue("nodes"))


@asynccontextmanager
async def _without_the_second(world: World, how: str) -> AsyncIterator[None]:
    await (world.kill(2) if how == "kill" else world.freeze(2))
    try:
        yield
    finally:
        await (world.restart(2) if how == "kill" else world.thaw(2))


async def _coordinated_by_the_second(world: World) -> str:
    """Return the name of a group that the second node coordinates."""
    admin, group = await world.admin(), ""

    async def found() -> bool:
        nonlocal group
        group = world.name()
        await kafka.group_members(admin, group)  # until it has a coordinator
        return await admin.find_coordinator(group) == 2

    await eventually(found, 60)
    return group


@behaviour
async def test_a_topics_partitions_are_led_by_both(world: World) -> None:
    leaders = await kafka_clients.partition_leaders(await world.admin(), await world.topic(4))
    assert sorted(leaders.values()) == [1, 1, 2, 2]


@behaviour
async def test_the_partitions_of_a_node_that_is_killed_have_no_leader_and_delay_no_other(world: World) -> None:
    topic, admin = await world.topic(4), await world.admin()
    leaders = await kafka_clients.partition_leaders(admin, topic)
    lost = {partition for partition, leader in leaders.items() if leader == 2}
    for partition in range(4):
        await world.write(topic, b"0", partition=partition)
    async with _without_the_second(world, "kill"):

        async def known() -> bool:
            try:
                found = await kafka_clients.partition_leaders(admin, topic)
            except KafkaError:
                return False  # the one that is down was asked
            return {partition for partition, leader in found.items() if leader == -1} == lost

        await eventually(known)
        consumer = await world.reader(topic, *range(4), position=0, metadata_max_age_ms=500)
        assert {record.partition for record in await read(consumer, 2)} == set(range(4)) - lost
        assert await consumer.getmany(timeout_ms=500) == {}

    assert {record.partition for record in await read(consumer, 2, 60)} == lost


@behaviour
async def test_a_frozen_node_delays_no_partition_of_the_other(world: World) -> None:
    topic, admin = await world.topic(4), await world.admin()
    leaders = await kafka_clients.partition_leaders(admin, topic)
    healthy = [partition for partition, leader in leaders.items() if leader == 1]
    consumer = await world.reader(topic, *range(4), position=0)
    for partition in range(4):
        await world.write(topic, b"0", partition=partition)
    await read(consumer, 4)
    producer = await world.producer()
    await producer.send_and_wait(topic, b"0", key=b"k", partition=healthy[0])
    await read(consumer, 1)
    async with _without_the_second(world, "freeze"):
        await producer.send_and_wait(topic, b"1", key=b"k", partition=healthy[0])
        assert [record.partition for record in await read(consumer, 1)] == [healthy[0]]

    for partition in range(4):
        await world.write(topic, b"1", partition=partition)
    assert {record.partition for record in await read(consumer, 4, 60)} == set(range(4))


@behaviour
async def test_a_group_whose_coordinator_is_killed_goes_on_at_the_other_node(world: World) -> None:
    topic, group = await world.topic(2), await _coordinated_by_the_second(world)
    first = await world.member(topic, group, None, **_LONG)
    second = await world.member(topic, group, None, **_LONG)
    await eventually(lambda: first.generation == second.generation == 2)
    place = TopicPartition(topic, first.partitions[0])
    await first.consumer.commit({place: (1, "before")})
    async with _without_the_second(world, "kill"):
        async with asyncio.timeout(60):
            await first.consumer.commit({place: (2, "after")})
        admin = await world.admin()
        assert await admin.find_coordinator(group) == 1
        found = await kafka.group_offsets(admin, group, topic, 2)
        assert found == {place.partition: Committed(2, "after")}
        assert await kafka.group_members(admin, group) == 2
        assert first.generation == second.generation == 2
        assert len(first.listener.events) == 4


class _Slow(Listener):
    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await super().on_partitions_revoked(revoked)
        if revoked:
            await asyncio.sleep(2)


@behaviour
async def test_a_rebalance_whose_coordinator_is_killed_is_begun_anew_at_the_other_node(world: World) -> None:
    topic, group = await world.topic(2), await _coordinated_by_the_second(world)
    first = await world.member(topic, group, _Slow(), **_LONG)
    consumer = await world.consumer(group, **_LONG)
    listener = Listener()
    consumer.subscribe([topic], listener=listener)
    await eventually(lambda: len(first.listener.events) == 3)
    async with _without_the_second(world, "kill"):
        await eventually(lambda: listener.assignments and len(first.partitions) == 1, 90)
        assert len(consumer.assignment()) == 1
        assert await kafka.group_members(await world.admin(), group) == 2
