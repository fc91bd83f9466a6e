"""Stopping a long command with SIGINT or SIGTERM, so that it can end in order."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


async def interruptible(work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, and return whether it came to its own end: the first signal cancels it, a second one the process."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopped:
            task.cancel()
            raise
        return False
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return True
