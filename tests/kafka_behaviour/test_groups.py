import asyncio
from collections.abc import Collection
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import CommitFailedError, MemberIdRequired, NoOffsetForPartitionError, RebalanceInProgressError
from aiokafka.protocol.group import JoinGroupRequest

from consumer import kafka
from tests.kafka_behaviour.world import SESSION, Listener, Member, World, behaviour, eventually, read

_NOT_STATIC: Any = None


@behaviour
async def test_a_member_alone_is_first_revoked_nothing_and_then_gets_all_partitions(world: World) -> None:
    topic = await world.topic(3)
    member = await world.member(topic, world.name())

    assert member.listener.events == [("revoked", []), ("assigned", [0, 1, 2])]
    assert member.generation == 1


@behaviour
async def test_a_second_member_has_everything_of_the_first_revoked_and_the_partitions_shared(world: World) -> None:
    topic, group = await world.topic(4), world.name()
    first = await world.member(topic, group)
    second = await world.member(topic, group)

    await eventually(lambda: len(first.listener.events) == 4)
    assert first.listener.events[2] == ("revoked", [0, 1, 2, 3])
    assert len(first.partitions) == len(second.partitions) == 2
    assert sorted(first.partitions + second.partitions) == [0, 1, 2, 3]
    assert first.generation == second.generation == 2


@behaviour
async def test_a_kept_partition_is_rewound_to_the_last_commit(world: World) -> None:
    topic, group = await world.topic(1), world.name()
    await world.write(topic, b"0", b"1", b"2")
    first = await world.member(topic, group)
    place = TopicPartition(topic, 0)
    first.consumer.seek(place, 0)
    await read(first.consumer, 3)
    await first.consumer.commit({place: (1, "")})

    second = await world.member(topic, group)
    await eventually(lambda: first.generation == second.generation == 2)
    owner = first if first.partitions else second

    assert await owner.consumer.position(place) == 1
    assert [record.offset for record in await read(owner.consumer, 2)] == [1, 2]


@behaviour
async def test_a_partition_without_a_commit_has_no_position_and_a_poll_says_so_once_at_a_time(world: World) -> None:
    topic = await world.topic(1)
    await world.write(topic, b"0")
    member = await world.member(topic, world.name())
    for _ in range(2):
        with pytest.raises(NoOffsetForPartitionError):
            await read(member.consumer, 1)
    member.consumer.seek(TopicPartition(topic, 0), 0)
    await eventually(lambda: _polled(member.consumer))


async def _polled(consumer: AIOKafkaConsumer) -> bool:
    try:
        return bool(await consumer.getmany(timeout_ms=200))
    except NoOffsetForPartitionError:
        return False


@behaviour
async def test_a_rebalance_forgets_pauses(world: World) -> None:
    topic, group = await world.topic(2), world.name()
    first = await world.member(topic, group)
    first.consumer.pause(*first.consumer.assignment())
    assert len(first.consumer.paused()) == 2

    await world.member(topic, group)
    await eventually(lambda: first.generation == 2 and len(first.partitions) == 1)

    assert first.consumer.paused() == set()


class _Failing(Listener):
    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await super().on_partitions_revoked(revoked)
        raise RuntimeError("revoked")

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        await super().on_partitions_assigned(assigned)
        raise RuntimeError("assigned")


@behaviour
async def test_what_a_listener_raises_is_swallowed(world: World) -> None:
    topic, group = await world.topic(2), world.name()
    await world.write(topic, b"0")
    first = await world.member(topic, group, _Failing())
    for place in first.consumer.assignment():
        first.consumer.seek(place, 0)
    assert await read(first.consumer, 1)

    second = await world.member(topic, group)
    await eventually(lambda: len(first.listener.events) == 4)
    assert len(first.partitions) == len(second.partitions) == 1


@behaviour
async def test_stop_calls_no_listener_and_leaves_the_group_at_once(world: World) -> None:
    topic, group = await world.topic(2), world.name()
    first = await world.member(topic, group, session_timeout_ms=60_000, rebalance_timeout_ms=60_000)
    second = await world.member(topic, group, session_timeout_ms=60_000, rebalance_timeout_ms=60_000)
    await eventually(lambda: len(first.listener.events) == 4)

    await first.consumer.stop()

    await eventually(lambda: second.partitions == [0, 1])
    assert len(first.listener.events) == 4


@behaviour
async def test_a_member_that_vanishes_keeps_its_partitions_until_its_session_is_over(world: World) -> None:
    topic, group = await world.topic(2), world.name()
    first = await world.member(topic, group)
    second = await world.member(topic, group)
    await eventually(lambda: first.generation == second.generation == 2)

    await first.vanish()
    await asyncio.sleep(1.0)
    assert len(second.partitions) == 1

    await eventually(lambda: second.partitions == [0, 1])


class _Slow(Listener):
    """Takes its time."""

    def __init__(self, *, revoked: float = 0.0, assigned: float = 0.0) -> None:
        super().__init__()
        self.revoked, self.assigned = revoked, assigned
        self.done = 0

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await super().on_partitions_revoked(revoked)
        if revoked:
            await asyncio.sleep(self.revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        await super().on_partitions_assigned(assigned)
        await asyncio.sleep(self.assigned)
        self.done += 1


@behaviour
async def test_a_poll_returns_records_before_the_listener_of_the_assignment_has_returned(world: World) -> None:
    topic, group = await world.topic(1), world.name()
    await world.write(topic, b"0")
    listener = _Slow(assigned=2.0)
    member = await world.member(topic, group, listener)
    member.consumer.seek(TopicPartition(topic, 0), 0)

    assert await read(member.consumer, 1, 1.5)
    assert listener.done == 0


@behaviour
async def test_no_heartbeats_are_sent_while_a_listener_of_an_assignment_runs(world: World) -> None:
    topic, group = await world.topic(1), world.name()
    listener = _Slow(assigned=4.5)
    member = await world.member(topic, group, listener)
    admin = await world.admin()

    assert await kafka.group_members(admin, group) == 1
    await asyncio.sleep(4.0)
    assert await kafka.group_members(admin, group) == 0

    listener.assigned = 0.0
    await eventually(lambda: len(listener.events) == 4)
    assert member.generation == 3  # the second one was that of an empty group


@behaviour
async def test_heartbeats_go_on_while_a_listener_of_a_revocation_runs(world: World) -> None:
    topic, group = await world.topic(2), world.name()
    listener = _Slow(revoked=5.0)
    options: dict[str, Any] = {"session_timeout_ms": 3000, "rebalance_timeout_ms": 10_000}
    first = await world.member(topic, group, listener, **options)
    second = await world.member(topic, group, **options)
    await eventually(lambda: len(first.listener.events) == 4)

    assert first.generation == second.generation == 2
    assert len(first.partitions) == 1


@behaviour
async def test_a_member_that_comes_back_after_the_rebalance_time_out_has_been_left_behind(world: World) -> None:
    topic, group = await world.topic(2), world.name()
    listener = _Slow(revoked=6.0)
    first = await world.member(topic, group, listener)
    second = await world.member(topic, group)

    assert second.partitions == [0, 1]
    assert first.listener.events[-1][0] == "revoked"
    listener.revoked = 0.0
    await eventually(lambda: len(second.partitions) == len(first.partitions) == 1)


@behaviour
async def test_added_partitions_are_noticed_and_assigned(world: World) -> None:
    topic = await world.topic(1)
    member = await world.member(topic, world.name(), metadata_max_age_ms=500)

    await world.add_partitions(topic, 3)

    await eventually(lambda: member.partitions == [0, 1, 2])
    assert [event for event, _ in member.listener.events] == ["revoked", "assigned", "revoked", "assigned"]


@behaviour
async def test_a_member_alone_that_rejoins_begins_a_generation(world: World) -> None:
    topic = await world.topic(1)
    member = await world.member(topic, world.name())

    member.coordinator.request_rejoin()

    await eventually(lambda: len(member.listener.events) == 4)
    assert member.listener.events[2:] == [("revoked", [0]), ("assigned", [0])]
    assert member.generation == 2


@behaviour
async def test_a_follower_that_rejoins_stays_in_its_generation_and_disturbs_nobody(world: World) -> None:
    topic, group = await world.topic(2), world.name()
    first = await world.member(topic, group)
    second = await world.member(topic, group)
    await eventually(lambda: first.generation == second.generation == 2)
    told = len(first.listener.events)

    second.coordinator.request_rejoin()

    await eventually(lambda: len(second.listener.events) == 4)
    await asyncio.sleep(1.5)
    assert second.generation == 2
    assert len(second.partitions) == 1
    assert len(first.listener.events) == told


@behaviour
async def test_a_member_that_was_expelled_finds_out_by_its_next_heartbeat_and_joins_as_another(world: World) -> None:
    topic, group = await world.topic(1), world.name()
    member = await world.member(topic, group)
    before = member.coordinator.member_id
    other: Any = (await world.consumer(group))._coordinator
    other.member_id, other.generation = before, 1
    await other.ensure_coordinator_known()
    await other._maybe_leave_group()  # in the name of the first

    await eventually(lambda: len(member.listener.events) == 4)
    assert member.coordinator.member_id not in {before, ""}


@behaviour
async def test_a_group_is_described_with_as_many_members_as_it_has(world: World) -> None:
    topic, group = await world.topic(2), world.name()
    admin = await world.admin()
    assert await kafka.group_members(admin, group) == 0
    first = await world.member(topic, group)
    await world.member(topic, group)
    assert await kafka.group_members(admin, group) == 2

    await first.consumer.stop()
    assert await kafka.group_members(admin, group) == 1


@behaviour
async def test_a_member_without_a_partition_is_told_so(world: World) -> None:
    topic, group = await world.topic(1), world.name()
    first = await world.member(topic, group)
    second = await world.member(topic, group)
    await eventually(lambda: first.generation == second.generation == 2)

    assert sorted([first.listener.events[-1][1], second.listener.events[-1][1]]) == [[], [0]]


@behaviour
async def test_a_poll_without_an_assignment_waits_for_one(world: World) -> None:
    topic = await world.topic(1)
    await world.write(topic, b"0")
    consumer = await world.consumer(world.name())
    consumer.subscribe([topic], listener=Listener())
    poll = asyncio.create_task(consumer.getmany(timeout_ms=0))
    await asyncio.sleep(0)
    assert not poll.done()

    assert await poll == {}
    assert consumer.assignment()


@behaviour
async def test_a_commit_of_a_member_whose_session_is_over_is_fenced(world: World) -> None:
    topic, group = await world.topic(1), world.name()
    listener = _Slow(assigned=5.0)
    member = await world.member(topic, group, listener)
    await asyncio.sleep(4.0)

    with pytest.raises(CommitFailedError):
        await member.consumer.commit({TopicPartition(topic, 0): (0, "")})


@behaviour
async def test_a_member_that_vanishes_while_its_join_waits_counts_until_its_session_is_over(world: World) -> None:
    topic, group = await world.topic(2), world.name()
    options: dict[str, Any] = {"session_timeout_ms": 4000, "rebalance_timeout_ms": 10_000}
    first = await world.member(topic, group, _Slow(revoked=3.0), **options)
    second = Member(await world.consumer(group, **options), Listener())
    second.consumer.subscribe([topic], listener=second.listener)
    await eventually(lambda: len(first.listener.events) == 3)  # the second has joined, and waits for the first
    await second.vanish()

    await eventually(lambda: len(first.listener.events) == 4)
    assert len(first.partitions) == 1
    admin = await world.admin()
    assert await kafka.group_members(admin, group) == 2
    await eventually(lambda: first.partitions == [0, 1])
    assert first.generation == 3


@behaviour
async def test_a_leader_that_never_assigns_keeps_the_others_waiting_until_its_session_is_over(world: World) -> None:
    topic, group = await world.topic(2), world.name()
    leader = await _Silent.of(world, topic, group)
    await leader.join()
    loop = asyncio.get_running_loop()
    member = Member(await world.consumer(group), Listener())
    member.consumer.subscribe([topic], listener=member.listener)
    await asyncio.sleep(1)  # it waits for the leader
    began = loop.time()
    assert (await leader.join()).leader_id == leader.name

    await eventually(lambda: member.listener.assignments)
    assert 2.0 < loop.time() - began < 12
    assert member.partitions == [0, 1]
    assert member.generation == 3


class _Silent:
    """Joins a group by hand, and does nothing else of a member's duties."""

    def __init__(self, coordinator: Any, topic: str) -> None:
        self.name = ""
        self._coordinator = coordinator
        self._topic = topic

    @classmethod
    async def of(cls, world: World, topic: str, group: str) -> "_Silent":
        consumer: Any = await world.consumer(group)
        await consumer._coordinator.ensure_coordinator_known()
        return cls(consumer._coordinator, topic)

    async def join(self) -> Any:
        metadata = RoundRobinPartitionAssignor.metadata([self._topic]).encode()
        while True:
            protocols = [(RoundRobinPartitionAssignor.name, metadata)]
            milliseconds = int(SESSION * 1000)
            request = JoinGroupRequest(
                self._coordinator.group_id, milliseconds, milliseconds, self.name, _NOT_STATIC, "consumer", protocols
            )
            answer = await self._coordinator._send_req(request)
            if answer.error_code != MemberIdRequired.errno:
                assert not answer.error_code
                return answer
            self.name = answer.member_id


@behaviour
async def test_a_commit_between_join_and_assignment_is_refused(world: World) -> None:
    topic, group = await world.topic(1), world.name()
    leader = await _Silent.of(world, topic, group)
    joined = await leader.join()
    outsider = await world.consumer(group)
    place = TopicPartition(topic, 0)
    outsider.assign([place])
    coordinator: Any = outsider._coordinator
    coordinator.member_id, coordinator.generation = leader.name, joined.generation_id

    with pytest.raises(CommitFailedError) as failed:
        await outsider.commit({place: (1, "")})

    assert isinstance(failed.value.__cause__, RebalanceInProgressError)
    coordinator.generation = -1  # it would leave in the name of the other
