"""`python -m tests.chaos.thaw`: an instance that slept past its session wakes up with old states in its hands.

Time and again all users change, an instance is frozen in the midst of reading them, all users change once more, the
others take over and finish, and the sleeper wakes up.
"""

import argparse
import asyncio
import random
import sys
from pathlib import Path

from consumer.sandbox import Options, Plan, Rule, World
from tests.chaos.experiment import Result, main, say
from tests.chaos.findings import findings
from tests.chaos.schedule import INSTANCES
from tests.chaos.stage import SESSION, Stage, open_stage
from tests.kafka_broker import KafkaBroker

_AWAKE = 2.0
"""Seconds to watch who woke up: a write that it held would be out in a few milliseconds."""


async def thaw(kafka: KafkaBroker, folder: Path, *, rounds: int, users: int = 120, seed: int = 1) -> Result:
    """Freeze and thaw so often."""
    dice = random.Random(seed)
    world = World()
    world.populate(users, seed, kinds=("recurring",), contacts=("tagged",))
    settings = {"SYNC_CONCURRENCY": "64", "SYNC_LINGER": "0"}
    held = 0
    async with open_stage(kafka, folder, world, settings=settings, options=Options(plan=Plan(latency=0.01))) as stage:
        stage.sandbox.faults.add(Rule(api="sesamy", operation="list_entitlements", delay=0.3))
        stage.group.start(*INSTANCES)
        await stage.group.joined()
        for number in range(rounds):
            await _change_all(stage)
            await asyncio.sleep(dice.uniform(0.1, 0.4))
            victim = dice.choice(INSTANCES)
            sleeper = stage.group.freeze(victim)
            held += _read_and_not_written(stage)
            await _change_all(stage)
            await asyncio.sleep(SESSION + 1)
            await stage.drained(60)
            say(f"round {number + 1} of {rounds}: {victim} wakes up")
            sleeper.thaw()
            await asyncio.sleep(_AWAKE)
        await stage.drained(60)
        evidence = await stage.evidence()
        failures = stage.group.failures()
    missed = [*findings(evidence), *failures]
    figures = {
        "freezes": rounds,
        "events": len(evidence.sent),
        "syncs open over all freezes": held,
        "stale writes": len(evidence.log.backward_writes()),
        "findings": len(missed),
    }
    return Result(figures, missed)


async def _change_all(stage: Stage) -> None:
    for user_id in stage.sandbox.world.user_ids():
        await stage.events.change(user_id)
    await stage.events.stored()


def _read_and_not_written(stage: Stage) -> int:
    """Return how many users' last read state is not on their contact yet, whoever read it."""
    world, read = stage.sandbox.world, {}
    for record in stage.sandbox.log.requests("sesamy", "get_user"):
        read[record.user_id or ""] = record.user_version or 0
    contacts = {user_id: world.contact(stage.address(user_id)) for user_id in read}
    return sum((contact.user_version or 0) < read[user_id] for user_id, contact in contacts.items() if contact)


async def _measure(args: argparse.Namespace, kafka: KafkaBroker, folder: Path) -> Result:
    return await thaw(kafka, folder, rounds=args.rounds, seed=args.seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.thaw", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="default: 10")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="who is frozen, and when")
    return parser


if __name__ == "__main__":
    sys.exit(main(_measure, _parser()))
