"""The one report: every run's numbers with what they were measured on, as JSON and as a table of medians."""

import os
import platform
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from tests.benchmarks.contestants import SERVICE, Contestant
from tests.benchmarks.fleet import Drain, Sharing
from tests.benchmarks.memory import Backlog
from tests.benchmarks.running import Measurement
from tests.benchmarks.scenarios import Scenario

_PACKAGES = ("sesamy-mailmojo", "aiokafka", "aiohttp", "uvloop", "msgspec", "orjson", "aiolimiter")
_POM = Path(__file__).parents[2] / "deploy" / "kafka" / "pom.xml"
_HEADER = (
    "load",
    "contestant",
    "events/s",
    "service / this",
    "of ideal",
    "p50 / p99 ms",
    "requests/event",
    "CPU µs/event",
    "CPU of a core",
    "sandbox's CPU",
    "peak RSS MiB",
    "order violations",
    "redone",
    "lost",
)


Finding: TypeAlias = Drain | Sharing | Backlog
"""What is not a race: quota use, and memory."""


class Result(Struct, frozen=True, kw_only=True):
    """All rounds of one contestant in one scenario."""

    scenario: Scenario
    contestant: str
    rounds: tuple[Measurement, ...]


class Machine(Struct, frozen=True, kw_only=True):
    """Where and when it was measured. `load_average` is that of the minute before the first run."""

    date: str
    cpu: str
    cores: int
    memory_gib: int
    system: str
    python: str
    kafka: str
    packages: dict[str, str]
    load_average: float


def machine() -> Machine:
    """Describe this one, now."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    kafka = re.search(r"kafka_[\d.]+</artifactId>\s*<version>([^<]+)", _POM.read_text())
    return Machine(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        cpu=model[1] if model else platform.machine(),
        cores=os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        kafka=kafka[1] if kafka else "unknown",
        packages={name: version(name) for name in _PACKAGES},
        load_average=round(os.getloadavg()[0], 2),
    )


def as_json(
    where: Machine, contestants: Iterable[Contestant], results: Sequence[Result], findings: Iterable[Finding] = ()
) -> bytes:
    """Return everything that was measured, with the ideal lines and each run's rate."""
    report = {
        "machine": where,
        "contestants": {contestant.name: contestant.what for contestant in contestants},
        "results": [msgspec.to_builtins(result) | _computed(result, results) for result in results],
        "findings": {type(finding).__name__: finding for finding in findings},
    }
    return msgspec.json.format(msgspec.json.encode(report), indent=2)


def as_text(
    where: Machine, contestants: Iterable[Contestant], results: Sequence[Result], findings: Iterable[Finding] = ()
) -> str:
    """Return the report for people, in Markdown."""
    rows = [_row(result, results) for result in results]
    scenarios = dict.fromkeys(result.scenario for result in results)
    return "\n".join(
        [
            _machine(where),
            " · ".join(f"{name} {number}" for name, number in where.packages.items()),
            "",
            *(f"- {contestant.name}: {contestant.what}" for contestant in contestants),
            *(_load(scenario, results) for scenario in scenarios),
            "",
            *_table(rows),
            "",
            *(_finding(finding) for finding in findings),
        ]
    )


def _finding(finding: Finding) -> str:
    values = msgspec.structs.asdict(finding).items()
    shown = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value:,}" for name, value in values)
    return f"- {type(finding).__name__}: {', '.join(shown).replace('_', ' ')}"


def _machine(where: Machine) -> str:
    return (
        f"{where.date} · {where.cpu}, {where.cores} cores, {where.memory_gib} GiB · {where.system} · "
        f"Python {where.python} · Apache Kafka {where.kafka} · load average before: {where.load_average}"
    )


def _load(scenario: Scenario, results: Sequence[Result]) -> str:
    here = [result for result in results if result.scenario == scenario]
    events = {result.contestant: result.rounds[0].counts.events for result in here}
    widest = max(_width(result) for result in here)
    line = "no ideal line"
    if ideal := scenario.ideal_rate(widest):
        line = (
            f"ideal line = min(concurrency, users) / (round trips * latency) = {widest} / "
            f"({scenario.round_trips} * {scenario.latency:g} s) = {ideal:.1f} events/s"
        )
    load = ", ".join(f"{count} events ({name})" for name, count in events.items())
    return f"- {scenario.title}: {load}; {scenario.partitions} partitions; {line}"


def _computed(result: Result, results: Sequence[Result]) -> Mapping[str, Any]:
    return {
        "ideal_rate": result.scenario.ideal_rate(_width(result)),
        "rates": [run.counts.rate for run in result.rounds],
        "median_rate": median_rate(result),
        "service_to_this": _service_to(result, results),
        "of_ideal": _of_ideal(result),
    }


def _width(result: Result) -> int:
    return min(result.scenario.concurrency, result.rounds[0].counts.users)


def median_rate(result: Result) -> float:
    """Return the events a second of the middle round."""
    return statistics.median(run.counts.rate for run in result.rounds)


def _service_to(result: Result, results: Sequence[Result]) -> float | None:
    """Return how many times as fast the service was: the middle of the rounds' ratios.

    Not the ratio of the middle rounds: the two runs of a round follow one another, and a machine's speed may have
    changed by the next round.
    """
    for other in results:
        if other.scenario == result.scenario and other.contestant == SERVICE.name and other is not result:
            pairs = zip(other.rounds, result.rounds, strict=True)
            return statistics.median(service.counts.rate / this.counts.rate for service, this in pairs)
    return None


def _of_ideal(result: Result) -> float | None:
    ideal = result.scenario.ideal_rate(_width(result))
    return median_rate(result) / ideal if ideal else None


def _row(result: Result, results: Sequence[Result]) -> tuple[str, ...]:
    runs, of_ideal, ratio = result.rounds, _of_ideal(result), _service_to(result, results)
    rates = sorted(run.counts.rate for run in runs)
    delays = [run.counts.delays for run in runs if run.counts.delays]
    return (
        result.scenario.title,
        result.contestant,
        f"{median_rate(result):.1f} ({rates[0]:.1f}-{rates[-1]:.1f})",
        "-" if ratio is None else f"{ratio:.2f}",
        "-" if of_ideal is None else f"{of_ideal:.1%}",
        " / ".join(f"{1e3 * statistics.median(column):.0f}" for column in zip(*delays, strict=True)) or "-",
        f"{statistics.median(run.counts.requests / run.counts.events for run in runs):.2f}",
        f"{1e6 * statistics.median(run.cpu_per_event for run in runs):.0f}",
        f"{statistics.median(run.busy for run in runs):.0%}",
        f"{statistics.median(run.sandbox_busy for run in runs):.0%}",
        f"{max(run.peak_rss for run in runs):.0f}",
        str(sum(run.counts.order_violations for run in runs)),
        str(sum(run.counts.redone for run in runs)),
        str(sum(run.counts.lost for run in runs)),
    )


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(_HEADER, *rows, strict=True)]
    lines = [_HEADER, tuple("-" * width for width in widths), *rows]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
