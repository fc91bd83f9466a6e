"""Where a load test ran: what a reader needs to know before comparing figures."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct


class Machine(Struct, frozen=True, kw_only=True):
    """A machine and what ran on it. `load_average` is that of the minute before the run."""

    cpu: str
    cores: int
    memory_gib: int
    system: str
    python: str
    program: str
    load_average: float


def machine() -> Machine:
    """Describe this one, now."""
    return Machine(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        program=version("sesamy-mailmojo"),
        load_average=round(os.getloadavg()[0], 2),
    )


def _cpu() -> str:
    try:
        model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        model = None
    return model[1] if model else platform.machine()
