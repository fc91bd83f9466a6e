"""`python -m tests.chaos.kill`: how much is done again after kill -9 in the midst of a backlog (promise P4).

One instance works at its full concurrency when it is killed; another one takes over. Begun again may be what was in
flight, and what was done after the last commit: at most 0.2 seconds of work at the rate of that moment.
"""

import argparse
import itertools
import random
import statistics
import sys
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from consumer.sandbox import Options, Plan, World
from tests.chaos.evidence import Evidence
from tests.chaos.experiment import Progress, Result, main, say
from tests.chaos.findings import findings
from tests.chaos.stage import open_stage
from tests.kafka_broker import KafkaBroker

_UNCOMMITTED: Final = 0.2
"""Seconds of work that may be done and not committed yet: the interval of commits, and the round trip of one."""


class _Kill(Struct, frozen=True):
    """What the fakes saw of one kill: how many users' syncs were open, and how many were done and begun again."""

    open: int
    again: int


async def kill(
    kafka: KafkaBroker,
    folder: Path,
    *,
    records: int,
    kills: int,
    latency: float = 0.01,
    concurrency: int = 64,
    seed: int = 1,
) -> Result:
    """Work off so many records, one for each user, and kill whoever does so often."""
    dice = random.Random(seed)
    world = World()
    world.populate(records, seed, kinds=("recurring",), contacts=("tagged",))
    settings = {"SYNC_CONCURRENCY": str(concurrency), "SYNC_LINGER": "0"}
    async with open_stage(
        kafka, folder, world, settings=settings, options=Options(plan=Plan(latency=latency))
    ) as stage:
        for user_id in world.user_ids():
            await stage.events.change(user_id)
        await stage.events.stored()
        progress, killed = Progress(stage), list[float]()
        for number in range(1, kills + 1):
            stage.group.start("worker")
            target = (number - dice.uniform(0.1, 0.5)) / (kills + 0.2)
            await progress.until(round(records * target))
            killed.append(stage.group.kill("worker"))
            say(f"kill {number} of {kills} at {progress.done()} of {records} records")
        stage.group.start("worker")
        await stage.drained(120)
        evidence = await stage.evidence()
        failures = stage.group.failures()
    rate, seen = _rate(evidence), _seen(evidence, killed)
    # Users that start together end together: one such wave may end at once while a commit is on its way.
    allowed = concurrency + max(concurrency, round(_UNCOMMITTED * rate))
    begun_again = [one.open + one.again for one in seen]
    missed = [*findings(evidence), *failures]
    missed += [f"{count} users began again, {allowed} may" for count in begun_again if count > allowed]
    figures = {
        "records": records,
        "kills": kills,
        "events/s, in the best second": rate,
        "in flight at each kill": [one.open for one in seen],
        "done, and done again": [one.again for one in seen],
        "begun again": begun_again,
        "begun again, median": round(statistics.median(begun_again)),
        f"allowed: in flight and {_UNCOMMITTED} s of work": allowed,
        "findings": len(missed),
    }
    return Result(figures, missed)


def _seen(evidence: Evidence, killed: Sequence[float]) -> list[_Kill]:
    """Return what the fakes saw of each kill. Each instance's syncs are those that began since the kill before."""
    syncs = evidence.syncs()
    seen = []
    for before, at in itertools.pairwise([0.0, *killed]):
        open_, again = 0, 0
        for sent in evidence.sent:
            mine = [sync for sync in syncs[sent.user_id] if before < sync.began <= at]
            is_done = any((end := sync.done_at(sent.version)) is not None and end <= at for sync in mine)
            open_ += bool(mine) and not is_done
            again += is_done and any(sync.began > at for sync in syncs[sent.user_id])
        seen.append(_Kill(open_, again))
    return seen


def _rate(evidence: Evidence) -> int:
    """Return how many events were done in the best second."""
    syncs = evidence.syncs()
    ends = sorted(
        end
        for sent in evidence.sent
        if (end := min(filter(None, (sync.done_at(sent.version) for sync in syncs[sent.user_id])), default=None))
    )
    return max((bisect_right(ends, end + 1) - place for place, end in enumerate(ends)), default=0)


async def _measure(args: argparse.Namespace, kafka: KafkaBroker, folder: Path) -> Result:
    return await kill(kafka, folder, records=args.records, kills=args.kills, latency=args.latency, seed=args.seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.kill", description=__doc__)
    parser.add_argument("--records", type=int, default=4000, metavar="N", help="default: 4000")
    parser.add_argument("--kills", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--latency", type=float, default=0.01, metavar="SECONDS", help="of both APIs (default: 0.01)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="when it is killed")
    return parser


if __name__ == "__main__":
    sys.exit(main(_measure, _parser()))
