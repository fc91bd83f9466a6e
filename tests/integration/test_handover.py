"""Several processes in one group: killed, frozen, thawed. Nothing is lost, nothing stale lands (P2, P3, P4)."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.structs import OffsetAndMetadata

from consumer.sandbox import Plan
from consumer.sandbox.contacts import SESAMY_FIELDS
from tests.integration.stage import Stage, event, stop
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

SESSION = 6
COMMIT_INTERVAL = 0.1
CONCURRENCY = 16
QUICK_TO_EXPEL = {"KAFKA_SESSION_TIMEOUT": str(SESSION), "SYNC_CONCURRENCY": str(CONCURRENCY)}


async def pair(stage: Stage) -> tuple[ServiceProcess, ServiceProcess]:
    """Start two instances and wait until they share the partitions."""
    stage.world.fields |= SESAMY_FIELDS  # creating them takes one call after the other
    patient = QUICK_TO_EXPEL | {"SYNC_MAX_ATTEMPTS": "1000"}
    first, second = stage.start(**patient), stage.start(**patient)

    async def shared() -> bool:
        return [await one.metric("assigned_partitions") for one in (first, second)] == [2, 2]

    await first.ready()
    await second.ready()
    await wait_until(shared, what="both have two partitions")
    return first, second


async def partitions(service: ServiceProcess) -> set[int]:
    return {int(partition) for partition in (await service.status())["partitions"]}


@asynccontextmanager
async def changing(stage: Stage, users: list[str]) -> AsyncIterator[None]:
    """Keep changing these users, with an event for each change, as long as the block lasts."""

    over = asyncio.Event()

    async def change() -> None:
        while not over.is_set():
            for user_id in users:
                stage.world.change(user_id)
            await stage.send(*(event(user_id) for user_id in users))
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(change())
        try:
            yield
        finally:
            over.set()


@asynccontextmanager
async def never_rewound(stage: Stage) -> AsyncIterator[None]:
    """Watch the group's commits: no partition's may ever go back."""
    highest: dict[int, int] = {}

    async def look() -> None:
        for partition, offset in (await stage.committed()).items():
            assert offset >= highest.get(partition, 0), f"partition {partition} went back to {offset}"
            highest[partition] = offset

    async def watch() -> None:
        while True:
            await look()
            await asyncio.sleep(0.05)

    await look()
    task = asyncio.create_task(watch())
    try:
        yield
        assert not task.done(), task.exception()
        await look()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_after_kill_9_the_other_instance_takes_over_and_little_is_done_again(stage: Stage) -> None:
    once, often = stage.users(300), stage.users(8, "email|often")
    stage.sandbox.faults.set(Plan(latency=0.05, jitter=0.1))
    victim, survivor = await pair(stage)
    owned = await partitions(victim)
    # The first user of each partition fails for now, so the commit stays below all that is done after it.
    stuck = stage.users(4, "email|stuck")
    for user_id in stuck:
        stage.fail(api="mailmojo", key=stage.user(user_id).profile["email"], status=500)
    await stage.send(*(event(user_id, partition=number) for number, user_id in enumerate(stuck)))
    places = await stage.send(*(event(user_id) for user_id in once))
    homes = {user_id: partition for user_id, (partition, _) in zip(once, places, strict=True)}
    async with changing(stage, often):
        await wait_until(lambda: len(stage.log.writes()) > 120, what="the work is under way")
        killed_at = time.monotonic()
        victim.kill()
        early = {write.user_id for write in stage.log.writes()}
        assert any(homes[user_id] in owned for user_id in once if user_id in early)
        assert any(homes[user_id] not in owned for user_id in once if user_id in early)
        await wait_until(lambda: set(once) <= {write.user_id for write in stage.log.writes()}, what="all are written")
        stage.heal()
    await stage.all_committed()

    assert await stage.dead_letters() == []
    assert stage.stale([*once, *often, *stuck]) == {}
    # Done again is who was written before the kill and whose profile was read after it.
    written: dict[str, float] = {}
    for write in stage.log.writes():
        written.setdefault(write.user_id or "", write.end)
    again = [
        user_id
        for user_id in once
        if written[user_id] < killed_at
        and any(read.start > killed_at for read in stage.log.requests("sesamy", "get_user", user_id))
    ]
    assert {homes[user_id] for user_id in again} <= owned
    # Only what was done since the last commit, which holds the map of what is done above it.
    assert [user_id for user_id in again if written[user_id] < killed_at - COMMIT_INTERVAL - 1] == []
    assert len(again) < len(once) / 2
    await stage.assert_sentinels(survivor)
    await stop(survivor)


async def test_a_frozen_instance_thaws_to_find_its_partitions_gone_and_lands_nothing_stale(stage: Stage) -> None:
    users = stage.users(120)
    stage.sandbox.faults.set(Plan(latency=0.3, jitter=1.0))  # so that the freeze meets syncs in every phase
    sleeper, other = await pair(stage)
    await stage.send(*(event(user_id) for user_id in users))
    await wait_until(lambda: len(stage.log.writes()) > 20, what="the work is under way")
    sleeper.freeze()
    stage.sandbox.faults.set(Plan(latency=0.01))
    for user_id in users:
        stage.world.change(user_id)
    await stage.send(*(event(user_id) for user_id in users))
    await stage.all_committed()
    assert stage.stale(users) == {}

    async with never_rewound(stage):
        seen, generations = stage.log.count, await other.metric("rebalances_total")
        sleeper.thaw()

        async def rejoined() -> bool:
            return await sleeper.metric("assigned_partitions") == await other.metric("assigned_partitions") == 2

        await wait_until(rejoined, what="the thawed instance has its part again")
        assert await other.metric("rebalances_total") > generations
        assert stage.writes_since(seen) == []
        assert stage.stale(users) == {}
        for user_id in users:
            stage.world.change(user_id)
        await stage.send(*(event(user_id) for user_id in users))
        await stage.all_committed()
    assert stage.stale(users) == {}
    for service in (sleeper, other):
        await stage.assert_sentinels(service)
        await stop(service)


async def test_an_instance_that_thaws_into_an_empty_group_joins_it_before_it_writes_or_commits(stage: Stage) -> None:
    users = stage.users(120)
    stage.world.fields |= SESAMY_FIELDS
    stage.sandbox.faults.set(Plan(latency=0.3, jitter=1.0))
    service = await stage.service(**QUICK_TO_EXPEL)
    await stage.send(*(event(user_id) for user_id in users))
    await wait_until(lambda: len(stage.log.writes()) > 20, what="the work is under way")
    service.freeze()
    frozen_at = time.monotonic()
    ends = await stage.kafka.end_offsets(stage.topic)
    ahead = {partition: end - 3 for partition, end in ends.items()}

    async def group_is_empty() -> bool:
        if time.monotonic() < frozen_at + SESSION:
            return False
        try:  # an operator moves the offsets on, which the broker lets nobody do in a group with members
            await stage.kafka.commit(
                stage.group, stage.topic, {number: OffsetAndMetadata(offset, "") for number, offset in ahead.items()}
            )
        except Exception:  # noqa: BLE001 - whichever refusal the broker has for a group with members
            return False
        return await stage.committed() == ahead

    await wait_until(group_is_empty, what="the broker gave the frozen instance up")
    for user_id in users:
        stage.world.change(user_id)
    stage.sandbox.faults.set(Plan(latency=0.01))
    async with never_rewound(stage):
        assert await stage.committed() == ahead
        seen, thawed_at = stage.log.count, time.monotonic()
        service.thaw()
        joined_after = await second_assignment(service)
        begun = [write for write in stage.writes_since(seen) if thawed_at < write.start < joined_after]
        assert begun == []
        await stage.send(*(event(user_id) for user_id in users))
        await stage.all_committed()
    assert stage.stale(users) == {}
    await stage.assert_sentinels(service)
    await stop(service)


async def second_assignment(service: ServiceProcess) -> float:
    """Return a time at which the instance had not got its second assignment, right before it got it."""
    before = time.monotonic()
    while await service.metric("rebalances_total") < 2:
        before = time.monotonic()
    return before
