"""`python -m tests.benchmarks`: contestants side by side against one real Kafka and one fast fake of both APIs."""

import argparse
import asyncio
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from tests import kafka_broker
from tests.benchmarks import report
from tests.benchmarks.checkout import CheckoutError, checkout
from tests.benchmarks.contestants import CONTESTANTS, ROOT, Contestant, at_commit, build
from tests.benchmarks.fake_process import serve_fake
from tests.benchmarks.fleet import Quota, drain_few_users, share_among_three
from tests.benchmarks.kills import kill
from tests.benchmarks.loads import Load, loads
from tests.benchmarks.memory import hold
from tests.benchmarks.plot import as_svg
from tests.benchmarks.report import Report
from tests.benchmarks.runner import Site
from tests.benchmarks.turns import Results, drop, race, say
from tests.kafka_broker import KafkaBroker

_PAGE = ROOT / "docs" / "performance.md"
_PLOT = ROOT / "docs" / report.PLOT
_KILL = "kill"
_LAST = ROOT / "tests" / "benchmarks" / "results" / "last.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and return the exit code: 1 when a contestant dropped out in the middle."""
    args = _parser().parse_args(argv)
    if args.read:
        try:
            told = report.from_json(args.read.read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            say(f"{args.read}: {error}")
            return 2
    else:
        if reason := kafka_broker.unavailable():
            say(reason)
            return 2
        try:
            told = _measured(args, argv)
        except CheckoutError as error:
            say(str(error))
            return 2
    _show(args, told)
    return int(bool(told.results.dropped))


def _measured(args: argparse.Namespace, argv: Sequence[str] | None) -> Report:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        contestants = [one for one in CONTESTANTS if not args.only or any(part in one.name for part in args.only)]
        if args.against:
            place = stack.enter_context(checkout(args.against, folder / "checkout"))
            contestants.insert(1, at_commit(args.against, place))
        told = Report(
            machine=report.machine(),
            commit=_commit(),
            command=f"make bench BENCH_ARGS={shlex.quote(shlex.join(argv or sys.argv[1:]))}",
            contestants={one.name: one.what for one in contestants},
            results=Results(),
        )
        for name, reason in build(contestants).items():
            drop(told.results, name, f"It did not run: {reason}")
            contestants = [one for one in contestants if one.name != name]
        with KafkaBroker() as kafka:
            try:
                asyncio.run(_measure(args, contestants, kafka, folder, told))
            except KeyboardInterrupt:
                say("interrupted: this is what was measured until then")
            finally:
                _LAST.parent.mkdir(exist_ok=True)
                _LAST.write_bytes(report.as_json(told))
                say(f"every turn is in {_LAST.relative_to(ROOT)}; --read shows it again")
        return told


async def _measure(
    args: argparse.Namespace, contestants: Sequence[Contestant], kafka: KafkaBroker, folder: Path, told: Report
) -> None:
    """Measure all that is asked for, and put it into the report as it comes."""
    async with serve_fake(folder) as fake:
        site = Site(kafka, fake, folder)
        await race(_loads(args), contestants, args.rounds, site, told.results)
        if _KILL in args.load if args.load else not args.quick:
            await _kill_all(contestants, site, args.kills, told)
    if args.full:
        told.drain = await drain_few_users(
            kafka, folder / "drain", users=100, events=10_000, sesamy=Quota(10, 20), mailmojo=Quota(10, 5)
        )
        told.sharing = await share_among_three(
            kafka, folder / "sharing", sesamy=Quota(60, 20), mailmojo=Quota(200, 100), seconds=20
        )
        told.backlog = await hold(kafka, folder / "memory", records=1_000_000, users=100_000, max_pending=1_000_000)


async def _kill_all(contestants: Sequence[Contestant], site: Site, times: int, told: Report) -> None:
    for contestant in contestants:
        if not contestant.reads_topic or contestant.coalesces:
            continue
        for _ in range(times):
            try:
                found = await kill(contestant, site)
            except RuntimeError as error:
                drop(told.results, contestant.name, f"after kill -9: {error}")
            else:
                told.kills.append(found)
                say(f"kill -9: {found.contestant}: {found.in_flight} in flight, {found.redone} done again")


def _show(args: argparse.Namespace, told: Report) -> None:
    text = report.as_markdown(told)
    sys.stdout.write(text + "\n")
    if args.json:
        args.json.write_bytes(report.as_json(told))
    if args.docs:
        _PAGE.write_text(report.put_into(_PAGE.read_text(), text))
        _PLOT.parent.mkdir(exist_ok=True)
        _PLOT.write_text(as_svg(told))


def _loads(args: argparse.Namespace) -> Sequence[Load]:
    scale = 0.02 if args.quick else 2 if args.full else 1
    return [load for load in loads(scale) if not args.load or load.name in args.load]


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def _parser() -> argparse.ArgumentParser:
    names = [load.name for load in loads()]
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measures events a second and CPU per event against a real Kafka and a fast fake of both APIs, "
        "contestants side by side, in about a quarter of an hour. What the tables mean: docs/performance.md.",
        epilog="example: make bench BENCH_ARGS='--load 0ms --rounds 3 --against HEAD~1'",
    )
    parser.add_argument("--load", action="append", choices=[*names, _KILL], help="this alone; repeatable")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of each load (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=1, metavar="N", help="of each contestant (default: %(default)s)")
    parser.add_argument("--only", action="append", metavar="TEXT", help="contestants with this in the name; repeatable")
    parser.add_argument("--against", metavar="COMMIT", help="measure this repository at a commit as well")
    parser.add_argument("--full", action="store_true", help="loads twice as long; quotas and memory as well")
    parser.add_argument("--quick", action="store_true", help="does it run at all? its figures say nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every turn there")
    parser.add_argument("--docs", action="store_true", help="write tables and plot into docs/")
    parser.add_argument("--read", type=Path, metavar="FILE", help="measure nothing: show the JSON of an earlier run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
