"""`python -m tests.chaos.poison`: how long everybody else's events take beside a user whose contact always answers 500.

One instance drains the same backlog with and without that user, in turn; medians are compared.
"""

import argparse
import statistics
import sys
from pathlib import Path

from consumer.sandbox import Options, Plan, Rule, World
from tests.chaos.experiment import Progress, Result, main, say
from tests.chaos.findings import findings
from tests.chaos.stage import open_stage
from tests.kafka_broker import KafkaBroker

_BOUND = 0.05


async def poison(kafka: KafkaBroker, folder: Path, *, records: int, rounds: int, latency: float = 0.05) -> Result:
    """Drain so many records with and without the user."""
    times: dict[bool, list[float]] = {False: [], True: []}
    missed: list[str] = []
    for number in range(rounds):
        for poisoned, taken in times.items():
            seconds, found = await _drain(kafka, folder / f"{number}-{poisoned}", records, latency, poisoned=poisoned)
            say(f"round {number + 1} of {rounds}, {'with' if poisoned else 'without'} the user: {seconds:.2f} s")
            taken.append(seconds)
            missed += found
    alone, beside = statistics.median(times[False]), statistics.median(times[True])
    growth = beside / alone - 1
    if growth >= _BOUND:
        missed.append(f"the others took {growth:.1%} longer")
    figures = {
        "records of others": records - 1,
        "seconds without the user, median": alone,
        "seconds beside the user, median": beside,
        "growth": f"{growth:+.1%}",
        "all, without": ", ".join(f"{seconds:.2f}" for seconds in times[False]),
        "all, beside": ", ".join(f"{seconds:.2f}" for seconds in times[True]),
    }
    return Result(figures, missed)


async def _drain(
    kafka: KafkaBroker, folder: Path, records: int, latency: float, *, poisoned: bool
) -> tuple[float, list[str]]:
    world = World()
    world.populate(records, kinds=("recurring",), contacts=("tagged",))
    users = world.user_ids()
    victim = users[0]
    async with open_stage(kafka, folder, world, options=Options(plan=Plan(latency=latency))) as stage:
        if poisoned:
            stage.sandbox.faults.add(Rule(api="mailmojo", key=stage.address(victim), status=500))
        for user_id in users:
            await stage.events.change(user_id)
        await stage.events.stored()
        stage.group.start("a")
        await Progress(stage).until(records - 1)
        others = [write for write in stage.sandbox.log.writes() if write.user_id != victim]
        first = min(record.start for record in stage.sandbox.log.requests(operation="get_user"))
        await stage.drained(60)
        found = findings(await stage.evidence(), {victim: "exhausted"} if poisoned else None)
    return max(write.end for write in others) - first, found


async def _measure(args: argparse.Namespace, kafka: KafkaBroker, folder: Path) -> Result:
    return await poison(kafka, folder, records=args.records, rounds=args.rounds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.poison", description=__doc__)
    parser.add_argument("--records", type=int, default=1000, metavar="N", help="default: 1000")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    return parser


if __name__ == "__main__":
    sys.exit(main(_measure, _parser()))
