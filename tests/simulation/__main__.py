"""`python -m tests.simulation`: many seeds, each a world of its own; a line for each that fails, and how to see it."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.simulation.scenario import Scenario, draw

_PROGRESS: float = 5.0
"""Seconds between two lines of progress."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the seeds, and return the exit code: 1 when one failed."""
    args = _parser().parse_args(argv)
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of a set of strings must be the same in each run.
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *(sys.argv[1:] if argv is None else argv)],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    seeds = args.seed or range(args.first, args.first + args.seeds)
    if args.trace or args.reduce or args.look:
        return max(_look(seed, args) for seed in seeds)
    began, done, failed = time.monotonic(), 0, 0
    shown = began
    for seed, findings, _ in _outcomes(seeds, args):
        done += 1
        if findings:
            failed += 1
            _say(_complaint(draw(seed, instances=args.instances, faults=args.faults), findings))
            if args.fail_fast:
                break
        if (now := time.monotonic()) - shown > _PROGRESS:
            shown = now
            _say(f"{done} of {len(seeds)} seeds, {failed} failed, {done / (now - began):.2f} seeds/s")
    seconds = time.monotonic() - began
    _say(f"{'FAILED' if failed else 'PASSED'}: {done} seeds, {failed} failed, {done / seconds:.2f} seeds/s")
    return int(failed > 0)


def _outcomes(seeds: Iterable[int], args: argparse.Namespace) -> Iterator[tuple[int, tuple[str, ...], str]]:
    arguments = [(seed, args.instances, args.faults) for seed in seeds]
    if args.jobs == 1:
        yield from map(_run, arguments)
        return
    with ProcessPoolExecutor(args.jobs) as pool:
        yield from pool.map(_run, arguments, chunksize=1)


def _run(arguments: tuple[int, int | None, int | None]) -> tuple[int, tuple[str, ...], str]:
    from tests.simulation.judging import simulate  # noqa: PLC0415 - heavy; not before the hash seed is set

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    seed, instances, faults = arguments
    outcome = simulate(draw(seed, instances=instances, faults=faults))
    return seed, outcome.findings, outcome.hash


def _look(seed: int, args: argparse.Namespace) -> int:
    """Run one seed, make it smaller if asked to, and write its trace."""
    from tests.simulation.judging import simulate  # noqa: PLC0415
    from tests.simulation.reducing import reduce  # noqa: PLC0415

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    scenario = draw(seed, instances=args.instances, faults=args.faults)
    if args.reduce:
        kinds = {_kind(finding) for finding in simulate(scenario).findings}
        scenario = reduce(scenario, lambda it: any(_kind(finding) in kinds for finding in simulate(it).findings))
    outcome = simulate(scenario, keep_trace=args.trace is not None)
    if args.trace is not None:
        with args.trace.open("w") as file:
            file.writelines(outcome.trace)
    if outcome.findings:
        _say(_complaint(scenario, outcome.findings))
    _say(
        f"seed {seed}: {len(outcome.findings)} findings, {outcome.steps} steps, hash {outcome.hash}, {outcome.events} "
        f"events, {outcome.requests} requests, drained {outcome.drained_after:.1f} s after the last fault"
    )
    return int(bool(outcome.findings))


def _kind(finding: str) -> str:
    """Return which promise a finding is about."""
    return finding.partition(":")[0]


def _complaint(scenario: Scenario, findings: Sequence[str]) -> str:
    found = "\n".join(f"  - {finding}" for finding in findings)
    faults = "\n".join(f"    {fault}" for fault in scenario.faults)
    world = f"{scenario.instances} instances, {scenario.nodes} nodes, {scenario.partitions} partitions"
    again = f"python -m tests.simulation --seed {scenario.seed} --trace trace.txt"
    return (
        f"seed {scenario.seed} FAILED\n{found}\n  again: {again}   (smaller: --reduce)\n"
        f"  {world}, {dict(scenario.settings)}\n  faults:\n{faults}"
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description="Runs the complete service, one to five instances, on virtual time against simulated brokers and "
        "APIs, under faults drawn from a seed, and asks whether every promise held (docs/simulation.md).",
        epilog="example: python -m tests.simulation --seed 7 --trace trace.txt",
    )
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="how many seeds (default: 100)")
    parser.add_argument("--first", type=int, default=1, metavar="K", help="the first seed (default: 1)")
    parser.add_argument("--seed", type=int, action="append", metavar="K", help="this seed only; repeatable")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write what happened, line by line")
    parser.add_argument("--look", action="store_true", help="say of each seed how many steps it took, and its hash")
    parser.add_argument("--reduce", action="store_true", help="leave out what the seed fails without")
    parser.add_argument("--fail-fast", action="store_true", help="end with the first seed that fails")
    parser.add_argument("--instances", type=int, metavar="N", help="so many instances (default: the seed's)")
    parser.add_argument("--faults", type=int, metavar="N", help="so many faults (default: the seed's)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
