"""`python -m tests.chaos.drain`: a backlog drains through three instances that are killed or stopped, one by one.

The strikes are spread over the progress of the work, and each victim is replaced at once.
"""

import argparse
import random
import sys
import time
from pathlib import Path
from typing import Literal

from consumer.sandbox import Options, Plan, World
from tests.chaos.again import Strike, done_again
from tests.chaos.experiment import Progress, Result, main, say
from tests.chaos.findings import findings
from tests.chaos.schedule import INSTANCES
from tests.chaos.stage import open_stage
from tests.kafka_broker import KafkaBroker

How = Literal["kill", "leave"]


async def drain(
    kafka: KafkaBroker, folder: Path, *, how: How, records: int, strikes: int, latency: float = 0.05, seed: int = 1
) -> Result:
    """Drain so many records, one for each user, under so many strikes."""
    dice = random.Random(seed)
    world = World()
    world.populate(records, seed, kinds=("recurring",), contacts=("tagged",))
    options = Options(plan=Plan(latency=latency, jitter=latency / 5))
    async with open_stage(kafka, folder, world, options=options) as stage:
        for user_id in world.user_ids():
            await stage.events.change(user_id)
        await stage.events.stored()
        stage.group.start(*INSTANCES)
        await stage.group.joined()
        began, progress = time.monotonic(), Progress(stage)
        struck: list[Strike] = []
        stops: list[float] = []
        for number in range(1, strikes + 1):
            await progress.until(records * number // (strikes + 1))
            victim = dice.choice(INSTANCES)
            await stage.group.joined(victim)
            say(f"{how} {number} of {strikes}: {victim} at {progress.done()} of {records} records")
            owned = await stage.commits.owned()
            if how == "leave":
                stops.append(await stage.group.leave(victim))
            else:
                struck.append(Strike(stage.group.kill(victim), owned.get(victim, frozenset())))
            stage.group.start(victim)
        await stage.drained(120)
        seconds = time.monotonic() - began
        evidence = await stage.evidence()
        failures = stage.group.failures()
    again = done_again(evidence, struck)
    missed = [*findings(evidence), *failures]
    missed += [f"done again without a reason: {text}" for text in again.unexcused[:5]]
    missed += [f"P4 done again though recorded as done: {text}" for text in again.after_record[:5]]
    if again.events > again.excused:
        missed.append(f"{again.events} records were done again, and {again.excused} were open or not committed yet")
    figures: dict[str, object] = {
        "records": records,
        f"strikes ({how})": strikes,
        "seconds": seconds,
        "done again": again.events,
        "open at a strike, or done within a commit interval before": again.excused,
        "findings": len(missed),
    }
    if stops:
        figures |= {"exit codes": sorted({end.code for end in stage.group.ended}), "longest stop, seconds": max(stops)}
    return Result(figures, missed)


async def _measure(args: argparse.Namespace, kafka: KafkaBroker, folder: Path) -> Result:
    return await drain(
        kafka, folder, how=args.how, records=args.records, strikes=args.strikes, latency=args.latency, seed=args.seed
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.drain", description=__doc__)
    parser.add_argument("how", choices=["kill", "leave"], help="SIGKILL or SIGTERM")
    parser.add_argument("--records", type=int, default=5000, metavar="N", help="default: 5000")
    parser.add_argument("--strikes", type=int, default=20, metavar="N", help="default: 20")
    parser.add_argument("--latency", type=float, default=0.05, metavar="SECONDS", help="of both APIs (default: 0.05)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="who is struck")
    return parser


if __name__ == "__main__":
    sys.exit(main(_measure, _parser()))
