"""A cluster of two nodes whose topics are not replicated: a node that is down delays only its own partitions (P5)."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.sandbox.contacts import SESAMY_FIELDS
from tests.integration.stage import Stage, event, stop
from tests.kafka_broker import KafkaBroker
from tests.waiting import wait_until

REPLICATED = {"offsets.topic.replication.factor": "2"}
"""The group's coordinator must not be lost with a node: without it nothing works for anybody."""


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaBroker]:
    """In place of the usual one: the node that stays."""
    with KafkaBroker(REPLICATED) as broker:
        yield broker


@pytest.fixture(scope="module")
def second(kafka: KafkaBroker) -> Iterator[KafkaBroker]:
    with KafkaBroker(REPLICATED, joins=kafka) as broker:
        yield broker


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_k4_with_one_node_down_the_partitions_of_the_other_begin_at_once(
    second: KafkaBroker, stage: Stage, how: str
) -> None:
    stage.world.fields |= SESAMY_FIELDS
    users = stage.users(40)
    leaders = await stage.kafka.leaders(stage.topic)
    lost = {partition for partition, node in leaders.items() if node == 2}
    assert len(lost) == 2
    await stage.send(*(event(user_id, partition=number % 4) for number, user_id in enumerate(users)))
    healthy = [user_id for number, user_id in enumerate(users) if number % 4 not in lost]
    await asyncio.to_thread(getattr(second, how))
    try:
        service = await stage.service()
        await wait_until(lambda: not stage.stale(healthy), 30, what="the partitions of the healthy node are done")

        async def known_as_leaderless() -> bool:
            told = (await service.status())["partitions_waiting"].values()
            return [it["reason"] for it in told] == ["it has no leader"] * 2

        await wait_until(known_as_leaderless, what="the cluster has given the node up")
        waiting = (await service.status())["partitions_waiting"]
        assert {int(partition) for partition in waiting} == lost
        assert await service.metric("waiting_partitions") == 2
        assert (await service.get("/readyz"))[0] == 200
        before = cpu_seconds(service.pid)
        await asyncio.sleep(5)
        assert cpu_seconds(service.pid) - before < 1.5, "waiting costs next to nothing"
    finally:
        await asyncio.to_thread(second.start if how == "kill" else second.thaw)
    await stage.all_committed()
    assert stage.stale(users) == {}
    assert (await service.status())["partitions_waiting"] == {}
    assert await service.metric("rebalances_total") == 1, "nobody had to join anew"
    await stage.assert_sentinels(service)
    await stop(service)


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_k4_a_node_that_goes_while_the_service_runs_delays_only_its_own_partitions(
    second: KafkaBroker, stage: Stage, how: str
) -> None:
    stage.world.fields |= SESAMY_FIELDS
    users = stage.users(40)
    leaders = await stage.kafka.leaders(stage.topic)
    healthy = [user_id for number, user_id in enumerate(users) if leaders[number % 4] == 1]
    places = {user_id: number % 4 for number, user_id in enumerate(users)}
    service = await stage.service()
    await stage.send(*(event(user_id, partition=places[user_id]) for user_id in users))
    await stage.all_committed()
    await asyncio.to_thread(getattr(second, how))
    try:
        for user_id in healthy:
            stage.world.change(user_id)
        await stage.send(*(event(user_id, partition=places[user_id]) for user_id in healthy))
        await wait_until(lambda: not stage.stale(healthy), what="the healthy node's partitions go on")
        assert (await service.get("/livez"))[0] == 200
    finally:
        await asyncio.to_thread(second.start if how == "kill" else second.thaw)
    for user_id in users:
        stage.world.change(user_id)
    await wait_until(lambda: whole(stage), what="every partition has a leader again")
    await stage.send(*(event(user_id, partition=places[user_id]) for user_id in users))
    await stage.all_committed()
    assert stage.stale(users) == {}
    await stage.assert_sentinels(service)
    await stop(service)


async def whole(stage: Stage) -> bool:
    return min((await stage.kafka.leaders(stage.topic)).values()) > 0
