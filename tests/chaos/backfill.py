"""`python -m tests.chaos.backfill`: everybody is asked for beside a service under load, and the asking is killed.

All the while some users change, an event for each change. What such an event waits for is counted from its sending to
the first read of its user after that: the linger, and then a slot. Without the backfill that is one figure, beside it
another, of the same run; the latter may be longer by one sync, since a slot becomes free only when a sync ends.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from consumer.sandbox import Contact, Options, Plan, User, World
from consumer.sandbox.world import LIST_ID
from schemas.events import SYNC_REQUEST
from tests.chaos.events import Sent
from tests.chaos.evidence import Evidence
from tests.chaos.experiment import Result, main, say
from tests.chaos.findings import findings
from tests.chaos.stage import Stage, open_stage
from tests.integration.oracle import View, address, expected, is_skipped
from tests.kafka_broker import KafkaBroker
from tests.waiting import wait_until

_LINGER = 0.2
_READS = 4
"""Permits that a sync takes at Sesamy."""

_TWICE = 0.01
"""The part of the users that may be asked for more than once."""


async def backfill(
    kafka: KafkaBroker,
    folder: Path,
    *,
    users: int,
    kills: int = 3,
    rate: float = 20.0,
    alone: float = 15.0,
    latency: float = 0.05,
    quota: float | None = None,
) -> Result:
    """Ask for so many users while `rate` events a second come; `quota` is of Sesamy's requests, a second."""
    world = World()
    world.populate(users)
    before = {user_id: _contact(world, user_id) for user_id in world.user_ids()}
    live = [user_id for user_id in itertools.islice(world.user_ids(), 400) if not is_skipped(_user(world, user_id))]
    settings = {"SYNC_LINGER": f"{_LINGER:g}", "SYNC_CONCURRENCY": "64" if quota else "16"}
    if quota:
        settings |= {"SESAMY_REQUESTS_PER_MINUTE": f"{quota * 60:g}", "SESAMY_BURST": "20"}
    options = Options(plan=Plan(latency=latency, jitter=latency / 5))
    async with open_stage(kafka, folder, world, settings=settings, options=options) as stage:
        stage.group.start("a")
        await stage.group.joined()
        load = asyncio.create_task(_load(stage, live, rate))
        await asyncio.sleep(alone)
        began = time.monotonic()
        await _ask_for_everybody(stage, folder / "checkpoint.json", users, kills)
        asked = time.monotonic() - began
        say(f"everybody is asked for after {asked:.1f} s")
        await _mostly_done(stage, set(before) - set(live))
        done = time.monotonic()
        load.cancel()
        await asyncio.wait([load])
        await _all_committed(stage)
        evidence = await stage.evidence()
        requests = await _requests(stage)
        failures = stage.group.failures()
        log = stage.sandbox.log
    delays = _delays(evidence, began, done)
    longest = _longest_sync(evidence)
    bound = max(delays["without"]) + longest + (_READS / quota if quota else 0)
    wanted = {user_id for user_id in before if not is_skipped(_user(world, user_id))}
    twice = sum(count > 1 for count in requests.values())
    missed = [*findings(evidence), *failures, *_wrong_contacts(world, before)]
    if requests.keys() != wanted:
        missed.append(f"asked for {len(requests)} users, of {len(wanted)} whom a sync can write")
    if twice > users * _TWICE:
        missed.append(f"{twice} users were asked for more than once")
    if late := [delay for delay in delays["beside"] if delay > bound]:
        missed.append(f"{len(late)} events waited for more than one sync: {max(late):.2f} s, and {bound:.2f} s are due")
    figures: dict[str, object] = {
        "users": f"{users}, of whom {len(wanted)} can be written",
        "kills": kills,
        "asked for more than once": twice,
        "calls that list users": len(log.requests("sesamy", "list_users")),
        "seconds until everybody is asked for": asked,
        "seconds until the service is done with them": done - began,
        "contacts that are wrong": len(_wrong_contacts(world, before)),
        "the longest sync, seconds": longest,
        **{f"an event waits, {name} the backfill, seconds": _spread(found) for name, found in delays.items()},
        "findings": len(missed),
    }
    return Result(figures, missed)


async def _load(stage: Stage, users: Sequence[str], rate: float) -> None:
    began = time.monotonic()
    for number, user_id in enumerate(itertools.cycle(users)):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        await stage.events.change(user_id)


async def _ask_for_everybody(stage: Stage, checkpoint: Path, users: int, kills: int) -> None:
    def reached() -> int:
        return int(json.loads(checkpoint.read_bytes())["offset"]) if checkpoint.exists() else 0

    for number in range(1, kills + 1):
        goal = users * number // (kills + 1)
        process = stage.group.command("backfill", "--checkpoint", str(checkpoint))
        await wait_until(lambda: reached() >= goal, 60, what=f"{goal} users asked for")  # noqa: B023 - awaited at once
        process.kill()
        say(f"kill {number} of {kills} at {reached()} of {users} users")
        if reached() >= users:
            raise RuntimeError("the backfill was too quick to be killed")
    last = stage.group.command("backfill", "--checkpoint", str(checkpoint), "--json")
    if await last.exit_code(120):
        raise RuntimeError(f"the backfill failed: {last.output()}")


async def _mostly_done(stage: Stage, users: set[str]) -> None:
    """Wait until nine tenths of these users, whom no event touches, were read for their requests."""
    seen: set[str] = set()
    at = 0

    def done() -> bool:
        nonlocal at
        news, at = stage.sandbox.log.records[at:], len(stage.sandbox.log.records)
        seen.update(record.user_id for record in news if record.operation == "get_user" and record.user_id in users)
        return len(seen) >= wanted * 0.9

    wanted = sum(not is_skipped(_user(stage.sandbox.world, user_id)) for user_id in users)
    await wait_until(done, 900, what="nine tenths of the users are read")


async def _all_committed(stage: Stage) -> None:
    await stage.events.stored()
    ends = await stage.kafka.end_offsets(stage.topic)
    await wait_until(
        lambda: all(stage.commits.committed.get(place, 0) >= end for place, end in ends.items()),
        300,
        what="all events and requests are committed",
    )


async def _requests(stage: Stage) -> Counter[str]:
    values = [json.loads(record.value or b"{}") for record in await stage.kafka.read_all(stage.topic)]
    return Counter(value["userId"] for value in values if value["eventType"] == SYNC_REQUEST)


def _delays(evidence: Evidence, began: float, done: float) -> dict[str, list[float]]:
    """Return the seconds that each event waited for a read, of those sent without the backfill and beside it."""
    reads: dict[str, list[float]] = {}
    for record in evidence.log.requests("sesamy", "get_user"):
        reads.setdefault(record.user_id or "", []).append(record.start)
    delays: dict[str, list[float]] = {"without": [], "beside": []}
    for sent in evidence.sent:
        if not began - 0.5 < sent.at < began and sent.at < done - 0.5:
            delays["without" if sent.at < began else "beside"].append(_first_after(reads[sent.user_id], sent) - sent.at)
    return delays


def _first_after(starts: Sequence[float], sent: Sent) -> float:
    return min(start for start in starts if start >= sent.at)


def _longest_sync(evidence: Evidence) -> float:
    return max(end - sync.began for syncs in evidence.syncs().values() for sync in syncs for end, _ in sync.shown)


def _wrong_contacts(world: World, before: Mapping[str, Contact | None]) -> list[str]:
    found = []
    for user_id, old in before.items():
        user = _user(world, user_id)
        if View.of(_contact(world, user_id)) != expected(user, old, LIST_ID):
            found.append(f"the contact of {user_id} is not what it should be")
    return found


def _contact(world: World, user_id: str) -> Contact | None:
    return world.contact(address(_user(world, user_id)))


def _user(world: World, user_id: str) -> User:
    user = world.user(user_id)
    assert user is not None
    return user


def _spread(seconds: Sequence[float]) -> str:
    return f"median {statistics.median(seconds):.2f}, most {max(seconds):.2f} ({len(seconds)} events)"


async def _measure(args: argparse.Namespace, kafka: KafkaBroker, folder: Path) -> Result:
    return await backfill(kafka, folder, users=args.users, kills=args.kills, rate=args.rate, quota=args.quota)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.backfill",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--users", type=int, default=10_000, metavar="N", help="default: 10000")
    parser.add_argument("--kills", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("--rate", type=float, default=20.0, metavar="N", help="events a second (default: 20)")
    parser.add_argument(
        "--quota", type=float, metavar="N", help="requests a second at Sesamy, so that the quota is what syncs wait for"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(_measure, _parser()))
