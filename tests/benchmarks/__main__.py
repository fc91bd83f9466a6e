"""`python -m tests.benchmarks`: contestants side by side against one real Kafka and the sandbox."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from tests import kafka_broker
from tests.benchmarks import report
from tests.benchmarks.contestants import CONTESTANTS, PARALLEL, Contestant, entrants, fetch_parallel_consumer
from tests.benchmarks.fleet import Quota, drain_few_users, share_among_three
from tests.benchmarks.memory import hold
from tests.benchmarks.plot import as_svg
from tests.benchmarks.report import Finding, Result
from tests.benchmarks.running import Measurement, measure
from tests.benchmarks.scenarios import Scenario, default, full
from tests.kafka_broker import KafkaBroker


class Benchmark(Struct, frozen=True, kw_only=True):
    """What one call of the command measures: in every scenario these contestants, as far as it is about them."""

    scenarios: tuple[Scenario, ...]
    contestants: tuple[Contestant, ...]
    rounds: int


async def run(benchmark: Benchmark, kafka: KafkaBroker, folder: Path) -> list[Result]:
    """Run every contestant in every scenario. They alternate, so that a noisy minute meets them all."""
    results = []
    for number, scenario in enumerate(benchmark.scenarios):
        here = [one for one in entrants(scenario) if one in benchmark.contestants]
        runs: dict[str, list[Measurement]] = {contestant.name: [] for contestant in here}
        for turn in range(benchmark.rounds):
            for contestant in here:
                place = folder / f"{number}-{turn}-{contestant.name.replace(' ', '-')}"
                measured = await measure(scenario, contestant, kafka, place)
                runs[contestant.name].append(measured)
                _say(
                    f"{scenario.title}, round {turn + 1} of {benchmark.rounds}: "
                    f"{contestant.name}: {measured.counts.rate:.1f} events/s"
                )
        results += [Result(scenario=scenario, contestant=name, rounds=tuple(all_)) for name, all_ in runs.items()]
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit code: 1 when order broke or something was lost."""
    args = _parser().parse_args(argv)
    if reason := kafka_broker.unavailable():
        _say(reason)
        return 2
    contestants = [one for one in CONTESTANTS if not args.only or one.name in args.only]
    skipped = fetch_parallel_consumer() if PARALLEL in contestants else None
    if skipped:
        contestants.remove(PARALLEL)
    benchmark = Benchmark(
        scenarios=tuple(_scenarios(args)),
        contestants=tuple(contestants),
        rounds=args.rounds,
    )
    where = report.machine()
    with KafkaBroker() as kafka, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        results = asyncio.run(run(benchmark, kafka, Path(folder)))
        findings = asyncio.run(_findings(args, kafka, Path(folder)))
    sys.stdout.write(report.as_text(where, benchmark.contestants, results, findings) + "\n")
    if args.json:
        args.json.write_bytes(report.as_json(where, benchmark.contestants, results, findings) + b"\n")
    if args.svg:
        args.svg.write_text(as_svg(results, f"{where.date[:10]}, {where.cores} cores, {where.cpu}"))
    if skipped:
        _say(f"*** Parallel Consumer did NOT run: {skipped} ***")
    counted = [measured.counts for result in results for measured in result.rounds]
    return int(any(counts.order_violations or counts.lost or counts.wrong for counts in counted))


async def _findings(args: argparse.Namespace, kafka: KafkaBroker, folder: Path) -> Sequence[Finding]:
    if args.quick or args.latency or args.only:
        return ()
    drain = await drain_few_users(
        kafka, folder / "drain", users=100, events=10_000, sesamy=Quota(10, 20), mailmojo=Quota(10, 5)
    )
    _say(str(drain))
    sharing = await share_among_three(
        kafka, folder / "sharing", sesamy=Quota(60, 20), mailmojo=Quota(200, 100), seconds=20 if args.full else 6
    )
    _say(str(sharing))
    if not args.full:
        return drain, sharing
    backlog = await hold(kafka, folder / "memory", records=1_000_000, users=100_000, max_pending=1_000_000)
    return drain, sharing, backlog


def _scenarios(args: argparse.Namespace) -> Sequence[Scenario]:
    if args.quick:
        return [Scenario(latency=0.01, concurrency=16, seconds=1)]
    if args.latency:
        return [
            Scenario(latency=latency / 1e3, concurrency=args.concurrency, seconds=args.seconds)
            for latency in args.latency
        ]
    return full() if args.full else default()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measures events a second against a real Kafka and the sandbox, contestants side by side, in less "
        "than ten minutes. What the columns mean: docs/performance.md.",
        epilog="example: make bench BENCH_ARGS='--latency 0 --latency 10 --json bench.json'",
    )
    parser.add_argument("--full", action="store_true", help="every load, and memory; about half an hour a round")
    parser.add_argument("--quick", action="store_true", help="does it run at all? its figures say nothing")
    parser.add_argument(
        "--latency", type=float, action="append", metavar="MS", help="one event a user at this latency; repeatable"
    )
    parser.add_argument("--concurrency", type=int, default=64, metavar="N", help="with --latency (default: 64)")
    parser.add_argument("--seconds", type=float, default=10.0, help="with --latency, of the ideal line (default: 10)")
    parser.add_argument("--rounds", type=int, default=1, help="of which the median is shown (default: %(default)s)")
    parser.add_argument(
        "--only", action="append", choices=[one.name for one in CONTESTANTS], help="this contestant; repeatable"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run's numbers there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the plot there")
    return parser


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
