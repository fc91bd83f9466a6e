"""Waiting for SIGTERM, SIGINT and SIGHUP in an event loop."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from consumer import signals

_LAST_WORDS: Final = 0.2
"""Seconds for what was written to stderr to arrive."""

_callbacks: list[Callable[[], object]] = []
_handlers_before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}


@contextmanager
def on_stop(callback: Callable[[], object]) -> Iterator[None]:
    """Have the running event loop call back for each signal while the block runs, instead of whatever it did before."""
    loop = asyncio.get_running_loop()
    if not _callbacks:
        _handlers_before.update((number, signal.getsignal(number)) for number in signals.numbers())
    _callbacks.append(callback)
    _listen(loop)
    try:
        yield
    finally:
        _callbacks.remove(callback)
        _listen(loop)


class Stopping:
    """What a service waits for. Until it has `begun`, a signal cancels the task that starts it."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        """Set by the first signal."""
        self.has_begun = False

    def begun(self) -> None:
        """The start is complete: from now on a signal only sets `requested`, and the service ends in order."""
        self.has_begun = True


@contextmanager
def stopping(*, within: float | None = None) -> Iterator[Stopping]:
    """Run a service in the block, which a signal that comes before it has begun leaves.

    If the block is not left `within` so many seconds after the signal, whatever hangs, the process ends with 1.
    """
    state, task = Stopping(), asyncio.current_task()
    last_resort = threading.Timer(within or 0.0, _give_up, (within,))
    last_resort.daemon = True

    def stop() -> None:
        if within is not None and not state.requested.is_set():
            last_resort.start()
        if task is not None and not (state.has_begun or state.requested.is_set()):
            task.cancel()
        state.requested.set()

    with on_stop(stop):
        try:
            yield state
        except asyncio.CancelledError:
            if task is None or state.has_begun or not state.requested.is_set() or task.uncancel():
                raise
        finally:
            last_resort.cancel()


def _give_up(seconds: float) -> None:
    sys.stderr.write(f"sesamy-mailmojo: not stopped within {seconds:g} s (SHUTDOWN_TIMEOUT); ended anyway\n")
    time.sleep(_LAST_WORDS)
    os._exit(1)


def _listen(loop: asyncio.AbstractEventLoop) -> None:
    """Have the innermost callback called, or without any restore the handlers of before."""
    if _callbacks:
        for number in _handlers_before:
            loop.add_signal_handler(number, _callbacks[-1])
        return
    # Removing a handler sets the signal's default, which would kill the process in between.
    signal.pthread_sigmask(signal.SIG_BLOCK, _handlers_before)
    try:
        for number, handler in _handlers_before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _handlers_before)
        _handlers_before.clear()
