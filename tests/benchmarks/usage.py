"""What a process has cost so far, from Linux's /proc."""

import os
import re
from pathlib import Path

from msgspec import Struct

_TICKS = os.sysconf("SC_CLK_TCK")
TICK = 1 / _TICKS
"""Seconds: the least CPU that can be told from none."""


class Usage(Struct, frozen=True):
    """CPU seconds (user and system, all threads) and the most memory it ever held, in MiB."""

    cpu: float
    peak_rss: float


def usage_of(pid: int) -> Usage:
    """Return the usage of a running process.

    Raises:
        OSError: there is no such process, or no /proc.
    """
    folder = Path("/proc", str(pid))
    # The name in parentheses may hold spaces; utime and stime are the 12th and 13th fields behind it.
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    peak = re.search(r"^VmHWM:\s+(\d+) kB", (folder / "status").read_text(), re.MULTILINE)
    assert peak is not None
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS, int(peak[1]) / 1024)
