"""What a test can do to the simulated Kafka, beyond what the shared suite does to both."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    NoOffsetForPartitionError,
    TopicAuthorizationFailedError,
    UnknownMemberIdError,
)

from consumer import kafka, kafka_clients
from consumer.kafka import Committed
from tests.simulation.kafka import Fault, NewRecord
from tests.simulation.kafka.lab import Lab, read, seek

_TOPIC_AUTHORIZATION_FAILED = 29
_NOT_COORDINATOR = 16
_GROUP_AUTHORIZATION_FAILED = 30


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab()
    yield lab
    for host in lab.hosts.values():
        host.close()
    lab.cluster.close()


def test_a_leader_that_moves_is_found_again(lab: Lab) -> None:
    host = lab.host("a")
    consumer = lab.run(host, lab.consumer(host))
    lab.assigned(consumer, 4)
    seek(consumer)
    lab.cluster.write("t", 0, [NewRecord(b"k", b"0")])
    assert len(lab.run(host, read(consumer, 1))) == 1

    lab.cluster.move_leader("t", 0, 2)
    lab.cluster.write("t", 0, [NewRecord(b"k", b"1")])

    assert [record.offset for record in lab.run(host, read(consumer, 1))] == [1]


def test_a_partition_without_a_leader_delays_no_other(lab: Lab) -> None:
    host = lab.host("a")
    consumer = lab.run(host, lab.consumer(host))
    lab.assigned(consumer, 4)
    seek(consumer)
    lab.cluster.move_leader("t", 0)
    for number in range(4):
        lab.cluster.write("t", number, [NewRecord(b"k", b"0")])

    assert {record.partition for record in lab.run(host, read(consumer, 3))} == {1, 2, 3}
    admin = lab.run(host, lab.admin(host))
    assert lab.run(host, kafka_clients.partition_leaders(admin, "t")) == {0: -1, 1: 2, 2: 1, 3: 2}

    lab.cluster.move_leader("t", 0, 2)
    assert [record.partition for record in lab.run(host, read(consumer, 1))] == [0]


def test_a_node_that_is_killed_is_replaced_and_leads_again_what_nobody_else_has(lab: Lab) -> None:
    lab.cluster.kill(1)
    assert [partition.leader for partition in lab.cluster.topics["t"].partitions] == [2, 2, 2, 2]
    lab.cluster.kill(2)
    assert {partition.leader for partition in lab.cluster.topics["t"].partitions} == {-1}

    lab.cluster.restart(1)
    assert {partition.leader for partition in lab.cluster.topics["t"].partitions} == {-1}
    lab.cluster.restart(2)
    assert {partition.leader for partition in lab.cluster.topics["t"].partitions} == {2}


def test_a_coordinator_that_moves_and_loads_costs_no_membership(lab: Lab) -> None:
    host = lab.host("a")
    consumer = lab.run(host, lab.consumer(host))
    lab.assigned(consumer, 4)
    lab.cluster.move_coordinator("g", 3 - lab.cluster.coordinator("g"), loading=2.0)

    place = TopicPartition("t", 0)
    lab.run(host, consumer.commit({place: (1, "after the move")}))
    assert lab.timeline.now > 2.0
    admin = lab.run(host, lab.admin(host))
    assert lab.run(host, kafka.group_offsets(admin, "g", "t")) == {0: Committed(1, "after the move")}
    assert lab.cluster.group("g").generation == 1


def test_the_members_of_a_group_are_counted_as_soon_as_its_coordinator_has_loaded_it(lab: Lab) -> None:
    host = lab.host("a")
    consumer = lab.run(host, lab.consumer(host))
    lab.assigned(consumer, 4)
    admin = lab.run(host, lab.admin(host))
    lab.cluster.move_coordinator("g", 3 - lab.cluster.coordinator("g"), loading=2.0)

    assert lab.run(host, kafka.group_members(admin, "g")) == 1


def test_a_group_that_may_not_be_described_is_named(lab: Lab) -> None:
    host = lab.host("a")
    admin = lab.run(host, lab.admin(host))
    lab.cluster.fail(Fault("describe_groups", "error", error=_GROUP_AUTHORIZATION_FAILED))

    with pytest.raises(GroupAuthorizationFailedError):
        lab.run(host, kafka.group_members(admin, "g"))


def test_a_host_that_is_cut_off_loses_its_session_and_finds_out_when_it_is_connected_again(lab: Lab) -> None:
    host, other = lab.host("a"), lab.host("b")
    consumer = lab.run(host, lab.consumer(host))
    second = lab.run(other, lab.consumer(other))
    lab.assigned(consumer, 2)
    lab.cluster.cut(host)
    lab.assigned(second, 4)
    assert len(consumer.assignment()) == 2, "it believes in them"

    lab.cluster.heal(host)
    lab.until(lambda: len(consumer.assignment()) == len(second.assignment()) == 2)


def test_connections_that_a_gateway_forgets_are_replaced_after_their_time_out(lab: Lab) -> None:
    host = lab.host("a")
    consumer = lab.run(host, lab.consumer(host))
    lab.assigned(consumer, 4)
    lab.cluster.forget(host)
    began = lab.timeline.now

    async def commit() -> None:
        await consumer.commit({TopicPartition("t", 0): (1, "")})

    with pytest.raises(CommitFailedError):  # aiokafka waits for its request time-out, longer than the session
        lab.run(host, commit())
    assert lab.timeline.now - began >= 10


def test_a_host_that_is_refused_connects_again_when_it_may(lab: Lab) -> None:
    host = lab.host("a")
    consumer = lab.run(host, lab.consumer(host))
    lab.assigned(consumer, 4)
    lab.cluster.refuse(host)
    lab.timeline.run_until(lab.timeline.now + 2)
    lab.cluster.heal(host)

    lab.run(host, consumer.commit({TopicPartition("t", 0): (1, "")}))
    assert lab.cluster.committed("g")["t", 0].offset == 1


def test_a_frozen_host_believes_in_its_partitions_until_an_answer_arrives(lab: Lab) -> None:
    host, other = lab.host("a"), lab.host("b")
    consumer = lab.run(host, lab.consumer(host))
    lab.assigned(consumer, 4)
    second = lab.run(other, lab.consumer(other))
    lab.assigned(consumer, 2)
    host.freeze()
    lab.assigned(second, 4)

    host.thaw()
    assert len(consumer.assignment()) == 2
    place = next(iter(consumer.assignment()))
    with pytest.raises(CommitFailedError) as failed:
        lab.run(host, consumer.commit({place: (1, "")}))
    assert isinstance(failed.value.__cause__, UnknownMemberIdError)
    assert lab.cluster.committed("g") == {}


def test_a_host_that_crashes_keeps_its_partitions_until_its_session_is_over(lab: Lab) -> None:
    host, other = lab.host("a"), lab.host("b")
    consumer = lab.run(host, lab.consumer(host))
    lab.assigned(consumer, 4)
    second = lab.run(other, lab.consumer(other))
    lab.assigned(second, 2)
    host.crash()
    lab.timeline.run_until(lab.timeline.now + 5)
    assert len(second.assignment()) == 2

    lab.assigned(second, 4)


@pytest.mark.parametrize("effect", ["break", "break after", "hang", "slow"])
def test_a_commit_that_meets_a_fault_is_sent_again_until_it_is_stored(lab: Lab, effect: Any) -> None:
    host = lab.host("a")
    consumer = lab.run(host, lab.consumer(host))
    lab.assigned(consumer, 4)
    stored: list[int] = []
    lab.cluster.on_commit.append(lambda *told: stored.append(told[3]["t", 0].offset))
    lab.cluster.fail(Fault("commit", effect, seconds=3.0))
    began = lab.timeline.now

    async def commit() -> bool:
        try:
            await consumer.commit({TopicPartition("t", 0): (1, "")})
        except CommitFailedError:
            return False
        return True

    is_stored = lab.run(host, commit())
    took = lab.timeline.now - began
    if effect == "hang":  # heartbeats wait behind it on the same connection
        assert (is_stored, stored) == (False, [])
    else:
        assert is_stored
        assert stored == ([1, 1] if effect == "break after" else [1])
        assert (took >= 3.0) == (effect == "slow")


def test_a_call_can_fail_with_an_error_code_for_one_host_alone(lab: Lab) -> None:
    host = lab.host("a")
    consumer = lab.run(host, lab.consumer(host))
    lab.assigned(consumer, 4)
    fault = Fault("commit", "error", error=_TOPIC_AUTHORIZATION_FAILED, where=lambda name, _: name == "a")
    lab.cluster.fail(fault)
    place = TopicPartition("t", 0)

    with pytest.raises(TopicAuthorizationFailedError):
        lab.run(host, consumer.commit({place: (1, "")}))
    lab.run(host, consumer.commit({place: (1, "")}))
    lab.cluster.fail(Fault("commit", "error", error=_NOT_COORDINATOR, times=3))
    lab.run(host, consumer.commit({place: (2, "")}))
    assert lab.cluster.committed("g")["t", 0].offset == 2


@pytest.mark.parametrize(
    "call", ["fetch", "list_offsets", "metadata", "fetch_commits", "find_coordinator", "join", "sync", "heartbeat"]
)
@pytest.mark.parametrize("effect", ["break", "break after", "hang"])
def test_whatever_call_is_lost_a_member_reads_everything_in_the_end(lab: Lab, call: Any, effect: Any) -> None:
    host = lab.host("a")
    lab.cluster.fail(Fault(call, effect))
    for number in range(4):
        lab.cluster.write("t", number, [NewRecord(b"k", b"0")])

    async def start() -> AIOKafkaConsumer:
        while True:
            try:
                async with asyncio.timeout(10):
                    return await lab.consumer(host)
            except (KafkaError, OSError):
                continue

    async def read_all(consumer: AIOKafkaConsumer) -> None:
        found: set[int] = set()
        while found != {0, 1, 2, 3}:
            try:
                found |= {record.partition for record in await read(consumer, 1)}
            except NoOffsetForPartitionError:  # it had to join anew
                seek(consumer)

    consumer = lab.run(host, start())
    lab.assigned(consumer, 4)
    seek(consumer)
    lab.run(host, read_all(consumer))


def test_a_slow_node_answers_later(lab: Lab) -> None:
    host = lab.host("a")
    consumer = lab.run(host, lab.consumer(host))
    lab.assigned(consumer, 4)
    for node in lab.cluster.nodes.values():
        node.slow = 1.0
    began = lab.timeline.now
    lab.run(host, consumer.commit({TopicPartition("t", 0): (1, "")}))
    assert lab.timeline.now - began >= 1


def test_what_is_not_modelled_says_so(lab: Lab) -> None:
    host = lab.host("a")
    lab.run(host, lab.consumer(host))
    admin = lab.run(host, lab.admin(host))
    host.spawn(admin.list_consumer_groups())
    with pytest.raises(NotImplementedError, match="the simulated Kafka does not know ListGroupsRequest"):
        lab.timeline.run_until(lab.timeline.now + 1)


def test_a_node_that_is_frozen_too_long_is_replaced_until_it_goes_on(lab: Lab) -> None:
    host = lab.host("a")
    consumer = lab.run(host, lab.consumer(host))
    lab.assigned(consumer, 4)
    lab.cluster.freeze(2)
    lab.timeline.run_until(lab.timeline.now + 8)
    assert {partition.leader for partition in lab.cluster.topics["t"].partitions} == {1, 2}

    lab.timeline.run_until(lab.timeline.now + 2)
    assert {partition.leader for partition in lab.cluster.topics["t"].partitions} == {1}
    lab.assigned(consumer, 4)

    lab.cluster.thaw(2)
    lab.timeline.run_until(lab.timeline.now + 5)
    admin = lab.run(host, lab.admin(host))
    assert lab.run(host, kafka_clients.partition_leaders(admin, "t")) == dict.fromkeys(range(4), 1)
    lab.assigned(consumer, 4)


def test_a_partition_that_only_a_frozen_node_has_is_led_again_when_that_goes_on(lab: Lab) -> None:
    lab.cluster.create_topic("single", 2, replication=1)
    lab.cluster.freeze(2)
    lab.timeline.run_until(lab.timeline.now + 10)
    assert [partition.leader for partition in lab.cluster.topics["single"].partitions] == [1, -1]

    lab.cluster.thaw(2)
    assert [partition.leader for partition in lab.cluster.topics["single"].partitions] == [1, 2]


def test_a_node_that_hears_of_no_changes_tells_what_it_knew(lab: Lab) -> None:
    host = lab.host("a")
    admin = lab.run(host, lab.admin(host))
    lab.cluster.isolate(1)
    lab.cluster.isolate(2)
    lab.cluster.add_partitions("t", 6)
    assert len(lab.run(host, kafka_clients.partition_leaders(admin, "t"))) == 4

    for node in (1, 2):
        lab.cluster.isolate(node, is_isolated=False)
    assert len(lab.run(host, kafka_clients.partition_leaders(admin, "t"))) == 6
