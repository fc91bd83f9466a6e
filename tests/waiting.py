"""Waiting for something outside this process: a condition polled under a deadline, instead of a sleep."""

import asyncio
import inspect
import time
from collections.abc import Callable

_INTERVAL = 0.05


async def wait_until(predicate: Callable[[], object], within: float = 60, *, what: str) -> None:
    """Return when the predicate, plain or a coroutine function, holds; TimeoutError naming `what` after `within` s."""
    deadline = time.monotonic() + within
    while True:
        answer = predicate()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within} s")
        await asyncio.sleep(_INTERVAL)
