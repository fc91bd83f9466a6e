"""`python -m tests.chaos.outage`: an API, or one of its calls, is of no use for a while, and comes back."""

import argparse
import asyncio
import itertools
import json
import math
import sys
import time
from pathlib import Path
from typing import Literal, NamedTuple

from consumer.sandbox import Options, Plan, Rule, World
from tests.chaos.experiment import Result, main
from tests.chaos.findings import findings
from tests.chaos.schedule import INSTANCES, Api
from tests.chaos.stage import Stage, open_stage
from tests.kafka_broker import KafkaBroker

How = Literal["cut", "503", "silence"]

_BOUND = 10.0

_DEFAULTS = {
    "SESAMY_REQUESTS_PER_MINUTE": "100",
    "SESAMY_BURST": "20",
    "MAILMOJO_REQUESTS_PER_SECOND": "5",
    "MAILMOJO_BURST": "5",
    "SYNC_CONCURRENCY": "64",
    "SYNC_LINGER": "2",
    "SYNC_MAX_ATTEMPTS": "10",
    "SYNC_RETRY_BASE": "1",
    "SYNC_RETRY_CAP": "60",
}
"""The service's own, which the stage makes quicker."""

_SYNCED_WITHIN = 30.0
"""Seconds after the end of a broken call."""

_USERS = 7
"""Users that wait at its end, besides those below: four reads each, of 20 at once and 50 more in that time."""

_CORRECT = 3
"""Users whose contact is correct already."""

_HTML = "<html>maintenance</html>"


class Broken(NamedTuple):
    """What is broken, and what `/readyz` must say of it."""

    rules: tuple[Rule, ...]
    says: tuple[str, ...]
    api: str
    operations: tuple[str, ...]
    """One of these calls must be named."""
    goes_on: bool = False
    """Whether users complete whose contact is correct."""


_READS = ("get_user", "list_contracts", "list_entitlements", "list_transactions")

BROKEN = {
    "a2": Broken((Rule(api="sesamy", status=404),), ("404", "SESAMY_API_URL"), "sesamy", ("get_user",)),
    "a3": Broken((Rule(api="sesamy", method="GET", body=_HTML, content_type="text/html"),), ("200",), "sesamy", _READS),
    "a3-mailmojo": Broken(
        (Rule(api="mailmojo", method="GET", body=_HTML, content_type="text/html"),),
        ("200",),
        "mailmojo",
        ("get_contact", "list_fields"),
    ),
    "a4": Broken(
        tuple(Rule(api="mailmojo", method=method, status=503) for method in ("PATCH", "POST")),
        ("503",),
        "mailmojo",
        ("patch_contact", "add_subscriber"),
        goes_on=True,
    ),
    "a5": Broken(
        (Rule(api="sesamy", operation="list_transactions", status=403),),
        ("403", "SESAMY_CLIENT_ID"),
        "sesamy",
        ("list_transactions",),
    ),
}


async def broken(kafka: KafkaBroker, folder: Path, *, kind: str, seconds: float) -> Result:
    """Break a call for everybody for so long, with the service's default quotas and retries, and mend it."""
    what = BROKEN[kind]
    world = World()
    world.populate(_USERS + _CORRECT, kinds=("recurring",), contacts=("tagged",))
    users = world.user_ids()
    async with open_stage(kafka, folder, world, settings=_DEFAULTS) as stage:
        stage.group.start(INSTANCES[0])
        await stage.group.joined()
        service = stage.group[INSTANCES[0]]
        for user_id in users[_USERS:]:
            await stage.events.change(user_id)
        await stage.drained(90)
        for rule in what.rules:
            stage.sandbox.faults.add(rule)
        began = time.monotonic()
        asked = stage.sandbox.log.count
        for user_id in users[:_USERS]:
            await stage.events.change(user_id)
        for user_id in users[_USERS:]:
            await stage.events.repeat(user_id)
        ready: list[tuple[float, str]] = []
        while time.monotonic() < began + seconds:
            await asyncio.sleep(min(1.0, seconds / 10))
            status, body = await service.get("/readyz")
            if status == 503:
                ready.append((time.monotonic() - began, body))
        during = stage.sandbox.log.since(asked)
        completed = len(await stage.events.stored()) - int(await service.metric("events_pending"))
        stage.sandbox.faults.clear()
        mended = time.monotonic()
        missed = _judge_told(what, ready, seconds)
        try:
            await stage.drained(3 * _SYNCED_WITHIN)
        except TimeoutError as error:
            missed.append(str(error))
        recovery = time.monotonic() - mended
        evidence = await stage.evidence()
        is_ready = (await service.get("/readyz"))[0] == 200
    missed += findings(evidence)
    if recovery > _SYNCED_WITHIN:
        missed.append(f"everything was synced {recovery:.1f} s after recovery")
    if not is_ready:
        missed.append("not ready after recovery")
    if what.goes_on and completed < 2 * _CORRECT:
        missed.append(f"{completed - _CORRECT} of {_CORRECT} users with a correct contact completed meanwhile")
    tokens = sum(record.api == "token" for record in during)
    if tokens > 1 + seconds / 60:
        missed.append(f"{tokens} token requests")
    figures = {
        "broken": f"{kind}, {seconds:g} s",
        "/readyz answers 503 after, seconds": ready[0][0] if ready else math.nan,
        "/readyz says": ready[-1][1] if ready else "",
        "requests during the outage": len(during),
        "token requests": tokens,
        "dead letters": len(evidence.letters),
        "synced, seconds after recovery": recovery,
        "findings": len(missed),
    }
    return Result(figures, missed)


def _judge_told(what: Broken, ready: list[tuple[float, str]], seconds: float) -> list[str]:
    if not ready:
        return ["/readyz never answered 503"]
    missed = []
    if ready[0][0] > max(30.0, seconds / 2):
        missed.append(f"/readyz answered 503 after {ready[0][0]:.1f} s only")
    told = json.loads(ready[-1][1])
    missed += [f"/readyz does not say {words}: {ready[-1][1]}" for words in what.says if words not in str(told)]
    if not any(call["api"] == what.api and call["operation"] in what.operations for call in told["calls"]):
        missed.append(f"/readyz names another call: {told['calls']}")
    return missed


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
    if args.api in BROKEN:
        return await broken(kafka, folder, kind=args.api, seconds=args.seconds)
    return await outage(kafka, folder, api=args.api, how=args.how, seconds=args.seconds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.outage", description=__doc__)
    parser.add_argument(
        "api", choices=["sesamy", "mailmojo", *BROKEN], help="an API as a whole, or a row of the cases that broke"
    )
    parser.add_argument(
        "--how", choices=["cut", "503", "silence"], default="cut", help="how the API fails; default: cut"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="default: 30")
    return parser


if __name__ == "__main__":
    sys.exit(main(_measure, _parser()))
