import asyncio

from consumer.sync.freezes import Freezes
from tests.unit.stream.in_virtual_time import in_virtual_time


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float, freezes: Freezes) -> None:
        """Let time pass while the event loop runs."""
        for _ in range(round(seconds * 4)):
            self.now += 0.25
            freezes._tick()


def test_a15_a_request_that_was_open_across_a_freeze_is_known() -> None:
    clock = Clock()
    freezes = Freezes(clock)
    clock.pass_by(10, freezes)
    began = clock.now - 1
    clock.now += 12  # stopped, or the machine paused

    assert freezes.since(began)  # also before the next tick


def test_a_request_that_began_right_after_a_freeze_may_have_met_a_dead_connection() -> None:
    clock = Clock()
    freezes = Freezes(clock)
    clock.now += 12
    clock.pass_by(1, freezes)

    assert freezes.since(clock.now)
    clock.pass_by(2, freezes)
    assert not freezes.since(clock.now)


def test_a_busy_loop_is_no_freeze() -> None:
    clock = Clock()
    freezes = Freezes(clock)
    for _ in range(50):
        clock.now += 1.5
        freezes._tick()

    assert not freezes.since(clock.now - 5)


@in_virtual_time
async def test_it_looks_at_the_clock_twice_a_second() -> None:
    frozen = 0.0
    loop = asyncio.get_running_loop()
    freezes = Freezes(lambda: loop.time() + frozen)
    running = asyncio.create_task(freezes.run())
    await asyncio.sleep(100)
    assert not freezes.since(99)
    frozen = 5.0
    await asyncio.sleep(1)
    assert freezes.since(99)
    running.cancel()
    await asyncio.wait([running])
