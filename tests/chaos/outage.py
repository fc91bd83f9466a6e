"""`python -m tests.chaos.outage`: an API is of no use for half a minute, under load, and comes back."""

import argparse
import asyncio
import itertools
import sys
import time
from pathlib import Path
from typing import Literal

from consumer.sandbox import Options, Plan, Rule, World
from tests.chaos.experiment import Result, main
from tests.chaos.findings import findings
from tests.chaos.schedule import INSTANCES, Api
from tests.chaos.stage import Stage, open_stage
from tests.kafka_broker import KafkaBroker

How = Literal["cut", "503", "silence"]

_BOUND = 10.0


async def outage(kafka: KafkaBroker, folder: Path, *, api: Api, how: How, seconds: float, rate: float = 10.0) -> Result:
    """Have one API fail every request for so long, while `rate` users a second change."""
    world = World()
    world.populate(200, kinds=("recurring",), contacts=("tagged",))
    async with open_stage(kafka, folder, world, options=Options(plan=Plan(latency=0.02))) as stage:
        stage.group.start(*INSTANCES)
        await stage.group.joined()
        await _load(stage, 3, rate)
        await stage.drained(30)
        ends = time.monotonic() + seconds
        for name in [api, "token"] if api == "sesamy" else [api]:
            stage.sandbox.faults.add(_rule(name, how, seconds))
        await _load(stage, seconds, rate)
        await asyncio.sleep(max(0, ends - time.monotonic()))
        await stage.drained(60)
        recovery = time.monotonic() - ends
        evidence = await stage.evidence()
        failures = stage.group.failures()
    missed = [*findings(evidence), *failures]
    if recovery > _BOUND:
        missed.append(f"drained {recovery:.1f} s after recovery")
    figures = {
        "outage": f"{api}, {how}, {seconds:g} s",
        "events": len(evidence.sent),
        "requests during the outage": sum(
            ends - seconds < record.start < ends and record.api == api for record in evidence.log.records
        ),
        "dead letters": len(evidence.letters),
        "drained, seconds after recovery": recovery,
        "findings": len(missed),
    }
    return Result(figures, missed)


def _rule(api: str, how: How, seconds: float) -> Rule:
    match how:
        case "cut":
            return Rule(api=api, cut=True, lasts=seconds)  # type: ignore[arg-type]
        case "503":
            return Rule(api=api, status=503, lasts=seconds)  # type: ignore[arg-type]
        case _:
            return Rule(api=api, delay=2 * seconds, cut=True, lasts=seconds)  # type: ignore[arg-type]


async def _load(stage: Stage, seconds: float, rate: float) -> None:
    end = time.monotonic() + seconds
    for user_id in itertools.cycle(stage.sandbox.world.user_ids()):
        if time.monotonic() >= end:
            return
        await stage.events.change(user_id)
        await asyncio.sleep(1 / rate)


async def _measure(args: argparse.Namespace, kafka: KafkaBroker, folder: Path) -> Result:
    return await outage(kafka, folder, api=args.api, how=args.how, seconds=args.seconds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.outage", description=__doc__)
    parser.add_argument("api", choices=["sesamy", "mailmojo"])
    parser.add_argument("--how", choices=["cut", "503", "silence"], default="cut", help="default: cut")
    parser.add_argument("--seconds", type=float, default=30.0, help="default: 30")
    return parser


if __name__ == "__main__":
    sys.exit(main(_measure, _parser()))
