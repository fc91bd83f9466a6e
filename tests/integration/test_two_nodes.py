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


async def test_k4_with_one_node_down_the_partitions_of_the_other_begin_at_once(
    second: KafkaBroker, stage: Stage
) -> None:
    stage.world.fields |= SESAMY_FIELDS
    users = stage.users(40)
    leaders = await stage.kafka.leaders(stage.topic)
    lost = {partition for partition, node in leaders.items() if node == 2}
    assert len(lost) == 2
    await stage.send(*(event(user_id, partition=number % 4) for number, user_id in enumerate(users)))
    healthy = [user_id for number, user_id in enumerate(users) if number % 4 not in lost]
    await asyncio.to_thread(second.kill)
    try:
        service = await stage.service()
        await wait_until(lambda: not stage.stale(healthy), 10, what="the partitions of the healthy node are done")
        waiting = (await service.status())["partitions_waiting"]
        assert {int(partition) for partition in waiting} == lost
        assert {known["reason"] for known in waiting.values()} == {"it has no leader"}
        assert await service.metric("waiting_partitions") == 2
        assert (await service.get("/readyz"))[0] == 200
        before = cpu_seconds(service.pid)
        await asyncio.sleep(5)
        assert cpu_seconds(service.pid) - before < 1.5, "waiting costs next to nothing"
    finally:
        await asyncio.to_thread(second.start)
    await stage.all_committed()
    assert stage.stale(users) == {}
    assert (await service.status())["partitions_waiting"] == {}
    assert await service.metric("rebalances_total") == 1, "nobody had to join anew"
    await stage.assert_sentinels(service)
    await stop(service)
