"""One line that shows how far a long command is, for people who watch it on a terminal."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from consumer.printable import printable

_EVERY: Final = 0.5
_LINE: Final = "\r\x1b[K"


@asynccontextmanager
async def shown(line: Callable[[], str]) -> AsyncIterator[None]:
    """Show `line()` on stderr twice a second while the block runs; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield
        return

    async def show() -> None:
        while True:
            print(f"{_LINE}{printable(line())}", end="", file=sys.stderr, flush=True)
            await asyncio.sleep(_EVERY)

    task = asyncio.create_task(show())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        wipe()


def wipe() -> None:
    """Take the line away, if there may be one, before something else is printed there."""
    if sys.stderr.isatty():
        print(_LINE, end="", file=sys.stderr, flush=True)


def time_left(fraction: float, elapsed: float) -> str:
    """Return such as `3 min 20 s left`, from the part that is done and the seconds it took."""
    if fraction <= 0:
        return "time left unknown"
    return f"{duration(elapsed * (1 - fraction) / fraction)} left"


def duration(seconds: float) -> str:
    """Return seconds for people, such as `3 min 20 s`."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
