"""Users that fail, many or with many events, delay nobody else (P5)."""

import asyncio
import time
from collections.abc import Sequence
from statistics import median

import pytest

from tests.integration.oracle import address
from tests.integration.stage import Stage, event, stop
from tests.waiting import wait_until

PATIENT = {"SYNC_RETRY_BASE": "0.5", "SYNC_RETRY_CAP": "5"}


def fail(stage: Stage, users: Sequence[str], **rule: object) -> None:
    for user_id in users:
        stage.fail(**({"api": "mailmojo", "key": address(stage.user(user_id)), "status": 500} | rule))


async def delays(stage: Stage, users: Sequence[str], pause: float) -> list[float]:
    """Send an event of each user, one after the other; return the seconds until its contact shows it."""

    async def delay(user_id: str) -> float:
        stage.world.change(user_id)
        began = time.monotonic()
        await stage.send(event(user_id))
        await wait_until(lambda: not stage.stale([user_id]), 60, what=f"{user_id} is synced")
        return time.monotonic() - began

    async with asyncio.TaskGroup() as tasks:
        running = []
        for user_id in users:
            running.append(tasks.create_task(delay(user_id)))
            await asyncio.sleep(pause)
    return [task.result() for task in running]


async def test_k12_hundreds_of_users_that_fail_do_not_delay_the_others(stage: Stage) -> None:
    healthy, failing = stage.users(50), stage.users(400, "email|failing")
    fail(stage, failing)
    service = await stage.service(**PATIENT, SYNC_MAX_ATTEMPTS="8")
    alone = await delays(stage, healthy, 0.05)
    await stage.send(*(event(user_id) for user_id in failing))

    async def all_fail() -> bool:
        return bool((await service.status())["waits"]["retrying"] + len(await stage.dead_letters()) > 200)

    await wait_until(all_fail, 60, what="most users have failed")
    beside = await delays(stage, healthy, 0.05)
    assert median(beside) < 3 * median(alone) + 2
    assert max(beside) < 3 * max(alone) + 6
    await stage.all_committed(120)
    reasons = [dict(letter.headers)["dead-letter-reason"] for letter in await stage.dead_letters()]
    assert reasons == [b"exhausted"] * len(failing)
    await stage.assert_sentinels(service)
    await stop(service)


@pytest.mark.parametrize("coalesce", ["true", "false"])
async def test_k13_events_of_a_user_that_fails_do_not_fill_the_window(stage: Stage, coalesce: str) -> None:
    failing, *others = stage.users(12)
    fail(stage, [failing])
    await stage.send(*(event(failing, partition=0) for _ in range(200)))
    await stage.send(*(event(user_id, partition=number % 4) for number, user_id in enumerate(others)))
    service = await stage.service(**PATIENT, SYNC_MAX_PENDING="50", SYNC_COALESCE=coalesce)
    await wait_until(lambda: not stage.stale(others), what="the others are synced")
    assert await stage.dead_letters() == []
    assert await service.metric("events_pending") >= 150
    await stage.assert_sentinels(service)
    service.kill()


async def test_k13_events_of_several_users_that_fail_do_not_fill_the_window(stage: Stage) -> None:
    healthy, failing = stage.users(11), stage.users(5, "email|failing")
    fail(stage, failing)
    for _ in range(40):
        await stage.send(*(event(user_id, partition=0) for user_id in failing))
    await stage.send(*(event(user_id, partition=0) for user_id in healthy))
    service = await stage.service(**PATIENT, SYNC_MAX_PENDING="50")
    await wait_until(lambda: not stage.stale(healthy), what="the others are synced")
    await stage.assert_sentinels(service)
    service.kill()


async def test_k13_users_behind_a_call_that_is_down_do_not_fill_the_window_of_those_who_do_not_need_it(
    stage: Stage,
) -> None:
    in_step, changed = stage.users(11), stage.users(30, "email|changed")
    service = await stage.service(**PATIENT, SYNC_MAX_PENDING="50")
    await stage.send(*(event(user_id) for user_id in in_step))
    await stage.all_committed()
    for operation in ("patch_contact", "post_subscriber"):
        stage.fail(api="mailmojo", operation=operation, status=503)
    for _ in range(8):
        await stage.send(*(event(user_id, partition=0) for user_id in changed))
    await stage.send(*(event(user_id, partition=1) for user_id in in_step))

    async def done() -> bool:
        return await service.metric("events_total", outcome="unchanged") >= len(in_step)

    await wait_until(done, what="those whose contact is right are done")
    assert await stage.dead_letters() == []
    stage.heal()
    await stage.all_committed()
    assert stage.stale([*in_step, *changed]) == {}
    await stage.assert_sentinels(service)
    await stop(service)
