"""When this process stood still: stopped by a signal, in a paused machine, or with a blocked event loop.

A request that was open then may have timed out here and nowhere else, so its failure says nothing about anybody.
"""

import asyncio
import math
from typing import Final

from consumer.clock import Clock

_TICK: Final = 0.5
_LATE: Final = 1.5
"""Seconds by which a tick is late before the process counts as frozen."""

_AFTERMATH: Final = 2.0
"""Seconds after a freeze in which connections turn out to be dead that the other side closed meanwhile."""


class Freezes:
    """Remembers the last freeze; needs `run`."""

    def __init__(self, clock: Clock) -> None:
        """`clock` goes on while the process, and best also the machine, stands still."""
        self._clock = clock
        self._ticked = clock()
        self._ended = -math.inf

    async def run(self) -> None:
        """Tick until cancelled."""
        self._ticked = self._clock()
        while True:
            await asyncio.sleep(_TICK)
            self._tick()

    def since(self, began: float) -> bool:
        """Return whether the process was frozen at any time since then, or shortly before."""
        self._tick()  # after a freeze, what failed may be looked at before the next tick
        return began < self._ended + _AFTERMATH

    def _tick(self) -> None:
        now = self._clock()
        if now - self._ticked > _TICK + _LATE:
            self._ended = now
        self._ticked = now
