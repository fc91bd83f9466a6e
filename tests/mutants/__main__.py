"""`make mutants`: puts one fault at a time into a copy of the program, and runs the tests that have to notice it."""

import argparse
import asyncio
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.running import Copies, Result
from tests.mutants.table import Fault, groups, load


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and return the exit code: 1 if a fault survived, is out of date, or could not be tried."""
    faults = load()
    args = _parser(groups(faults)).parse_args(argv)
    chosen = [
        fault
        for fault in faults
        if (not args.group or fault.group in args.group) and (not args.name or fault.name in args.name)
    ]
    if missing := set(args.name) - {fault.name for fault in chosen}:
        _say(f"no such fault: {', '.join(sorted(missing))}; see --list")
        return 2
    if args.list:
        for fault in chosen:
            _say(f"{fault.group}: {fault.name}: {fault.breaks}")
        return 0
    return asyncio.run(_run(chosen, args.jobs, args.seconds, baseline=args.baseline))


async def _run(faults: Sequence[Fault], jobs: int, limit: float, *, baseline: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = Copies(Path(folder), jobs)
        if baseline:
            files = sorted({file for fault in faults for file in fault.tests})
            if complaint := await copies.complaint(files, 3 * limit):
                _say(f"The tests fail without a fault, so they tell nothing about faults:\n{complaint}")
                return 1
            _say(f"{len(files)} test files pass without a fault")
        async with asyncio.TaskGroup() as tasks:
            runs = [tasks.create_task(_report(copies, fault, limit)) for fault in faults]
    results = [run.result() for run in runs]
    counts = Counter(result.verdict for result in results)
    _say(f"{len(faults)} faults: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    for fault, result in zip(faults, results, strict=True):
        if not result.is_good:
            _say(f"NOT CAUGHT: {fault.group}: {fault.name} ({fault.file}): {fault.breaks}")
    return int(not all(result.is_good for result in results))


async def _report(copies: Copies, fault: Fault, limit: float) -> Result:
    result = await copies.result(fault, limit)
    _say(f"{result.verdict:10} {result.seconds:5.1f} s  {fault.group}: {fault.name}  [{result.detail}]")
    return result


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _parser(known: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description="Puts one fault at a time into a copy of the program and runs the tests that have to notice it. "
        "The faults are in tests/mutants/faults.",
        epilog="example: python -m tests.mutants --group lease --jobs 2",
    )
    parser.add_argument("name", nargs="*", help="only these faults (default: all)")
    parser.add_argument("--group", action="append", choices=known, help="only this group; repeatable")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="faults at a time")
    parser.add_argument("--seconds", type=float, default=600.0, help="time limit for one fault (default: 600)")
    parser.add_argument(
        "--baseline",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="first run the tests without a fault (default)",
    )
    parser.add_argument("--list", action="store_true", help="only list the faults")
    return parser


if __name__ == "__main__":
    sys.exit(main())
