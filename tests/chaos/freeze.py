"""`python -m tests.chaos.freeze`: two instances under load; again and again one stands still for two sessions.

SIGSTOP hits an instance in the midst of its writes; its users change once more, the other instance takes over and
writes that, and the first one wakes up. A write that it had begun can put an older state back: it must notice that, and
the user must be synced again (`late_writes_total`). In the end no contact may be wrong. With `--at-the-send` the
instance stops exactly at a write instead of at random moments; see `at_the_send.py`.
"""

import argparse
import asyncio
import random
import sys
from pathlib import Path
from typing import Final

from consumer.sandbox import Options, Plan, World
from tests.chaos.at_the_send import stop_at_the_send
from tests.chaos.evidence import Evidence
from tests.chaos.experiment import Result, main, say
from tests.chaos.findings import ahead_of_the_work, rewound, stale, uncommitted, wrong_letters
from tests.chaos.stage import Stage, open_stage
from tests.kafka_broker import KafkaBroker
from tests.waiting import wait_until

_INSTANCES: Final = ("a", "b")
_FROZEN: Final = 12.5
_BETWEEN: Final = 4.0
_BURST: Final = 400
"""Users that change right before an instance is frozen, and once more while it is."""


async def freeze(
    kafka: KafkaBroker, folder: Path, *, rounds: int, users: int = 1500, rate: float = 30.0, seed: int = 1
) -> Result:
    """Freeze and thaw so often under so many events a second."""
    dice = random.Random(seed)
    world = World()
    world.populate(users, seed, kinds=("recurring",), contacts=("tagged",))
    settings = {"SYNC_CONCURRENCY": "64", "SYNC_LINGER": "0"}
    options = Options(plan=Plan(latency=0.01, jitter=0.15))
    async with open_stage(kafka, folder, world, settings=settings, options=options) as stage:
        stage.group.start(*_INSTANCES)
        await stage.group.joined()
        load = asyncio.create_task(_load(stage, dice, rate))
        watch = asyncio.create_task(stage.group.keep_alive())
        for number in range(rounds):
            await _freeze_one(stage, dice)
            say(f"round {number + 1} of {rounds}: {len(stage.sandbox.log.backward_writes())} stale writes so far")
        for task in (load, watch):
            task.cancel()
        await asyncio.wait([load, watch])
        await stage.drained(180)
        wrong_at_first = sum(1 for _ in stale(await stage.evidence(), {}))
        # What repairs a stale write is a request of the service's own, which comes after all events.
        await _repaired(stage)
        evidence = await stage.evidence()
        late = [await stage.group[name].metric("late_writes_total") for name in _INSTANCES]
        failures = stage.group.failures()
    backward = evidence.log.backward_writes()
    missed = [*_findings(evidence), *failures]
    figures = {
        "freezes": rounds,
        "events": len(evidence.sent),
        "late writes noticed": int(sum(late)),
        "writes that went back to an older state": len(backward),
        "contacts wrong when the last event was committed": wrong_at_first,
        "contacts wrong in the end": sum(1 for _ in stale(evidence, {})),
        "findings": len(missed),
    }
    return Result(figures, missed)


async def _freeze_one(stage: Stage, dice: random.Random) -> None:
    burst = dice.sample(stage.sandbox.world.user_ids(), _BURST)
    await _change(stage, burst)
    await asyncio.sleep(dice.uniform(0.3, 1.5))
    sleeper = stage.group.freeze(dice.choice(_INSTANCES))
    await _change(stage, burst)
    await asyncio.sleep(_FROZEN)
    sleeper.thaw()
    await asyncio.sleep(_BETWEEN)


async def _change(stage: Stage, users: list[str]) -> None:
    for user_id in users:
        await stage.events.change(user_id)


async def _load(stage: Stage, dice: random.Random, rate: float) -> None:
    users = stage.sandbox.world.user_ids()
    while True:
        await stage.events.change(dice.choice(users))
        await asyncio.sleep(dice.uniform(0, 2) / rate)


async def _repaired(stage: Stage) -> None:
    async def all_right() -> bool:
        return not list(stale(await stage.evidence(), {}))

    try:
        await wait_until(all_right, 30, what="no contact is wrong")
    except TimeoutError as wrong:
        say(str(wrong))


def _findings(evidence: Evidence) -> list[str]:
    """Return what must not happen even so. That late writes overlap others, and go back for a moment, is the limit."""
    found = {
        "P1 committed ahead of the work": ahead_of_the_work(evidence, {}),
        "P1 commits went backwards": rewound(evidence),
        "P3 the contact does not show the last version": stale(evidence, {}),
        "P4 events were never committed": uncommitted(evidence),
        "P5 dead letters": wrong_letters(evidence, {}),
    }
    return [f"{promise}: {text}" for promise, texts in found.items() for text in list(texts)[:5]]


async def _measure(args: argparse.Namespace, kafka: KafkaBroker, folder: Path) -> Result:
    if args.at_the_send:
        return await stop_at_the_send(kafka, folder, rounds=args.rounds, seed=args.seed)
    return await freeze(kafka, folder, rounds=args.rounds, users=args.users, rate=args.rate, seed=args.seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.freeze", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="default: 10")
    parser.add_argument("--at-the-send", action="store_true", help="stop it before the lease's check, or right after")
    parser.add_argument("--users", type=int, default=1500, metavar="N", help="default: 1500")
    parser.add_argument("--rate", type=float, default=30.0, metavar="R", help="events a second beside (default: 30)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="who is frozen, and when")
    return parser


if __name__ == "__main__":
    sys.exit(main(_measure, _parser()))
