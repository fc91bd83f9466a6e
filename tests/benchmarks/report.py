"""The report of a run: every turn as JSON, and tables of medians in Markdown."""

import os
import platform
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
from msgspec import Struct

from tests.benchmarks.contestants import COALESCING, CONTESTANTS, ROOT, SERVICE
from tests.benchmarks.fleet import Drain, Sharing
from tests.benchmarks.kills import Kill
from tests.benchmarks.loads import Load
from tests.benchmarks.memory import Backlog
from tests.benchmarks.turns import CORES, Results, Turn, kind

_PACKAGES = ("aiokafka", "aiohttp", "uvloop", "msgspec")
_POM = ROOT / "deploy" / "kafka" / "pom.xml"
PLOT = "images/benchmark.svg"
"""Where the page finds the plot."""

_BEGIN, _END = "<!-- bench: begin -->", "<!-- bench: end -->"
_ORDER = [contestant.name for contestant in CONTESTANTS]


class Machine(Struct, frozen=True, kw_only=True):
    """Where and when it was measured. `load_average` is that of the minute before the first turn."""

    date: str
    cpu: str
    cores: int
    memory_gib: int
    system: str
    python: str
    kafka: str
    packages: dict[str, str]
    load_average: float


class Report(Struct, kw_only=True):
    """All that a run showed."""

    machine: Machine
    commit: str
    command: str
    contestants: dict[str, str]
    results: Results
    kills: list[Kill] = []
    drain: Drain | None = None
    sharing: Sharing | None = None
    backlog: Backlog | None = None


def machine() -> Machine:
    """Describe this one, now."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    kafka = re.search(r"kafka_[\d.]+</artifactId>\s*<version>([^<]+)", _POM.read_text())
    return Machine(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        cpu=model[1] if model else platform.machine(),
        cores=CORES,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        kafka=kafka[1] if kafka else "unknown",
        packages={name: version(name) for name in _PACKAGES},
        load_average=round(os.getloadavg()[0], 2),
    )


def as_json(report: Report) -> bytes:
    """Return all of the report, for `from_json`."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def from_json(content: bytes) -> Report:
    """Return the report of an earlier run.

    Raises:
        msgspec.DecodeError: the content is no report.
    """
    return msgspec.json.decode(content, type=Report)


def as_markdown(report: Report) -> str:
    """Return the report for people."""
    loads = list(dict.fromkeys(turn.load for turn in report.results.turns))
    even, fleet, hot = ([load for load in loads if kind(load) == wanted] for wanted in ("even", "fleet", "hot"))
    about = report.machine
    rounds = max(Counter((turn.load, turn.contestant) for turn in report.results.turns).values(), default=0)
    head = (
        f"Measured {about.date} at commit {report.commit} with `{report.command}`: medians of {rounds} interleaved "
        f"rounds · {about.cpu}, {about.cores} cores, {about.memory_gib} GiB, {about.system} · Python {about.python}, "
        f"{', '.join(f'{name} {number}' for name, number in about.packages.items())} · Apache Kafka {about.kafka} · "
        f"load average before: {about.load_average}"
    )
    parts = [
        head,
        *(f"**{name} dropped out.** {' '.join(reason.split())[:300]}" for name, reason in report.results.dropped),
    ]
    if even:
        parts += ["**One process: events a second · CPU µs an event · cores**", _rates(report, even)]
    if fleet:
        head = f"**{CORES} processes, one per core: events a second · CPU µs an event · cores, together**"
        parts += [head, _rates(report, fleet)]
    raced = [*even, *fleet]
    if contestants_of(report, raced)[:1] == [SERVICE.name]:
        parts += ["**This service ÷ the other: events a second · CPU an event**", _ratios(report, raced)]
    for load in hot:
        parts += [f"**{load.title} of {load.users:,}: events of hot users wait for one another**", _hot(report, load)]
    if report.kills:
        parts += ["**Done again after kill -9, at 10 ms, 64 at a time**", _kills(report.kills)]
    parts += [_finding(one) for one in (report.drain, report.sharing, report.backlog) if one is not None]
    return "\n\n".join(parts)


def put_into(page: str, report: str) -> str:
    """Return a page with the report and the plot in place of those that it holds between two marks.

    Raises:
        ValueError: the page has no such place.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"the page has no place for the report, between {_BEGIN} and {_END}")
    return f"{before}{_BEGIN}\n\n{report}\n\n![events a second by contestant and load]({PLOT})\n\n{_END}{after}"


def contestants_of(report: Report, loads: Sequence[Load]) -> list[str]:
    """Return who has turns under one of the loads, in the usual order."""
    found = dict.fromkeys(turn.contestant for turn in report.results.turns if turn.load in loads)
    return sorted(found, key=lambda name: _ORDER.index(name) if name in _ORDER else 0.5)


def median_rate(turns: Iterable[Turn]) -> float:
    """Return the events a second of the middle round."""
    return statistics.median(turn.rate for turn in turns)


def ratios(ours: Sequence[Turn], theirs: Sequence[Turn]) -> tuple[float, float] | None:
    """Return how many times as fast we were, and how much CPU an event took of us for one of theirs.

    The medians of the ratios by round, not the ratios of the medians: the turns of a round follow one another, and
    the machine's speed may have changed by the next round. None without a common round.
    """
    pairs = [(our, their) for our, their in zip(ours, theirs, strict=False) if their.cpu]
    if not pairs:
        return None
    return (
        statistics.median(our.rate / their.rate for our, their in pairs),
        statistics.median(our.cpu_per_event / their.cpu_per_event for our, their in pairs),
    )


def _rates(report: Report, loads: Sequence[Load]) -> str:
    ideal = [load.ideal_rate(load.instances or CORES) for load in loads]
    rows = [["ideal line", *(f"{rate:,.0f}" if rate else "-" for rate in ideal), ""]]
    for name in contestants_of(report, loads):
        by_load = [report.results.of(load, name) for load in loads]
        peak = max(turn.peak_rss for turns in by_load for turn in turns)
        rows.append([_bold(name), *(_cell(turns) for turns in by_load), f"{peak:.0f}"])
    fake = [max(turn.fake_cores for turn in report.results.turns if turn.load == load) for load in loads]
    rows.append(["the fake's cores, at most", *(f"{cores:.2f}" for cores in fake), ""])
    return _table(["", *(load.title for load in loads), "MiB"], rows)


def _cell(turns: Sequence[Turn]) -> str:
    if not turns:
        return "-"
    cpu = 1e6 * statistics.median(turn.cpu_per_event for turn in turns)
    cores = statistics.median(turn.cores for turn in turns)
    return f"{median_rate(turns):,.0f} · {cpu:,.0f} · {cores:.2f}"


def _ratios(report: Report, loads: Sequence[Load]) -> str:
    rows = []
    for name in contestants_of(report, loads):
        if name == SERVICE.name:
            continue
        found = [ratios(report.results.of(load, SERVICE.name), report.results.of(load, name)) for load in loads]
        rows.append([name, *(f"{pair[0]:.2f} · {pair[1]:.2f}" if pair else "-" for pair in found)])
    heads = [load.title if load.instances == 1 else f"{load.title}, {CORES} processes" for load in loads]
    return _table(["", *heads], rows)


def _hot(report: Report, load: Load) -> str:
    rows = []
    for name in contestants_of(report, [load]):
        turns = report.results.of(load, name)
        seconds = statistics.median(turn.seconds for turn in turns)
        requests = statistics.median(turn.requests / turn.events for turn in turns)
        cpu = 1e6 * statistics.median(turn.cpu_per_event for turn in turns)
        rows.append([_bold(name), f"{seconds:.1f}", f"{median_rate(turns):,.0f}", f"{requests:.2f}", f"{cpu:,.0f}"])
    return _table(["", "seconds", "events a second", "requests an event", "CPU µs an event"], rows)


def _kills(kills: Sequence[Kill]) -> str:
    rows = [
        [_bold(kill.contestant), f"{kill.rate:,.0f}", str(kill.in_flight), str(kill.redone), f"{kill.bound:,.0f}"]
        for kill in kills
    ]
    return _table(["", "events a second", "in flight", "done again", "64 and 0.2 s of work"], rows)


def _bold(name: str) -> str:
    return f"**{name}**" if name in {SERVICE.name, COALESCING.name} else name


def _finding(finding: Struct) -> str:
    values = msgspec.structs.asdict(finding).items()
    shown = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value:,}" for name, value in values)
    return f"{type(finding).__name__}: {', '.join(shown).replace('_', ' ')}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))
