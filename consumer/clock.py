"""Time and chance as parameters, so that no unit test sleeps or rolls dice."""

import time
from typing import Protocol

from msgspec import Struct

_SUSPENDED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Seconds since an arbitrary start; never goes back."""

    def __call__(self) -> float:
        """Return the seconds."""


def suspended_time() -> float:
    """Return seconds including those in which the machine slept, where the system can tell.

    A lease measured with a clock that stops in a suspend would look fresh after it.
    """
    return time.clock_gettime(_SUSPENDED)


class Clocks(Struct, frozen=True):
    """The clocks of one process."""

    monotonic: Clock = time.monotonic
    suspended: Clock = suspended_time
    """Counts the time in which the machine slept."""
    wall: Clock = time.time
    """Seconds since 1970; may go back."""


REAL_CLOCKS = Clocks()
