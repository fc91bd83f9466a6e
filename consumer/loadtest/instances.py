"""Instances of the service, each a process of its own with its admin port on the loopback."""

import asyncio
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self, TypeAlias

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from consumer.failure import Failure
from consumer.loadtest.fakes import last_line
from consumer.loadtest.processes import Child
from consumer.loadtest.waiting import until

_ANSWER_SECONDS: Final = 5.0
_LEAVE_SECONDS: Final = 5.0
"""For instances to leave the group where the load test is given up."""

_PREFIX: Final = "sesamy_mailmojo_"

Sample: TypeAlias = tuple[str, frozenset[tuple[str, str]]]
"""A metric's name without the program's prefix, and its labels."""


class Metrics:
    """One look at the metrics of an instance, or of several added up."""

    def __init__(self, values: Mapping[Sample, float] | None = None) -> None:
        self._values = dict(values or {})

    @classmethod
    def parse(cls, text: str) -> "Metrics":
        """Return what a page in Prometheus' text format says."""
        return cls(
            {
                (sample.name.removeprefix(_PREFIX), frozenset(sample.labels.items())): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        )

    @classmethod
    def total(cls, several: Sequence["Metrics"]) -> "Metrics":
        """Add them up, which makes sense of counters."""
        values: defaultdict[Sample, float] = defaultdict(float)
        for one in several:
            for sample, value in one._values.items():  # noqa: SLF001 - of the same class
                values[sample] += value
        return cls(values)

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of this name with these labels; 0 without any."""
        return sum(
            value for (found, has), value in self._values.items() if found == name and labels.items() <= set(has)
        )

    def by(self, name: str, *labels: str) -> Counter[tuple[str, ...]]:
        """Return the sums of a counter by the values of these labels."""
        sums: Counter[tuple[str, ...]] = Counter()
        for (found, has), value in self._values.items():
            if found == name:
                known = dict(has)
                sums[tuple(known.get(label, "") for label in labels)] += round(value)
        return sums


class Instance:
    """One `run`. Its `metrics` are those of the last look that succeeded."""

    def __init__(self, number: int, folder: Path, env: Mapping[str, str]) -> None:
        """Start it, with its output in `folder`."""
        self.name = f"instance {number}"
        self.metrics = Metrics()
        self._log = folder / f"instance-{number}.log"
        self._port = 0
        self._read = 0
        self._child = Child([sys.executable, "-m", "consumer", "run"], output=self._log, env=env)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._child.returncode

    async def look(self, session: aiohttp.ClientSession) -> bool:
        """Look at its metrics, and return whether it answered."""
        page = await self._get(session, "/metrics")
        if page is not None:
            self.metrics = await asyncio.to_thread(Metrics.parse, page)
        return page is not None

    async def is_ready(self, session: aiohttp.ClientSession) -> bool:
        """Return whether it says that it is ready.

        Raises:
            Failure: it has ended.
        """
        if self.exit_code is not None:
            raise Failure(f"{self.name} ended with exit code {self.exit_code}: {last_line(self._log)}")
        return await self._get(session, "/readyz") is not None and await self.look(session)

    def terminate(self) -> None:
        """Ask it to stop."""
        self._child.terminate()

    def kill(self) -> None:
        """End it at once."""
        self._child.kill()

    async def _get(self, session: aiohttp.ClientSession, path: str) -> str | None:
        if not self._port:
            self._port = await asyncio.to_thread(self._announced_port)
        if not self._port or self.exit_code is not None:
            return None
        try:
            async with session.get(f"http://127.0.0.1:{self._port}{path}") as response:
                return await response.text() if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    def _announced_port(self) -> int:
        with self._log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                if line.startswith(b"{") and (said := msgspec.json.decode(line))["event"] == "admin.listening":
                    return int(said["port"])
        return 0


class Group:
    """All instances of a load test: `async with` ends them however it is left."""

    def __init__(self) -> None:
        self.instances: list[Instance] = []

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        self.session = aiohttp.ClientSession(timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.stop(_LEAVE_SECONDS)
        finally:  # a second Ctrl-C cancels the wait
            for instance in self.instances:
                instance.kill()  # what watches over it, too
            await self.session.close()

    @property
    def running(self) -> list[Instance]:
        """Those that have not ended."""
        return [instance for instance in self.instances if instance.exit_code is None]

    async def ready(self, partitions: int, within: float) -> None:
        """Wait until all are ready and the partitions are shared out evenly.

        Raises:
            Failure: one ended, or it took too long.
        """
        least = partitions // len(self.instances)
        waiting: list[str] = []

        async def settled() -> bool:
            waiting[:] = [one.name for one in self.instances if not await one.is_ready(self.session)]
            parts = [one.metrics.sum("assigned_partitions") for one in self.instances]
            return not waiting and sum(parts) == partitions and min(parts) >= least

        if not await until(settled, within):
            raise Failure(f"not ready within {within:g} s: {', '.join(waiting) or 'the group, which has not settled'}")

    async def look(self) -> None:
        """Look at the metrics of all that run."""
        await asyncio.gather(*(instance.look(self.session) for instance in self.running))

    async def idle(self, within: float) -> bool:
        """Wait until nothing is under way, and return whether that came; the metrics are of a moment after it."""

        async def quiet() -> bool:
            await self.look()
            busy = ("users_in_flight", "events_pending")
            return not any(instance.metrics.sum(name) for instance in self.running for name in busy)

        return await until(quiet, within)

    async def stop(self, within: float) -> None:
        """Stop all that run in order; one that takes longer than `within` seconds is killed."""

        async def ended() -> bool:
            return not self.running

        for instance in self.running:
            instance.terminate()
        await until(ended, within)
        for instance in self.running:
            instance.kill()
