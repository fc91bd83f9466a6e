import asyncio
from collections.abc import Collection

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    OffsetMetadataTooLargeError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata

from consumer import kafka
from consumer.kafka import Committed
from tests.kafka_behaviour.world import Listener, World, behaviour, eventually


@behaviour
async def test_metadata_is_stored_and_only_the_admin_client_returns_it(world: World) -> None:
    topic, group = await world.topic(2), world.name()
    member = await world.member(topic, group)
    await member.consumer.commit({TopicPartition(topic, 0): (3, "what is done"), TopicPartition(topic, 1): (0, "")})
    admin = await world.admin()

    assert await member.consumer.committed(TopicPartition(topic, 0)) == 3
    assert await kafka.group_offsets(admin, group, topic) == {0: Committed(3, "what is done"), 1: Committed(0, "")}


@behaviour
async def test_metadata_has_at_most_4096_characters_and_other_partitions_are_committed(world: World) -> None:
    topic, group = await world.topic(3), world.name()
    member = await world.member(topic, group)
    with pytest.raises(OffsetMetadataTooLargeError):
        await member.consumer.commit(
            {
                TopicPartition(topic, 0): (1, "x" * 4096),
                TopicPartition(topic, 1): (1, "x" * 4097),
                TopicPartition(topic, 2): (1, "short"),
            }
        )

    found = await kafka.group_offsets(await world.admin(), group, topic)
    assert {partition: commit.offset for partition, commit in found.items()} == {0: 1, 2: 1}
    assert len(found[0].metadata) == 4096


@behaviour
async def test_a_commit_with_one_partition_of_others_fails_as_a_whole(world: World) -> None:
    topic, group = await world.topic(2), world.name()
    first = await world.member(topic, group)
    second = await world.member(topic, group)
    await eventually(lambda: len(first.partitions) == len(second.partitions) == 1)

    with pytest.raises(IllegalStateError):
        await first.consumer.commit({TopicPartition(topic, number): (1, "") for number in (0, 1)})

    assert await kafka.group_offsets(await world.admin(), group, topic) == {}


@behaviour
async def test_a_commit_of_an_older_generation_is_refused_and_the_member_joins_anew(world: World) -> None:
    topic, group = await world.topic(1), world.name()
    member = await world.member(topic, group, heartbeat_interval_ms=60_000, session_timeout_ms=60_000)
    coordinator = member.coordinator
    coordinator.generation -= 1

    with pytest.raises(CommitFailedError) as failed:
        await member.consumer.commit({TopicPartition(topic, 0): (1, "")})

    assert isinstance(failed.value.__cause__, IllegalGenerationError | UnknownMemberIdError)
    assert await kafka.group_offsets(await world.admin(), group, topic) == {}


@behaviour
async def test_a_generation_that_is_not_the_groups_is_illegal(world: World) -> None:
    topic, group = await world.topic(1), world.name()
    member = await world.member(topic, group, heartbeat_interval_ms=60_000, session_timeout_ms=60_000)
    coordinator = member.coordinator
    coordinator.generation += 1

    with pytest.raises(CommitFailedError) as failed:
        await member.consumer.commit({TopicPartition(topic, 0): (1, "")})

    assert isinstance(failed.value.__cause__, IllegalGenerationError)
    assert (coordinator.member_id, coordinator.generation) == ("", -1)
    await eventually(lambda: len(member.listener.events) == 4)


@behaviour
async def test_a_commit_in_the_name_of_an_unknown_member_is_refused(world: World) -> None:
    topic, group = await world.topic(1), world.name()
    member = await world.member(topic, group, heartbeat_interval_ms=60_000, session_timeout_ms=60_000)
    member.coordinator.member_id = "somebody"

    with pytest.raises(CommitFailedError) as failed:
        await member.consumer.commit({TopicPartition(topic, 0): (1, "")})

    assert isinstance(failed.value.__cause__, UnknownMemberIdError)


class _Committing(Listener):
    """Commits when it is told of a revocation."""

    consumer: AIOKafkaConsumer
    committed = 0

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await super().on_partitions_revoked(revoked)
        if revoked:
            await self.consumer.commit(dict.fromkeys(revoked, (7, "at the end")))
            self.committed += 1


@behaviour
async def test_a_commit_at_a_revocation_is_accepted_while_the_group_rebalances(world: World) -> None:
    topic, group = await world.topic(2), world.name()
    listener = _Committing()
    first = await world.member(topic, group, listener)
    listener.consumer = first.consumer

    await world.member(topic, group)
    await eventually(lambda: listener.committed)

    found = await kafka.group_offsets(await world.admin(), group, topic)
    assert found == {0: Committed(7, "at the end"), 1: Committed(7, "at the end")}


@behaviour
async def test_a_commit_renews_the_session_as_a_heartbeat_does(world: World) -> None:
    topic, group = await world.topic(1), world.name()
    member = await world.member(topic, group, session_timeout_ms=2000, heartbeat_interval_ms=60_000)
    place, admin = TopicPartition(topic, 0), await world.admin()
    for number in range(8):
        await asyncio.sleep(0.5)
        await member.consumer.commit({place: (number, "")})
    assert await kafka.group_members(admin, group) == 1

    await asyncio.sleep(3.5)
    assert await kafka.group_members(admin, group) == 0


@behaviour
async def test_somebody_who_is_no_member_may_commit_only_while_the_group_is_empty(world: World) -> None:
    topic, group = await world.topic(1), world.name()
    place = TopicPartition(topic, 0)
    outsider = await world.consumer(group)
    outsider.assign([place])
    await outsider.commit({place: (5, "by nobody")})
    admin = await world.admin()
    assert await kafka.group_offsets(admin, group, topic) == {0: Committed(5, "by nobody")}

    member = await world.member(topic, group)
    with pytest.raises(CommitFailedError) as failed:
        await outsider.commit({place: (1, "")})
    assert isinstance(failed.value.__cause__, UnknownMemberIdError)

    await member.consumer.stop()
    await outsider.commit({place: (2, "")})
    assert await kafka.group_offsets(admin, group, topic) == {0: Committed(2, "")}


@behaviour
async def test_a_partition_without_a_commit_is_named_with_offset_minus_one(world: World) -> None:
    topic = await world.topic(2)
    admin = await world.admin()
    places = [TopicPartition(topic, number) for number in range(2)]

    async def found() -> object:
        return await admin.list_consumer_group_offsets(world.prefix + "-unknown", partitions=places)

    await kafka.group_offsets(admin, world.prefix + "-unknown", topic)  # until there is a coordinator
    assert await found() == dict.fromkeys(places, OffsetAndMetadata(-1, ""))


@behaviour
async def test_a_commit_in_a_topic_that_is_gone_never_ends(world: World) -> None:
    topic, group = await world.topic(1), world.name()
    member = await world.member(topic, group)
    await world.delete_topic(topic)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await member.consumer.commit({TopicPartition(topic, 0): (1, "")})


@behaviour
async def test_a_topic_takes_the_groups_commits_with_it(world: World) -> None:
    topic, group = await world.topic(1), world.name()
    member = await world.member(topic, group)
    await member.consumer.commit({TopicPartition(topic, 0): (1, "")})
    await member.consumer.stop()

    await world.delete_topic(topic)
    await world.create_topic(topic, 1, {})

    admin = await world.admin()

    async def is_gone() -> bool:
        return await kafka.group_offsets(admin, group, topic) == {}

    await eventually(is_gone)


@behaviour
async def test_a_commit_waits_for_a_frozen_broker_and_takes_effect_though_it_was_given_up(world: World) -> None:
    topic, group = await world.topic(1), world.name()
    member = await world.member(topic, group)
    await member.consumer.commit({TopicPartition(topic, 0): (1, "")})
    await world.freeze()
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await member.consumer.commit({TopicPartition(topic, 0): (2, "")})
    finally:
        await world.thaw()
    admin = await world.admin()

    async def committed() -> bool:
        return await kafka.group_offsets(admin, group, topic) == {0: Committed(2, "")}

    await eventually(committed)
