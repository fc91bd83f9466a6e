"""Stopping a long command with SIGINT, SIGTERM or SIGHUP, so that it can end in order."""

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any

from consumer.stopping import on_stop


async def interruptible(work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, and return whether it came to its own end: the first signal cancels it, a second one the command."""
    task = asyncio.create_task(work)
    caller = asyncio.current_task()
    stopped = False
    with ExitStack() as listening:

        def stop() -> None:
            nonlocal stopped
            stopped = True
            task.cancel()
            listening.close()

        listening.enter_context(on_stop(stop))
        try:
            await task
        except asyncio.CancelledError:
            if not stopped or (caller is not None and caller.cancelling()):
                task.cancel()
                raise
            return False
    return True
