"""Instances that stop exactly at a write, until others took over: `python -m tests.chaos.freeze --at-the-send`.

A process that stopped before the check of its lease must not send that write, nor any other. One that stopped between
the check and the write sends that one, which may put an older state back; it must notice it, and the user must be
synced again.
"""

import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final, get_args

import msgspec
from msgspec import Struct

from consumer.sandbox import Options, Plan, Record, World
from schemas.events import SYNC_REQUEST
from tests.chaos.experiment import Result, say
from tests.chaos.findings import ahead_of_the_work, rewound, stale, uncommitted, wrong_letters
from tests.chaos.stage import Stage, open_stage
from tests.chaos.stopping_service import FOLDER, Moment, Order, Stopped, order_path, report_path
from tests.kafka_broker import KafkaBroker
from tests.relay import Relay
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

_INSTANCES: Final = ("a", "b")
_MOMENTS: Final[tuple[Moment, ...]] = get_args(Moment)
_PATIENCE: Final = 60.0


class _Round(Struct, frozen=True):
    """One stop. `stale` are the writes that arrived after it with a state that was older than the contact's."""

    moment: Moment
    stopped: Stopped
    address: str
    seconds: float
    stale: tuple[Record, ...]
    is_right: bool
    """Whether every contact showed the newest state in the end."""


async def stop_at_the_send(kafka: KafkaBroker, folder: Path, *, rounds: int, users: int = 150, seed: int = 1) -> Result:
    """Stop an instance at a write so often, at both moments in turn."""
    dice = random.Random(seed)
    world = World()
    world.populate(users, seed, kinds=("recurring",), contacts=("tagged",))
    orders = folder / "orders"
    orders.mkdir()
    settings = {"SYNC_CONCURRENCY": "32", "SYNC_LINGER": "0", FOLDER: str(orders)}
    options = Options(plan=Plan(latency=0.01, jitter=0.05))
    async with (
        open_stage(kafka, folder, world, settings=settings, options=options) as stage,
        # The process hangs up right behind a write that is far too late; a proxy delivers that all the same.
        Relay(stage.sandbox.mailmojo_url.removeprefix("http://"), end_delay=0.5) as proxy,
    ):
        stage.group.settings = {**stage.group.settings, "MAILMOJO_API_URL": f"http://{proxy.address}"}
        stage.group.program = "tests.chaos.stopping_service"
        stage.group.start(*_INSTANCES)
        done = []
        for number in range(rounds):
            done.append(await _round(stage, dice, orders, _MOMENTS[number % len(_MOMENTS)]))
            say(f"round {number + 1} of {rounds}: stopped {done[-1].moment}, {len(done[-1].stale)} stale writes")
        await stage.drained(_PATIENCE)
        evidence = await stage.evidence()
        failures = [*stage.group.failures(), *await _violations(stage)]
        late = sum([int(await stage.group[name].metric("late_writes_total")) for name in _INSTANCES])
    wrong = list(stale(evidence, {}))
    before, between = ([one for one in done if one.moment == moment] for moment in _MOMENTS)
    missed = [
        *(text for one in done for text in _missed(one)),
        *(f"P3 {text}" for text in wrong),
        *(f"P1 {text}" for text in [*ahead_of_the_work(evidence, {}), *rewound(evidence)]),
        *(f"P4 {text}" for text in uncommitted(evidence)),
        *(f"P5 {text}" for text in wrong_letters(evidence, {})),
        *failures,
    ]
    if late < len(between):
        missed.append(f"{late} late writes were noticed, {len(between)} or more were late")
    figures = {
        "stopped before the check": len(before),
        "  stale writes that were sent": sum(len(one.stale) for one in before),
        "stopped between check and write": len(between),
        "  stale writes that were sent, all of them that one": sum(len(one.stale) for one in between),
        "  users synced again": len(between),  # no round ends without
        "late writes noticed, with those that were on their way": late,
        "seconds stopped, least and most": [round(pick(one.seconds for one in done), 1) for pick in (min, max)],
        "events": len(evidence.sent),
        "contacts wrong in the end": len(wrong),
        "findings": len(missed),
    }
    return Result(figures, missed)


async def _round(stage: Stage, dice: random.Random, orders: Path, moment: Moment) -> _Round:
    for name in _INSTANCES:
        await _has_part(stage.group[name])
    name, users = dice.choice(_INSTANCES), stage.sandbox.world.user_ids()
    process = stage.group[name]
    report = report_path(orders, name)
    report.unlink(missing_ok=True)
    order = order_path(orders, name)
    order.with_suffix(".part").write_bytes(msgspec.json.encode(Order(moment, dice.randint(1, len(users) // 4))))
    order.with_suffix(".part").rename(order)
    await _change(stage, users)
    await wait_until(report.exists, _PATIENCE, what=f"{name} stops at a write")
    stopped = msgspec.json.decode(report.read_bytes(), type=Stopped)

    # All users change once more, and the other instance takes over and writes that.
    await _change(stage, users)
    await stage.drained(_PATIENCE)
    seen, thawed_at, thawed_at_unix = stage.sandbox.log.count, time.monotonic(), time.time()
    process.thaw()
    await _has_part(process)

    async def requested() -> bool:
        return any(
            record.key == stopped.user_id.encode()
            and record.timestamp >= 1000 * thawed_at_unix
            and SYNC_REQUEST.encode() in (record.value or b"")
            for record in await stage.kafka.read_all(stage.topic)
        )

    if moment == "between check and write":
        await wait_until(requested, _PATIENCE, what=f"a sync of {stopped.user_id} is requested")
    newest = {stage.address(user_id): stage.version(user_id) for user_id in users}

    def repaired() -> bool:
        contacts = {address: stage.sandbox.world.contact(address) for address in newest}
        return all(contact and contact.user_version == newest[address] for address, contact in contacts.items())

    with suppress(TimeoutError):
        await wait_until(repaired, _PATIENCE, what="no contact is wrong")
    old = [
        record
        for record in stage.sandbox.log.since(seen)
        if record.write and record.user_version is not None and record.user_version < newest[record.address or ""]
    ]
    return _Round(moment, stopped, stage.address(stopped.user_id), thawed_at - stopped.at, tuple(old), repaired())


async def _change(stage: Stage, users: list[str]) -> None:
    for user_id in users:
        await stage.events.change(user_id)
    await stage.events.stored()


async def _has_part(process: ServiceProcess) -> None:
    """Wait until the instance has partitions and the lease for them."""

    async def has_part() -> bool:
        return await process.metric("assigned_partitions") > 0 and await process.metric("lease_remaining_seconds") > 0

    await wait_until(has_part, _PATIENCE, what="both instances have partitions")


async def _violations(stage: Stage) -> list[str]:
    counted: Counter[str] = Counter()
    for name in _INSTANCES:
        for metric in ("order_violations_total", "commit_violations_total"):
            counted[metric] += int(await stage.group[name].metric(metric))
    return [f"{metric}: {count}" for metric, count in counted.items() if count]


def _missed(one: _Round) -> list[str]:
    allowed = one.moment == "between check and write"
    missed = [
        f"stopped {one.moment} for {one.stopped.user_id}, and {record.operation} {record.number} was stale"
        for record in one.stale
        if not (allowed and record.address == one.address)
    ]
    if len(one.stale) > allowed and not missed:
        missed.append(f"the write for {one.stopped.user_id} was sent {len(one.stale)} times")
    if not one.is_right:
        missed.append(f"stopped {one.moment} for {one.stopped.user_id}, and a contact stayed wrong for {_PATIENCE:g} s")
    return missed
