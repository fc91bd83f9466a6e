"""`python -m tests.chaos.rebalances`: throughput of three instances while the group rebalances again and again.

A visitor joins the group and leaves it, in turn: it takes its part of the partitions and works on nothing, and every
coming and going moves partitions between the instances, too. Undisturbed time before and after is the measure, in the
same processes on the same backlog.
"""

import argparse
import asyncio
import itertools
import sys
import time
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from consumer.sandbox import Options, Plan, World
from tests.chaos.again import done_again
from tests.chaos.evidence import Evidence
from tests.chaos.experiment import Progress, Result, main, say
from tests.chaos.findings import findings
from tests.chaos.schedule import INSTANCES
from tests.chaos.stage import SESSION, Stage, open_stage
from tests.kafka_broker import KafkaBroker


async def rebalance(
    kafka: KafkaBroker, folder: Path, *, seconds: float, every: float = 2.0, records: int, session: float = SESSION
) -> Result:
    """Disturb a drain for so long, between two undisturbed times that are half as long together."""
    world = World()
    world.populate(records, kinds=("recurring",), contacts=("tagged",))
    settings = {"SYNC_CONCURRENCY": "10", "KAFKA_SESSION_TIMEOUT": f"{session:g}"}
    options = Options(plan=Plan(latency=0.1))
    async with open_stage(kafka, folder, world, settings=settings, options=options) as stage:
        for user_id in world.user_ids():
            await stage.events.change(user_id)
        await stage.events.stored()
        stage.group.start(*INSTANCES)
        await stage.group.joined()
        await Progress(stage).until(50)
        windows = [time.monotonic()]
        await asyncio.sleep(seconds / 4)
        windows.append(time.monotonic())
        visits = await _visits(stage, seconds, every)
        windows.append(time.monotonic())
        await asyncio.sleep(session / 2)  # the last rebalance settles
        windows.append(time.monotonic())
        await asyncio.sleep(seconds / 4)
        windows.append(time.monotonic())
        left = records - Progress(stage).done()
        await stage.drained(120)
        evidence = await stage.evidence()
        failures = stage.group.failures()
    before, disturbed, _, after = (_rate(evidence, begin, end) for begin, end in itertools.pairwise(windows))
    undisturbed = (before + after) / 2
    again = done_again(evidence)
    missed = [*findings(evidence), *failures]
    missed += [f"done again after a clean hand-over: {text}" for text in again.unexcused[:5]]
    missed += [f"P4 done again though recorded as done: {text}" for text in again.after_record[:5]]
    if not left:
        missed.append("the backlog was too small: it was drained before the end")
    if disturbed < undisturbed / 2:
        missed.append("throughput fell below half")
    figures = {
        "rebalances": 2 * visits,
        "seconds of rebalances": windows[2] - windows[1],
        "records/s before, after": f"{before:.1f}, {after:.1f}",
        "records/s meanwhile": disturbed,
        "share": disturbed / undisturbed,
        "done again": again.events,
        "findings": len(missed),
    }
    return Result(figures, missed)


async def _visits(stage: Stage, seconds: float, every: float) -> int:
    """Join and leave in turn, one of them at every tick, and return how often it did both."""
    loop = asyncio.get_running_loop()
    tick, end, visits = loop.time(), loop.time() + seconds, 0
    while loop.time() < end:
        visitor = AIOKafkaConsumer(
            stage.topic,
            bootstrap_servers=stage.kafka.bootstrap,
            group_id=stage.topic,
            client_id="0-visitor",  # sorts before the instances, so that everybody's partitions move
            session_timeout_ms=int(SESSION * 1000),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await visitor.start()
        tick += every
        await asyncio.sleep(tick - loop.time())
        await visitor.stop()
        tick += every
        await asyncio.sleep(tick - loop.time())
        visits += 1
        say(f"{visits} visits")
    return visits


def _rate(evidence: Evidence, begin: float, end: float) -> float:
    firsts: dict[str | None, float] = {}
    for write in evidence.log.writes():
        firsts.setdefault(write.address, write.end)
    return sum(begin <= first < end for first in firsts.values()) / (end - begin)


async def _measure(args: argparse.Namespace, kafka: KafkaBroker, folder: Path) -> Result:
    return await rebalance(
        kafka, folder, seconds=args.seconds, every=args.every, records=args.records, session=args.session
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.rebalances", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of rebalances (default: 60)")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="between them (default: 2)")
    parser.add_argument("--session", type=float, default=SESSION, metavar="SECONDS", help="KAFKA_SESSION_TIMEOUT")
    parser.add_argument("--records", type=int, default=7000, metavar="N", help="in the backlog (default: 7000)")
    return parser


if __name__ == "__main__":
    sys.exit(main(_measure, _parser()))
