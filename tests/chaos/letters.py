"""`python -m tests.chaos.letters`: users on whom Mailmojo fails become dead letters, and go back once it is mended.

It fails on a quarter of all users. Then the fakes are mended, and the retry is killed, stopped and run again until it
comes to its end: each letter must have gone back once, each contact must be right, and none may be left to put back.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from consumer.dead_letters.stored import RETRIES_HEADER
from consumer.sandbox import Rule, World
from tests.chaos.experiment import Result, main, say
from tests.chaos.findings import findings
from tests.chaos.stage import Stage, open_stage
from tests.kafka_broker import KafkaBroker
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

_INTERRUPTIONS = (signal.SIGKILL, signal.SIGINT, signal.SIGKILL)


async def letters(kafka: KafkaBroker, folder: Path, *, count: int) -> Result:
    """Make so many dead letters and put them back."""
    world = World()
    # Who has no contact is added by POST, which fails; the others in between show that it is not Mailmojo as a whole.
    world.populate(4 * count, kinds=("recurring",), contacts=("none", "tagged", "tagged", "tagged"))
    failing = set(world.user_ids()[::4])
    async with open_stage(kafka, folder, world, settings={"SYNC_MAX_ATTEMPTS": "2"}) as stage:
        stage.sandbox.faults.add(Rule(api="mailmojo", operation="post_subscriber", status=500))
        stage.group.start("a")
        await stage.group.joined()
        for user_id in world.user_ids():
            await stage.events.change(user_id)
        await stage.drained(500)
        listed = await _listed(stage)
        say(f"{len(listed):,} letters are listed")
        stage.sandbox.faults.clear()
        began = time.monotonic()
        interrupted, output = await _interrupted(stage)
        last = await _command(stage, "retry", "--yes", "--json")
        seconds = time.monotonic() - began
        ends = await stage.kafka.end_offsets(stage.topic)
        await wait_until(
            lambda: all(stage.commits.committed.get(place, 0) >= end for place, end in ends.items()),
            300,
            what="all that was put back is done",
        )
        left = await _listed(stage)
        again = await _put_back(stage)
        evidence = await stage.evidence()
        failures = stage.group.failures()
    first = {letter["user_id"]: letter["reason"] for letter in listed}
    twice = sum(number > 1 for number in again.values())
    missed = [*findings(evidence, dict.fromkeys(failing, "exhausted")), *failures]
    stale = [user_id for user_id, version in evidence.final.items() if version != _version(world, user_id)]
    if stale:
        missed.append(f"{len(stale)} contacts do not show the last version, such as that of {stale[0]}")
    if first != dict.fromkeys(failing, "exhausted"):
        missed.append(f"{len(first)} users were listed, of {len(failing)} failing")
    if again.keys() != failing or twice:
        missed.append(f"{len(again)} letters went back, {twice} of them more than once, of {len(failing)}")
    if left:
        missed.append(f"{len(left)} letters are still listed")
    if "Traceback" in output + last.output():
        missed.append("a retry ended with a traceback")
    figures: dict[str, object] = {
        "letters listed": len(listed),
        "put back before each interruption": ", ".join(map(str, interrupted)),
        "put back in all": len(again),
        "of them more than once": twice,
        "seconds, interruptions included": seconds,
        "contacts that are wrong": len(stale),
        "letters listed in the end": len(left),
        "findings": len(missed),
    }
    return Result(figures, missed)


async def _interrupted(stage: Stage) -> tuple[list[int], str]:
    """Interrupt as many retries; return what each had put back by then, the ones before it included."""
    found, output = [], ""
    for how in _INTERRUPTIONS:
        before = sum((await stage.kafka.end_offsets(stage.topic)).values())
        retry = stage.group.command("dead-letters", "retry", "--yes")

        async def begun(retry: ServiceProcess = retry, before: int = before) -> bool:
            ends = await stage.kafka.end_offsets(stage.topic)
            return retry.returncode is not None or sum(ends.values()) > before

        await wait_until(begun, 60, what="some letters more are put back")
        if retry.returncode is None:
            os.kill(retry.pid, how)
        await retry.exit_code()
        output += retry.output()
        found.append(sum((await _put_back(stage)).values()))
        say(f"{how.name} at {found[-1]} letters")
    return found, output


async def _command(stage: Stage, *command: str) -> ServiceProcess:
    process = stage.group.command("dead-letters", *command)
    if await process.exit_code(120):
        raise RuntimeError(f"{' '.join(command)} failed: {process.output()[-2000:]}")
    return process


async def _listed(stage: Stage) -> list[dict[str, str]]:
    listed = await _command(stage, "list", "--json")
    text = await asyncio.to_thread(listed.stdout.read_text)
    return [json.loads(line) for line in text.splitlines()]


async def _put_back(stage: Stage) -> Counter[str]:
    """Return how often each user's letter is in the topic, as a service reads it."""
    records = await stage.kafka.read_all(stage.topic, isolation_level="read_committed")
    return Counter(
        (record.key or b"").decode() for record in records if any(name == RETRIES_HEADER for name, _ in record.headers)
    )


def _version(world: World, user_id: str) -> int:
    user = world.user(user_id)
    assert user is not None
    return user.version


async def _measure(args: argparse.Namespace, kafka: KafkaBroker, folder: Path) -> Result:
    return await letters(kafka, folder, count=args.letters)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.letters",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--letters", type=int, default=10_000, metavar="N", help="default: 10000")
    return parser


if __name__ == "__main__":
    sys.exit(main(_measure, _parser()))
