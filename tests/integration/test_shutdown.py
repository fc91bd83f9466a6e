"""SIGTERM at a bad moment: the service ends in time and in order, and the next one does nothing again (P4)."""

import asyncio
import time
from pathlib import Path

import pytest

from consumer.sandbox import Plan
from consumer.sandbox.contacts import SESAMY_FIELDS
from tests.integration.stage import Stage, event, stop
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

SHUTDOWN = 6.0
SLACK = 8.0  # for the interpreter to go, on a busy machine


async def end(service: ServiceProcess) -> float:
    """Send SIGTERM; return the seconds until the process ended, which it must do with 0."""
    began = time.monotonic()
    service.terminate()
    code = await service.exit_code(60)
    took = time.monotonic() - began
    assert code == 0, service.output()[-3000:]
    return took


async def under_load(stage: Stage, users: list[str], latency: float = 0.3) -> ServiceProcess:
    """Start the service on an event of each user and return it with some done and more to do."""
    stage.world.fields |= SESAMY_FIELDS  # creating them takes one call after the other
    stage.sandbox.faults.set(Plan(latency=latency, jitter=latency))
    await stage.send(*(event(user_id) for user_id in users))
    service = await stage.service(SHUTDOWN_TIMEOUT=str(SHUTDOWN), SYNC_CONCURRENCY="32", KAFKA_SESSION_TIMEOUT="6")
    await wait_until(lambda: len(stage.log.writes()) > len(users) / 6, what="some contacts are written")
    return service


async def test_a_service_stopped_under_load_ends_in_time_and_the_next_one_does_nothing_again(stage: Stage) -> None:
    users = stage.users(200)
    service = await under_load(stage, users)
    assert await end(service) < SHUTDOWN + SLACK
    written = {write.user_id for write in stage.log.writes()}
    assert 0 < len(written) < len(users)
    assert sum((await stage.committed()).values()) > 0
    stage.heal()
    seen = stage.log.count

    successor = await stage.service()
    await stage.all_committed()
    assert stage.stale(users) == {}
    assert len(stage.log.writes()) == len(users)
    assert written.isdisjoint(record.user_id for record in stage.requests_since(seen, "get_user"))
    await stage.assert_sentinels(successor)
    await stop(successor)


async def test_it_ends_in_time_though_the_broker_is_gone(stage: Stage) -> None:
    users = stage.users(150)
    service = await under_load(stage, users)
    await asyncio.to_thread(stage.kafka.kill)
    try:
        assert await end(service) < SHUTDOWN + SLACK
    finally:
        await asyncio.to_thread(stage.kafka.restart)
    stage.heal()
    successor = await stage.service()
    await stage.all_committed()
    assert stage.stale(users) == {}
    await stop(successor)


@pytest.mark.parametrize("api", ["sesamy", "mailmojo"])
async def test_it_ends_in_time_though_an_api_hangs(stage: Stage, api: str) -> None:
    users = stage.users(60)
    service = await stage.service(SHUTDOWN_TIMEOUT=str(SHUTDOWN))
    for operation in ("get_user",) if api == "sesamy" else ("patch_contact", "post_subscriber"):
        stage.fail(api=api, operation=operation, delay=600)
    await stage.send(*(event(user_id) for user_id in users))

    async def hangs() -> bool:
        reads = len(stage.requests_since(0, "get_contact")) if api == "mailmojo" else 1
        return reads > 0 and await service.metric("users_in_flight") > 0

    await wait_until(hangs, what="calls hang")
    assert await end(service) < SHUTDOWN + SLACK
    assert stage.log.writes() == []


async def test_a_service_that_never_joined_can_be_stopped(stage: Stage) -> None:
    service = stage.start(SHUTDOWN_TIMEOUT=str(SHUTDOWN))
    await service.admin_port()
    assert await end(service) < SHUTDOWN + SLACK


async def test_k11_what_is_done_while_a_shutdown_drains_is_committed(stage: Stage) -> None:
    slow, late = stage.users(2)
    stage.world.fields |= SESAMY_FIELDS
    service = await stage.service(SHUTDOWN_TIMEOUT="20", KAFKA_SESSION_TIMEOUT="10")
    stage.fail(api="sesamy", operation="get_user", key=slow, delay=12)
    stage.fail(api="sesamy", operation="get_user", key=late, delay=6)  # longer than a lease of this session lasts
    await stage.send(event(slow, partition=0), event(late, partition=1))

    async def both_fly() -> bool:
        return await service.metric("users_in_flight") == 2

    await wait_until(both_fly, what="both users are being read")
    assert await end(service) < 20 + SLACK
    assert stage.stale([late]) == {}
    assert await stage.committed() == {0: 0, 1: 1, 2: 0, 3: 0}
    stage.heal()
    seen = stage.log.count
    successor = await stage.service()
    await stage.all_committed()
    assert {record.user_id for record in stage.requests_since(seen, "get_user")} == {slow}
    await stage.assert_sentinels(successor)
    await stop(successor)


_HANGING_LOOK_UP = """
import socket, sys, time
_look_up = socket.getaddrinfo
def getaddrinfo(host, *arguments, **options):
    if str(host).endswith(".hangs.example"):
        time.sleep(60)
    return _look_up(host, *arguments, **options)
socket.getaddrinfo = getaddrinfo
"""
_WITHOUT_UVLOOP = "sys.modules['uvloop'] = None\n"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_p3_it_ends_in_time_though_the_name_server_does_not_answer(
    stage: Stage, tmp_path: Path, loop: str
) -> None:
    more = _WITHOUT_UVLOOP if loop == "asyncio" else ""
    (tmp_path / "sitecustomize.py").write_text(_HANGING_LOOK_UP + more, encoding="utf-8")
    users = stage.users(20)
    service = stage.start(
        PYTHONPATH=str(tmp_path),
        SHUTDOWN_TIMEOUT=str(SHUTDOWN),
        SESAMY_TOKEN_URL="https://token.hangs.example/oauth/token",
        SESAMY_API_URL="https://api.hangs.example",
    )
    await service.admin_port()
    await wait_until(lambda: service.events("group.joined"), what="it joins the group")
    await stage.send(*(event(user_id) for user_id in users))

    async def hangs() -> bool:
        return await service.metric("events_pending") == len(users)

    await wait_until(hangs, what="syncs wait for the name server")
    await asyncio.sleep(1)  # for the look-ups, of which nothing tells
    assert await end(service) < SHUTDOWN + SLACK
    assert service.events("service.stopped")
    assert stage.log.writes() == []
