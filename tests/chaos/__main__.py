"""`python -m tests.chaos`: seeded runs, one line each, until stopped, or as many as `--seed` or `--runs` says."""

import argparse
import asyncio
import contextlib
import itertools
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests import kafka_broker
from tests.chaos.experiment import quiet, say
from tests.chaos.running import complaint, line, run
from tests.chaos.schedule import draw
from tests.chaos.stage import SESSION
from tests.kafka_broker import KafkaBroker


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and return the exit code: 1 when a run broke a promise."""
    args = _parser().parse_args(argv)
    if reason := kafka_broker.unavailable():
        say(reason)
        return 2
    quiet()
    seeds: Iterable[int] = args.seed or itertools.count(args.first)
    if args.runs is not None:
        seeds = itertools.islice(seeds, args.runs)
    failed: list[int] = []
    # Being stopped is how it ends, unless it was given an end.
    with KafkaBroker() as kafka, contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(_run_all(seeds, args.seconds, kafka, failed, simulated=args.simulate))
    return int(bool(failed))


async def _run_all(
    seeds: Iterable[int], seconds: float, kafka: KafkaBroker, failed: list[int], *, simulated: int
) -> None:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    for seed in seeds:
        folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
        done = await run(draw(seed, seconds, SESSION), kafka, folder)
        sys.stdout.write(line(done) + "\n")
        if done.findings:
            failed.append(seed)
            sys.stdout.write(complaint(done, folder) + "\n")
        else:
            shutil.rmtree(folder)
        sys.stdout.flush()
        if simulated and await _simulate(seed * simulated, simulated):
            failed.append(seed)


async def _simulate(first: int, count: int) -> int:
    """Run so many seeds of the simulation in a process of its own, and return its exit code."""
    command = ("-m", "tests.simulation", f"--first={first}", f"--seeds={count}")
    process = await asyncio.create_subprocess_exec(sys.executable, *command)
    try:
        return await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Runs instances of the service against a real Kafka and the sandbox, under faults drawn from a "
        "seed, and judges by the sandbox's request log and the committed offsets (docs/guarantees.md).",
        epilog="example: python -m tests.chaos --seed 7",
    )
    parser.add_argument("--seed", type=int, action="append", metavar="N", help="this run; repeatable")
    parser.add_argument(
        "--first",
        type=int,
        default=int(time.time()),
        metavar="N",
        help="without --seed: the first seed (default: the time)",
    )
    parser.add_argument("--runs", type=int, metavar="N", help="so many runs (default: until stopped)")
    parser.add_argument(
        "--simulate", type=int, default=0, metavar="N", help="so many seeds of tests.simulation after each run"
    )
    parser.add_argument("--seconds", type=float, default=40.0, help="how long users change (default: 40)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
