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
from tests.benchmarks.contestants import CONTESTANTS, Contestant
from tests.benchmarks.report import Result
from tests.benchmarks.running import Measurement, measure
from tests.benchmarks.scenarios import Scenario
from tests.kafka_broker import KafkaBroker

_QUICK = {"latency": [10.0], "concurrency": 16, "seconds": 1.0, "rounds": 1}


class Benchmark(Struct, frozen=True, kw_only=True):
    """What one call of the command measures."""

    scenarios: tuple[Scenario, ...]
    contestants: tuple[Contestant, ...]
    rounds: int


async def run(benchmark: Benchmark, kafka: KafkaBroker, folder: Path) -> list[Result]:
    """Run every contestant in every scenario. They alternate, so that a noisy minute meets them all."""
    results = []
    for number, scenario in enumerate(benchmark.scenarios):
        runs: dict[str, list[Measurement]] = {contestant.name: [] for contestant in benchmark.contestants}
        for turn in range(benchmark.rounds):
            for contestant in benchmark.contestants:
                place = folder / f"{number}-{turn}-{contestant.name.replace(' ', '-')}"
                measured = await measure(scenario, contestant, kafka, place)
                runs[contestant.name].append(measured)
                _say(
                    f"{scenario.latency * 1e3:g} ms, round {turn + 1} of {benchmark.rounds}: "
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
    if args.quick:
        vars(args).update(_QUICK)
    benchmark = Benchmark(
        scenarios=tuple(
            Scenario(
                latency=latency / 1e3,
                concurrency=args.concurrency,
                partitions=args.partitions,
                seconds=args.seconds,
            )
            for latency in args.latency or [10.0, 100.0]
        ),
        contestants=tuple(one for one in CONTESTANTS if args.only in {None, one.name}),
        rounds=args.rounds,
    )
    where = report.machine()
    with KafkaBroker() as kafka, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        results = asyncio.run(run(benchmark, kafka, Path(folder)))
    sys.stdout.write(report.as_text(where, benchmark.contestants, results) + "\n")
    if args.json:
        args.json.write_bytes(report.as_json(where, benchmark.contestants, results) + b"\n")
    counted = [measured.counts for result in results for measured in result.rounds]
    return int(any(counts.order_violations or counts.lost or counts.wrong for counts in counted))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measures events a second against a real Kafka and the sandbox, contestants side by side. "
        "What the columns mean: docs/performance.md.",
        epilog="example: make bench BENCH_ARGS='--latency 0 --latency 10 --json bench.json'",
    )
    parser.add_argument(
        "--latency", type=float, action="append", metavar="MS", help="of every answer; repeatable (default: 10 and 100)"
    )
    parser.add_argument("--concurrency", type=int, default=64, metavar="N", help="users at a time (default: 64)")
    parser.add_argument("--partitions", type=int, default=8, metavar="N", help="default: 8")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the ideal line is busy (default: 10)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is shown (default: 3)")
    parser.add_argument("--only", choices=[contestant.name for contestant in CONTESTANTS], help="one contestant alone")
    parser.add_argument("--quick", action="store_true", help="a smoke run of half a minute; its figures say nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run's numbers there")
    return parser


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
