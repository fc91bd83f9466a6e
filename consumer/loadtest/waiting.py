"""Waiting for what other processes do, of which no event tells."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

_TICK: Final = 0.1


async def until(holds: Callable[[], Awaitable[bool]], within: float) -> bool:
    """Ask until it holds, and return whether it did within so many seconds; asked once more after them."""
    deadline = time.monotonic() + within
    while True:
        late = time.monotonic() >= deadline
        if await holds():
            return True
        if late:
            return False
        await asyncio.sleep(_TICK)
