import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from consumer.clients.deadlines import Deadlines
from tests.unit.virtual_time import run


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(test)
    def in_a_loop_of_its_own() -> None:
        run(test())

    return in_a_loop_of_its_own


async def bounded(deadlines: Deadlines, work: Awaitable[object]) -> None:
    with deadlines.begin():
        await work


def forever() -> Awaitable[object]:
    return asyncio.get_running_loop().create_future()


def now() -> float:
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_what_is_not_done_in_time_is_a_time_out_and_the_task_goes_on() -> None:
    deadlines = Deadlines(5)
    for times in (1, 2, 3):
        with pytest.raises(TimeoutError):
            await bounded(deadlines, forever())
        assert now() == 5 * times
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@in_virtual_time
async def test_what_is_done_in_time_is_left_alone_when_its_time_would_be_over() -> None:
    deadlines = Deadlines(5)
    await bounded(deadlines, asyncio.sleep(4))
    await asyncio.sleep(10)
    with pytest.raises(ValueError, match="its own"), deadlines.begin():
        raise ValueError("its own")


@in_virtual_time
async def test_each_has_its_own_time_whichever_the_timer_was_set_for() -> None:
    deadlines = Deadlines(5)
    ends: list[float] = []

    async def ends_at(begin: float) -> None:
        await asyncio.sleep(begin)
        with pytest.raises(TimeoutError):
            await bounded(deadlines, forever())
        ends.append(now())

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(bounded(deadlines, asyncio.sleep(1)))  # the timer is set for this one
        for begin in (0.5, 0.5, 3.25, 9.0, 30.125):
            tasks.create_task(ends_at(begin))
    assert ends == [5.5, 5.5, 8.25, 14.0, 35.125]


@in_virtual_time
async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    deadlines = Deadlines(60)
    task = asyncio.create_task(bounded(deadlines, forever()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(100)
    assert task.cancelling() == 1


@in_virtual_time
async def test_a_cancellation_counts_also_in_the_moment_when_the_time_is_over() -> None:
    deadlines = Deadlines(60)
    task = asyncio.create_task(bounded(deadlines, forever()))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_at(60, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert now() == 60


@in_virtual_time
async def test_a_time_out_around_it_is_not_taken_for_its_own() -> None:
    deadlines = Deadlines(60)
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bounded(deadlines, forever()), 5)
    assert now() == 5
    assert task.cancelling() == 0


@in_virtual_time
async def test_one_timer_does_for_all_and_none_is_left() -> None:
    """Nor is it rounded: the lease counts on the moment (P2), and aiohttp makes up to a second more of 5 s."""
    deadlines = Deadlines(5.25)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(100):
            tasks.create_task(bounded(deadlines, asyncio.sleep(1)))
        await asyncio.sleep(0.5)
        assert deadlines._timer is not None
        assert deadlines._timer.when() == 5.25
    await asyncio.sleep(4.5)
    assert deadlines._timer is None
