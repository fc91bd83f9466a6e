"""Who runs against whom. Each is a process of its own with the service's own settings."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tests.benchmarks.scenarios import Scenario
from tests.processes import Child
from tests.service_process import ServiceProcess

_ROOT = Path(__file__).parents[2]


class Contestant(Protocol):
    """One way to get from the topic to the APIs."""

    name: str
    what: str

    def width(self, scenario: Scenario) -> int:
        """Return how many users it syncs at a time at the most."""

    def start(self, folder: Path, settings: Mapping[str, str]) -> Child:
        """Start it with its output in `folder`."""


class Service:
    """The real thing."""

    name = "service"
    what = "`sesamy-mailmojo run`: order per user, users side by side"

    def width(self, scenario: Scenario) -> int:
        return scenario.concurrency

    def start(self, folder: Path, settings: Mapping[str, str]) -> Child:
        return ServiceProcess(folder, settings)


class Sequential:
    """What one writes first: records of a partition one after another, a commit after each batch."""

    name = "one at a time"
    what = "plain aiokafka, one record at a time per partition, a commit after each batch; same syncer and clients"

    def width(self, scenario: Scenario) -> int:
        return scenario.partitions

    def start(self, folder: Path, settings: Mapping[str, str]) -> Child:
        folder.mkdir(parents=True)
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return Child(
            [sys.executable, "-m", "tests.benchmarks.sequential"],
            output=folder / "output",
            cwd=_ROOT,
            env={**environment, **settings},
        )


CONTESTANTS: tuple[Contestant, ...] = (Service(), Sequential())
