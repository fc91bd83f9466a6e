"""One simulated process: an event loop of its own with clocks, which can freeze, go on, and be killed."""

import asyncio
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Any, Final

from tests.simulation.loops import SteppedLoop
from tests.simulation.timeline import Handle, Timeline

EPOCH: Final = 1_762_776_000.0
"""The wall clock at the start of every world: 2025-11-10T12:00:00Z."""

_SHORTEST: Final = 20e-6
_LONGEST: Final = 150e-6
"""Seconds between a loop's becoming ready and its turn; they order the loops among one another."""


class Host:
    """A process of the service.

    Its clocks never stop, not even while it is frozen. What is posted to it while it is frozen is run when it thaws,
    as what waits in a socket; what is posted after a crash is dropped.
    """

    def __init__(self, timeline: Timeline, name: str, *, skew: float = 0.0) -> None:
        self.name: Final = name
        self.timeline: Final = timeline
        self.alive = True
        self.frozen = False
        self.skew = skew
        """Seconds by which its wall clock is ahead."""
        rng = timeline.stream(f"host {name}")
        self._random = rng.random
        self._booted = rng.uniform(1e3, 1e6)
        self.loop: Final = SteppedLoop(name, self.monotonic, self._wake)
        self.context: Final = Context()
        self.failures: list[dict[str, Any]] = []
        """What reached the loop's exception handler: a fault of the program in itself."""
        self.loop.set_exception_handler(lambda _loop, failure: self.failures.append(failure))
        self._turn: Handle | None = None
        self._killed: list[asyncio.Task[Any]] = []

    def monotonic(self) -> float:
        """Return the seconds of the process's monotonic clock, which is the loop's."""
        return self._booted + self.timeline.now

    def suspended_time(self) -> float:
        """Return the seconds of the clock that goes on in a suspend."""
        return 2 * self._booted + self.timeline.now

    def wall_clock(self) -> float:
        """Return the seconds since 1970, as this host has them."""
        return EPOCH + self.skew + self.timeline.now

    def post(self, callback: Callable[[], object], delay: float = 0.0) -> None:
        """Run the callback in the host's loop after `delay` seconds: a message from outside."""
        self.timeline.after(delay, lambda: self._deliver(callback))

    def spawn(self, main: Coroutine[Any, Any, Any], name: str | None = None) -> "asyncio.Task[Any]":
        """Start a task in the host's loop."""
        return self.context.run(self.loop.create_task, main, name=name)

    def freeze(self) -> None:
        """Stop the process, as SIGSTOP and a paused virtual machine do."""
        self.frozen = True
        self._cancel_turn()

    def thaw(self) -> None:
        """Let the process go on; what has been posted meanwhile comes first."""
        if self.frozen:
            self.frozen = False
            self._wake()

    def crash(self) -> None:
        """Kill the process: no `finally` block runs, and what it had in memory is gone."""
        self.alive = False
        self._cancel_turn()
        self._killed += self.loop.discard()

    def close(self) -> None:
        """Give back what the process has held, once the world has ended: coroutines that were left end here."""
        self.crash()
        with _no_last_words():
            for task in self._killed:
                coroutine = task.get_coro()
                with suppress(BaseException):
                    coroutine.close()
            self._killed.clear()

    def _deliver(self, callback: Callable[[], object]) -> None:
        if self.alive:
            self.loop.call_soon(callback, context=self.context)

    def _wake(self) -> None:
        """Plan the next turn."""
        if not self.alive or self.frozen:
            return
        when = self._next_turn()
        if when is None:
            self._cancel_turn()
            return
        if self._turn is not None and self._turn.callback is not None:
            if self._turn.when <= when:
                return
            self._turn.cancel()
        self._turn = self.timeline.at(when, self._run_turn)

    def _next_turn(self) -> float | None:
        """Return when the loop's next turn is, in the world's time; None if it has nothing to do."""
        when = self.loop.next_time()
        if when is None:
            return None
        return max(when - self._booted, self.timeline.now) + _SHORTEST + (_LONGEST - _SHORTEST) * self._random()

    def _run_turn(self) -> None:
        self._turn = None
        while True:
            self.loop.turn()
            self._cancel_turn()  # planned by a `thaw` in the middle of this one
            if not self.alive or self.frozen:
                return
            when = self._next_turn()
            if when is None:
                return
            if not self.timeline.pass_to(when):
                break
        self._turn = self.timeline.at(when, self._run_turn)

    def _cancel_turn(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None


@contextmanager
def _no_last_words() -> Iterator[None]:
    """Ignore what coroutines and tasks say when they are deallocated half-way."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda _told: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = before
