"""What the run looked like from outside, once a second: lag, processes, instances."""

import asyncio
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from consumer.failure import Failure
from consumer.loadtest.instances import Group
from consumer.loadtest.topics import OwnTopics

_EVERY: Final = 1.0
_TICK: Final = 0.05
_SILENT_SECONDS: Final = 30.0


class Usage(Struct, frozen=True):
    """CPU seconds so far (user and system, all threads), memory now and at the most, in MiB."""

    cpu: float
    rss: float
    peak_rss: float


class Sample(Struct, frozen=True):
    """One moment, in monotonic seconds."""

    at: float
    records: int
    """In the topic."""
    lag: int
    """Records that no commit covers."""
    usage: Mapping[str, Usage]
    """By process; empty where the system does not tell."""


def usage_of(pid: int) -> Usage | None:
    """Return the usage of a running process from Linux's /proc; None without that, or without such a process."""
    folder = Path("/proc", str(pid))
    try:
        # The name in parentheses may hold spaces; utime and stime are the 12th and 13th fields behind it.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        status = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", (folder / "status").read_text(), re.MULTILINE))
    except OSError:
        return None
    if not status:  # it has ended, and nobody has asked how
        return None
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Usage(cpu, int(status["VmRSS"]) / 1024, int(status["VmHWM"]) / 1024)


class Sampler:
    """Takes a sample a second until cancelled."""

    def __init__(self, topics: OwnTopics, group: Group, others: Mapping[str, int]) -> None:
        """Look at the topics, the group's instances and other processes, by name."""
        self.samples: list[Sample] = []
        self._topics, self._group, self._others = topics, group, others

    @property
    def lag(self) -> int:
        """As last seen."""
        return self.samples[-1].lag if self.samples else 0

    async def run(self) -> None:
        """Sample. Raises `Failure` when Kafka does not tell for `_SILENT_SECONDS`: brokers do restart."""
        due = told = time.monotonic()
        while True:
            try:
                await self._sample()
                told = time.monotonic()
            except Failure:
                if time.monotonic() - told > _SILENT_SECONDS:
                    raise
            due = max(due + _EVERY, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def _sample(self) -> None:
        processes = {instance.name: instance.pid for instance in self._group.running} | dict(self._others)
        usage = {name: found for name, pid in processes.items() if (found := usage_of(pid)) is not None}
        await self._group.look()
        records, lag = await self._topics.lag()
        self.samples.append(Sample(time.monotonic(), records, lag, usage))

    async def until(self, holds: Callable[[Sample], bool], within: float) -> bool:
        """Wait until a new sample is as wanted; return whether that came in time, and before all instances ended."""
        deadline, seen = time.monotonic() + within, len(self.samples)
        while True:
            if len(self.samples) > seen:
                seen = len(self.samples)
                if holds(self.samples[-1]):
                    return True
                if time.monotonic() >= deadline or not self._group.running:
                    return False
            await asyncio.sleep(_TICK)
