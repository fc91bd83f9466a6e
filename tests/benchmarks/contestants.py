"""Who runs against whom. Each is a process of its own with the service's own settings."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from consumer.loadtest.processes import Child
from tests.benchmarks.scenarios import Scenario
from tests.service_process import ServiceProcess

_ROOT = Path(__file__).parents[2]
_JAVA = Path(__file__).parent / "java"
_JARS = _JAVA / "target" / "dependency"


class Contestant(Protocol):
    """One way to get from the topic to the APIs.

    `reads_topic` is False for one that is told its users by a file. Before it counts it works off `warm_up` events, or
    as many as it works on at a time.
    """

    name: str
    what: str
    reads_topic: bool
    warm_up: int

    def width(self, scenario: Scenario) -> int:
        """Return how many users it syncs at a time at the most."""

    def start(self, folder: Path, settings: Mapping[str, str]) -> Child:
        """Start it with its output in `folder`."""


class Service:
    """The real thing."""

    name = "service"
    what = "`sesamy-mailmojo run`: order per user, users side by side, one sync for what waits together"
    reads_topic = True
    warm_up = 0

    def width(self, scenario: Scenario) -> int:
        return scenario.concurrency

    def start(self, folder: Path, settings: Mapping[str, str]) -> Child:
        return ServiceProcess(folder, settings)


class EachEvent(Service):
    """The real thing without its greatest lever."""

    name = "service, each event"
    what = "the same with `SYNC_COALESCE=false`: one sync per event"

    def start(self, folder: Path, settings: Mapping[str, str]) -> Child:
        return ServiceProcess(folder, {**settings, "SYNC_COALESCE": "false"})


class Program:
    """A program of ours around the plainest thing."""

    def __init__(
        self,
        name: str,
        what: str,
        command: Sequence[str],
        *,
        reads_topic: bool = True,
        by_partition: bool = False,
        warm_up: int = 0,
    ) -> None:
        self.name, self.what, self.reads_topic, self.warm_up = name, what, reads_topic, warm_up
        self._by_partition = by_partition
        self._command = command

    def width(self, scenario: Scenario) -> int:
        return scenario.partitions if self._by_partition else scenario.concurrency

    def start(self, folder: Path, settings: Mapping[str, str]) -> Child:
        folder.mkdir(parents=True, exist_ok=True)
        inherited = ("PATH", "HOME", "LANG", "JAVA_HOME", "PYTHONPATH")
        environment = {name: os.environ[name] for name in inherited if name in os.environ}
        return Child(
            [part.format(folder=folder) for part in self._command],
            output=folder / "output",
            cwd=_ROOT,
            env={**environment, **settings},
        )


SEQUENTIAL = Program(
    "one at a time",
    "plain aiokafka, one record at a time per partition, a commit after each batch; same syncer and clients",
    [sys.executable, "-m", "tests.benchmarks.loops", "sequential"],
    by_partition=True,
)
GROUPED = Program(
    "grouped by key",
    "plain aiokafka, 500 records a batch, keys side by side, a commit after each batch; same syncer and clients",
    [sys.executable, "-m", "tests.benchmarks.loops", "grouped"],
)
BARE = Program(
    "bare client",
    "aiohttp alone: the same calls, no Kafka, nothing derived; what one Python process can do here at all",
    [sys.executable, "-m", "tests.benchmarks.bare", "{folder}"],
    reads_topic=False,
)
PARALLEL = Program(
    "Parallel Consumer",
    "Confluent's, Java 17, order by key, threads, java.net.http; the same calls, nothing derived",
    ["java", "-Xmx1g", "-cp", f"{_JARS}/*", str(_JAVA / "Main.java")],
    warm_up=4_000,  # until its compiler has seen enough
)
SERVICE, EACH_EVENT = Service(), EachEvent()
CONTESTANTS: tuple[Contestant, ...] = (SERVICE, EACH_EVENT, GROUPED, SEQUENTIAL, PARALLEL, BARE)


def fetch_parallel_consumer() -> str | None:
    """Have Maven put Parallel Consumer's jars in place, and say why not if it could not."""
    if list(_JARS.glob("parallel-consumer-core-*.jar")):
        return None
    if shutil.which("mvn") is None:
        return "there is no `mvn` in PATH to fetch it"
    command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]
    result = subprocess.run(command, cwd=_JAVA, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return f"Maven could not fetch it: {(result.stdout + result.stderr)[-300:]}" if result.returncode else None


def entrants(scenario: Scenario) -> Sequence[Contestant]:
    """Return who runs in a scenario: those of whom it tells anything."""
    if scenario.pace is not None:
        return (SERVICE, GROUPED, PARALLEL)
    if scenario.users is not None:
        return (SERVICE, EACH_EVENT, GROUPED, PARALLEL)
    return (SERVICE, GROUPED, SEQUENTIAL, PARALLEL, BARE)
