"""One run of a schedule: load and faults side by side, then quiet until all is drained, then the judgement."""

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from consumer.sandbox import Answers, Options, Plan, Quota, Rule, World
from consumer.sandbox.faults import ApiName
from consumer.sandbox.population import ORDINARY
from tests.chaos.findings import findings
from tests.chaos.schedule import (
    GUEST,
    INSTANCES,
    BrokerDown,
    Fault,
    Freeze,
    Join,
    Kill,
    Leave,
    Schedule,
    Throttle,
    TokensRevoked,
    Trouble,
)
from tests.chaos.served import Served
from tests.chaos.stage import Stage, open_stage
from tests.kafka_broker import KafkaBroker

USERS: Final = 90
_PATIENCE: Final = 90.0
"""Seconds after the last fault until a run counts as stuck. A user that always fails takes its ten attempts."""

_QUOTAS: Final[dict[ApiName, Quota]] = {"sesamy": Quota(150.0, 60.0), "mailmojo": Quota(75.0, 30.0)}
_SETTINGS: Final = {
    "SESAMY_REQUESTS_PER_MINUTE": f"{_QUOTAS['sesamy'].rate * 60:g}",
    "SESAMY_BURST": f"{_QUOTAS['sesamy'].burst:g}",
    "MAILMOJO_REQUESTS_PER_SECOND": f"{_QUOTAS['mailmojo'].rate:g}",
    "MAILMOJO_BURST": f"{_QUOTAS['mailmojo'].burst:g}",
}


class Run(Struct, frozen=True, kw_only=True):
    """What a run came to; a right one has no findings."""

    schedule: Schedule
    seconds: float
    events: int
    requests: int
    dead_letters: int
    drained_after: float
    findings: tuple[str, ...]


async def run(schedule: Schedule, kafka: KafkaBroker, folder: Path) -> Run:
    """Do what the schedule says."""
    began = time.monotonic()
    world = World()
    world.populate(USERS, schedule.seed, kinds=ORDINARY)
    users = world.user_ids()
    always_500, always_422 = users[:2]
    dice = random.Random(schedule.seed)
    options = Options(
        seed=schedule.seed,
        answers=Answers(custom=dice.choice(("merge", "replace")), existing=dice.choice(("merge", "replace", "leave"))),
        plan=Plan(latency=0.01, jitter=0.03, token_lifetime=schedule.token_lifetime),
    )
    async with open_stage(kafka, folder, world, settings=_SETTINGS, options=options) as stage:
        _poison(stage, always_500, always_422)
        stage.group.start(*INSTANCES)
        await stage.group.joined()
        served = Served(stage.group)
        watchers = [asyncio.create_task(stage.group.keep_alive()), asyncio.create_task(served.run())]
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_load(stage, schedule, dice, users))
                for fault in schedule.faults:
                    tasks.create_task(_strike(stage, fault))
            drained_after, stuck = await _drain(stage)
        finally:
            for watcher in watchers:
                watcher.cancel()
            await asyncio.wait(watchers)
        assert all(watcher.cancelled() for watcher in watchers), "a watcher ended before the run did"
        evidence = await stage.evidence()
        poisoned = {always_500: "exhausted", always_422: "rejected"}
        found = [*stuck, *findings(evidence, poisoned, _QUOTAS), *stage.group.failures(), *served.findings()]
        found += await leaks(stage, served)
    return Run(
        schedule=schedule,
        seconds=time.monotonic() - began,
        events=len(evidence.sent),
        requests=len(evidence.log.records),
        dead_letters=len(evidence.letters),
        drained_after=drained_after,
        findings=tuple(found),
    )


def line(done: Run) -> str:
    """Return a run in one line."""
    return (
        f"seed {done.schedule.seed}: {'FAILED' if done.findings else 'ok'}, {done.seconds:.0f} s, "
        f"{done.events} events, {done.requests} requests, {len(done.schedule.faults)} faults, "
        f"{done.dead_letters} dead letters, drained {done.drained_after:.1f} s after the last fault"
    )


def complaint(done: Run, folder: Path) -> str:
    """Return what a run found, and how to have it again."""
    faults = "\n".join(f"    {fault}" for fault in done.schedule.faults)
    found = "\n".join(f"  - {finding}" for finding in done.findings)
    again = f"python -m tests.chaos --seed {done.schedule.seed} --seconds {done.schedule.seconds:g}"
    return f"{found}\n  again: {again}\n  logs of the instances: {folder}\n  faults:\n{faults}"


async def leaks(stage: Stage, served: Served) -> list[str]:
    """Return which secrets and addresses stand in what the instances printed, served and stored as headers (P8)."""
    letters = await stage.kafka.read_all(f"{stage.topic}.dead-letters")
    places = {path: "".join(texts) for path, texts in served.texts.items()} | {
        "the output": "".join(stage.group.outputs()),
        "a dead letter's headers": "".join(value.decode() for letter in letters for _, value in letter.headers),
    }
    contacts = [contact.email.lower() for contact in stage.sandbox.world.contacts()]
    personal = [*contacts, *(quote(email, safe="").lower() for email in contacts)]
    secrets = [stage.sandbox.client_secret, stage.sandbox.api_token]
    return [
        f"P8 {place} holds {it}" for place, text in places.items() for it in (*personal, *secrets) if it in text.lower()
    ]


def _poison(stage: Stage, always_500: str, always_422: str) -> None:
    add, address = stage.sandbox.faults.add, stage.address
    add(Rule(api="mailmojo", key=address(always_500), status=500))
    for operation in ("patch_contact", "post_subscriber"):
        add(Rule(api="mailmojo", operation=operation, key=address(always_422), status=422))


async def _load(stage: Stage, schedule: Schedule, dice: random.Random, users: Sequence[str]) -> None:
    """Change users at the schedule's rate: in ones, in bursts about one user, and a few users more than others."""
    end = time.monotonic() + schedule.seconds
    for user_id in users[:2]:
        await stage.events.change(user_id)
    while time.monotonic() < end:
        user_id = dice.choice(users[:8] if dice.random() < 0.2 else users)
        for _ in range(dice.choice((1, 1, 1, 3))):
            await stage.events.change(user_id)
        if dice.random() < 0.1:
            stage.edit(dice.choice(users))
        await asyncio.sleep(dice.uniform(0, 3) / schedule.rate)


async def _drain(stage: Stage) -> tuple[float, list[str]]:
    try:
        return await stage.drained(_PATIENCE), []
    except TimeoutError as stuck:
        return _PATIENCE, [f"stuck: {stuck}; committed: {dict(sorted(stage.commits.committed.items()))}"]


async def _strike(stage: Stage, fault: Fault) -> None:
    """Wait for the fault's time, then do it; one that finds its victim gone does nothing."""
    group, sandbox = stage.group, stage.sandbox
    await asyncio.sleep(fault.at)
    match fault:
        case Kill(instance=name, back=back):
            if name in group.names:
                group.kill(name)
                await asyncio.sleep(back)
                group.start(name)
        case Freeze(instance=name, lasts=lasts):
            if name in group.names:
                process = group.freeze(name)
                await asyncio.sleep(lasts)
                process.thaw()
        case Leave(instance=name, back=back):
            if name in group.names and group.has_joined(name):
                await group.leave(name)
                await asyncio.sleep(back)
                group.start(name)
        case Join(lasts=lasts):
            group.start(GUEST)
            await asyncio.sleep(lasts)
            if GUEST in group.names and group.has_joined(GUEST):
                await group.leave(GUEST)
        case BrokerDown(lasts=lasts):
            group.broker_away.set()
            await asyncio.to_thread(stage.kafka.kill)
            await asyncio.sleep(lasts)
            await asyncio.to_thread(stage.kafka.start)
        case Throttle(api=api, how=how, lasts=lasts):
            if api == "sesamy":
                sandbox.sesamy.answers = replace(sandbox.sesamy.answers, sesamy_throttle=how)
            else:
                sandbox.mailmojo.answers = replace(sandbox.mailmojo.answers, throttle=how)
            sandbox.faults.add(Rule(api=api, status=429, rate=0.5, lasts=lasts))
        case Trouble(rule=rule):
            sandbox.faults.add(rule)
        case TokensRevoked():
            sandbox.sesamy.revoke_tokens()
