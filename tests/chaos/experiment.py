"""What the experiments share: a result with figures, and a command that prints it."""

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from tests import kafka_broker
from tests.chaos.stage import Stage
from tests.kafka_broker import KafkaBroker
from tests.waiting import wait_until


class Result(Struct, frozen=True):
    """An experiment's figures by name, and in words whatever is not as promised."""

    figures: Mapping[str, object]
    missed: Sequence[str]


Measure: TypeAlias = Callable[[argparse.Namespace, KafkaBroker, Path], Awaitable[Result]]


def main(
    measure: Measure, parser: argparse.ArgumentParser, make_broker: Callable[[], KafkaBroker] = KafkaBroker
) -> int:
    """Start a broker, measure, print, and return the exit code: 1 when something is not as promised."""
    args = parser.parse_args()
    if reason := kafka_broker.unavailable():
        say(reason)
        return 2
    quiet()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    with make_broker() as kafka:
        result = asyncio.run(_measured(measure, args, kafka, folder))
    width = max(map(len, result.figures))
    for name, figure in result.figures.items():
        sys.stdout.write(f"{name:{width}}  {f'{figure:.2f}' if isinstance(figure, float) else figure}\n")
    for missed in result.missed:
        sys.stdout.write(f"MISSED  {missed}\n")
    if not result.missed:
        shutil.rmtree(folder)
        return 0
    sys.stdout.write(f"logs of the instances: {folder}\n")
    return 1


async def _measured(measure: Measure, args: argparse.Namespace, kafka: KafkaBroker, folder: Path) -> Result:
    return await measure(args, kafka, folder)


def quiet() -> None:
    """Keep what this process's own Kafka clients say of a broker that was taken away off the terminal."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class Progress:
    """How many contacts show a state of after the load, from the request log; the load is one event per user."""

    def __init__(self, stage: Stage) -> None:
        self._log = stage.sandbox.log
        self._read = 0
        self._done: set[str] = set()

    def done(self) -> int:
        """Return how many contacts were written."""
        news = self._log.records[self._read :]
        self._read += len(news)
        self._done.update(record.address or "" for record in news if record.change is not None)
        return len(self._done)

    async def until(self, count: int, within: float = 120) -> None:
        """Wait until that many are done."""
        await wait_until(lambda: self.done() >= count, within, what=f"{count} contacts are written")
