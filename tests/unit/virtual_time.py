"""An event loop whose time jumps to the next timer: hours of waiting in milliseconds, the same on every machine."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_PATIENCE = 60.0
"""Real seconds to wait for a thread when no timer is set; longer is a deadlock."""


class _Selector(selectors.DefaultSelector):
    """Never sleeps while a timer is set: it moves the time instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            if ready := super().select(_PATIENCE):
                return ready
            raise RuntimeError("deadlock: every task waits, and no timer is set")
        self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at time 0. `asyncio.sleep(3600)` takes no time at all, and ends at 3600."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
