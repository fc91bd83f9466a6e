import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.simulation.host import Host
from tests.simulation.timeline import Timeline


@pytest.fixture
def timeline() -> Timeline:
    return Timeline(1)


@pytest.fixture
def host(timeline: Timeline) -> Iterator[Host]:
    host = Host(timeline, "a")
    yield host
    host.close()
    gc.collect()


def test_a_task_sleeps_in_virtual_time(timeline: Timeline, host: Host) -> None:
    async def work() -> float:
        await asyncio.sleep(3600)
        return timeline.now

    task = host.spawn(work())
    timeline.run_until(4000)
    assert 3600 <= task.result() < 3600.01


def test_time_outs_task_groups_and_async_generators_work_as_ever(timeline: Timeline, host: Host) -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(1)
            yield number

    async def work() -> list[Any]:
        async with asyncio.TaskGroup() as tasks:
            sleeper = tasks.create_task(asyncio.sleep(1, "slept"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.Event().wait()
        return [sleeper.result(), *[number async for number in numbers()]]

    task = host.spawn(work())
    timeline.run_until(10)
    assert task.result() == ["slept", 0, 1, 2]


def test_a_call_for_a_thread_is_made_at_once_and_its_error_arrives(timeline: Timeline, host: Host) -> None:
    async def work() -> str:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        return await asyncio.to_thread(str, 1)

    task = host.spawn(work())
    timeline.run_until(1)
    assert task.result() == "1"


def test_the_running_loop_is_that_of_the_host_whose_turn_it_is(timeline: Timeline) -> None:
    hosts = [Host(timeline, name) for name in "abc"]
    seen = []

    async def look(host: Host) -> None:
        for _ in range(5):
            await asyncio.sleep(0.1)
            seen.append(asyncio.get_running_loop() is host.loop and asyncio.current_task() is not None)

    for host in hosts:
        host.spawn(look(host))
    timeline.run_until(5)
    assert seen == [True] * 15
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    for host in hosts:
        host.close()


def test_a_frozen_host_runs_nothing_but_its_clocks_go_on_and_messages_wait(timeline: Timeline, host: Host) -> None:
    seen: list[object] = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(1)
            seen.append(round(timeline.now))

    host.spawn(tick())
    timeline.at(2.5, host.freeze)
    timeline.at(3, lambda: host.post(lambda: seen.append("message")))
    timeline.at(9.5, host.thaw)
    before = host.monotonic(), host.suspended_time(), host.wall_clock()
    timeline.run_until(9.4)
    assert seen == [1, 2]
    assert [round(now - then, 3) for now, then in zip(_clocks(host), before, strict=True)] == [9.4] * 3
    timeline.run_until(10.4)
    assert seen == [1, 2, "message", 10]


def _clocks(host: Host) -> tuple[float, float, float]:
    return host.monotonic(), host.suspended_time(), host.wall_clock()


def test_a_crash_runs_no_finally_block_and_drops_messages(timeline: Timeline, host: Host) -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("finally")

    host.spawn(work())
    timeline.run_until(1)
    host.post(lambda: seen.append("message"), delay=1)
    host.crash()
    gc.collect()
    timeline.run_until(10)
    assert not seen
    assert not host.alive


@pytest.mark.filterwarnings("error")
def test_the_end_of_the_world_makes_no_noise(timeline: Timeline, capsys: pytest.CaptureFixture[str]) -> None:
    host = Host(timeline, "a")

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)

    host.spawn(stubborn())
    host.spawn(asyncio.sleep(1))
    timeline.run_until(0.5)
    host.spawn(asyncio.sleep(1))  # never begins
    host.close()
    del host
    gc.collect()
    assert capsys.readouterr().err == ""


def test_a_host_can_freeze_in_the_middle_of_a_call_while_the_others_go_on(timeline: Timeline, host: Host) -> None:
    other, seen = Host(timeline, "b"), []

    async def tick() -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            seen.append(round(timeline.now))

    async def work() -> None:
        host.freeze()
        timeline.run_until(timeline.now + 10)
        host.thaw()
        seen.append(asyncio.get_running_loop() is host.loop)
        await asyncio.sleep(1)
        seen.append(round(timeline.now))

    other.spawn(tick())
    host.spawn(work())
    timeline.run_until(20)
    assert seen == [1, 2, 3, True, 11]
    other.close()


def test_what_nobody_awaited_reaches_the_hosts_failures(timeline: Timeline, host: Host) -> None:
    host.post(lambda: 1 // 0)
    timeline.run_until(1)
    assert [type(failure["exception"]) for failure in host.failures] == [ZeroDivisionError]
