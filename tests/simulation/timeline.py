"""The one object that orders everything in a simulated world: virtual time, and a seed for what is open."""

import heapq
import random
from collections.abc import Callable
from itertools import count
from typing import Final


class Handle:
    """A call that is still to come."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        """Virtual seconds since the start."""
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Drop the call; it does nothing after the call was made."""
        self.callback = None


class Timeline:
    """Runs calls in the order of their times; the seed decides between calls of the same time.

    Two runs with the same seed make the same calls in the same order, as long as the calls themselves take every
    decision from `rng` or from a `stream`.
    """

    def __init__(self, seed: int) -> None:
        self.seed: Final = seed
        self.now = 0.0
        """Virtual seconds since the start."""
        self.steps = 0
        """How many calls were made: the number of a step finds it again in the next run of the seed."""
        self.rng: Final = self.stream("world")
        self._ties = self.stream("ties").random
        self._order = count()
        self._limit = float("-inf")
        self._calls: list[tuple[float, float, int, Handle]] = []

    def stream(self, name: str) -> random.Random:
        """Return random numbers of their own: drawing from one stream does not change another."""
        return random.Random(f"{self.seed}:{name}")

    def at(self, when: float, callback: Callable[[], object]) -> Handle:
        """Make the call at this time, or as soon as possible if the time has passed."""
        handle = Handle(max(self.now, when), callback)
        heapq.heappush(self._calls, (handle.when, self._ties(), next(self._order), handle))
        return handle

    def after(self, delay: float, callback: Callable[[], object]) -> Handle:
        """Make the call after so many seconds."""
        return self.at(self.now + delay, callback)

    def step(self) -> bool:
        """Make the next call and return True, or return False if none is left."""
        calls = self._calls
        while calls:
            when, _, _, handle = heapq.heappop(calls)
            callback = handle.callback
            if callback is None:
                continue
            handle.callback = None
            self.now = when
            self.steps += 1
            callback()
            return True
        return False

    def pass_to(self, when: float) -> bool:
        """Move the time, if no other call comes before then, and return whether it was moved.

        Does for the call that is being made what `at` would do for its next one, without the detour.
        """
        calls = self._calls
        while calls and calls[0][3].callback is None:
            heapq.heappop(calls)
        if when > self._limit or (calls and calls[0][0] <= when):
            return False
        self.now = when
        self.steps += 1
        return True

    def run_until(self, when: float) -> None:
        """Make every call up to this time, and move the time there. A call may use this to let time pass."""
        calls = self._calls
        outer, self._limit = self._limit, when
        while calls:
            if calls[0][3].callback is None:
                heapq.heappop(calls)
            elif calls[0][0] > when:
                break
            else:
                self.step()
        self._limit = outer
        self.now = max(self.now, when)
