"""Connections to Kafka that die silently, brokers that move: no restart is needed (P9)."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.stage import Stage, event, stop
from tests.kafka_broker import KafkaBroker, free_ports
from tests.kafka_client import Message
from tests.relay import Relay
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

SESSION = 8.0
SLACK = 5.0
"""Seconds for a busy machine: less than a session time-out, so that one more of them fails."""
IDLE = 8.0


@pytest.fixture(scope="module")
def relay_port() -> int:
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def kafka(relay_port: int) -> Iterator[KafkaBroker]:
    """In place of the usual one: at the listener `RELAYED` it sends its clients to a relay."""
    with KafkaBroker(listeners={"RELAYED": "PLAINTEXT"}, advertised={"RELAYED": f"127.0.0.1:{relay_port}"}) as broker:
        yield broker


@pytest.fixture
async def relay(kafka: KafkaBroker, relay_port: int) -> AsyncIterator[Relay]:
    async with Relay(kafka.address("RELAYED"), idle_timeout=IDLE, port=relay_port) as relay:
        yield relay


def settings(relay: Relay) -> dict[str, str]:
    return {"KAFKA_BOOTSTRAP_SERVERS": relay.address, "KAFKA_SESSION_TIMEOUT": str(SESSION), "SHUTDOWN_TIMEOUT": "5"}


async def partitions(service: ServiceProcess) -> float:
    return await service.metric("assigned_partitions")


async def test_k5_an_instance_with_idle_connections_that_died_takes_part_in_the_next_rebalance(
    stage: Stage, relay: Relay
) -> None:
    users = stage.users(20)
    first = await stage.service(**settings(relay))
    await stage.send(*(event(user_id) for user_id in users))
    await stage.all_committed()
    await asyncio.sleep(IDLE + 4)
    second = await stage.service(**settings(relay))
    began = time.monotonic()

    async def shared() -> bool:
        return [await partitions(one) for one in (first, second)] == [2, 2]

    await wait_until(shared, SESSION + SLACK, what="both have two partitions")
    await first.ready(SESSION / 6 * 2 + SLACK)
    assert time.monotonic() - began < SESSION + SLACK
    for user_id in users:
        stage.world.change(user_id)
    await stage.send(*(event(user_id) for user_id in users))
    await stage.all_committed()
    assert stage.stale(users) == {}
    for service in (first, second):
        await stage.assert_sentinels(service)
        await stop(service)


async def test_k5_a_dead_letter_is_stored_though_the_producers_connection_died(stage: Stage, relay: Relay) -> None:
    malformed = Message(b"nobody", b"malformed", partition=0)
    service = await stage.service(**settings(relay))
    await stage.send(malformed)
    await stage.all_committed()
    await asyncio.sleep(IDLE + 2)
    seen = relay.forgotten
    await stage.send(malformed)
    await stage.all_committed()
    assert [letter.value for letter in await stage.dead_letters()] == [b"malformed"] * 2
    assert relay.forgotten > seen, "the test means nothing if the connection was alive"
    assert (await service.get("/readyz"))[0] == 200
    await stop(service)


async def test_k5_when_all_connections_die_at_once_it_works_again_within_two_sessions(
    stage: Stage, relay: Relay
) -> None:
    users = stage.users(20)
    service = await stage.service(**settings(relay))
    await stage.send(*(event(user_id) for user_id in users))
    await stage.all_committed()
    relay.forget()
    died_at = time.monotonic()
    for user_id in users:
        stage.world.change(user_id)
    await stage.send(*(event(user_id) for user_id in users))
    await wait_until(lambda: not stage.stale(users), 2 * SESSION + SLACK, what="it works again")
    assert time.monotonic() - died_at < 2 * SESSION + SLACK
    await stage.all_committed()
    assert (await service.get("/livez"))[0] == 200
    await stage.assert_sentinels(service)
    await stop(service)


async def test_k5_an_instance_without_a_partition_notices_that_its_connections_died(stage: Stage, relay: Relay) -> None:
    """The standby takes over after the other one's end, though it has nothing to commit by which to notice."""
    services = [await stage.service(**settings(relay)) for _ in range(5)]

    async def idle() -> list[ServiceProcess]:
        return [service for service in services if not await partitions(service)]

    async def one_idle() -> bool:
        return len(await idle()) == 1

    await wait_until(one_idle, what="one of five instances has none of four partitions")
    relay.forget()
    (standby,) = await idle()
    for service in services:
        if service is not standby:
            service.kill()
    users = stage.users(8)
    await stage.send(*(event(user_id) for user_id in users))
    await wait_until(lambda: not stage.stale(users), 3 * SESSION + SLACK, what="the standby has taken over")
    await stop(standby)
