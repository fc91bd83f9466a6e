"""The report as one HTML page that needs nothing else: no script, no other file, light and dark."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Final

from msgspec import structs

from consumer.loadtest import wording
from consumer.loadtest.comparison import Row, differences, rows
from consumer.loadtest.plots import Line, chart
from consumer.loadtest.report import Report, Series

_COLORS: Final = 6
_CARDS: Final = frozenset(
    {"events done", "time until all were done", "latency p50", "latency p99", "largest lag", "requests per event"}
)

Cell = str | tuple[str, str]
"""Text, or text and the class of its cell."""


def render(report: Report, earlier: Report | None = None) -> str:
    """Return the page, with an earlier report beside if there is one."""
    style = (resources.files(__package__) / "style.css").read_text(encoding="utf-8")
    body = "\n".join(_body(report, earlier))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>Load test, {escape(report.date)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _body(report: Report, earlier: Report | None) -> Iterator[str]:
    figures = rows(report, earlier)
    yield f'<h1>Load test <span class="soft">{escape(report.date)}</span></h1>'
    yield _verdict(report)
    yield from (f'<p class="note">{escape(note)}</p>' for note in report.notes)
    yield f'<div class="cards">{"".join(_card(row) for row in figures if row.name in _CARDS)}</div>'
    if earlier:
        yield from _comparison(report, earlier, figures)
    yield "<h2>Over time</h2>"
    yield f'<div class="plots">{"".join(_plots(report, earlier))}</div>'
    if not earlier:
        yield "<h2>Figures</h2>"
        yield _table([], [(row.name, (wording.figure(row), "number")) for row in figures])
    yield "<h2>What became of the events</h2>"
    yield _table([], [(what, (f"{count:,}", "number")) for what, count in wording.events(report)])
    yield f'<p class="soft">{wording.LATENCY}</p>'
    yield "<h2>Load</h2>"
    yield _table([], wording.load(report.load))
    if report.quotas:
        yield "<h2>Quotas</h2>"
        yield _table([], [(use.api, wording.quota(use)) for use in report.quotas])
    yield "<h2>Processes</h2>"
    yield _processes(report)
    yield "<h2>Requests</h2>"
    yield _requests(report)
    yield "<h2>Counted twice</h2>"
    yield from _agreement(report)
    yield f'<p class="soft">{escape(wording.machine(report))}</p>'


def _verdict(report: Report) -> str:
    failures = "".join(f"<li>{escape(failure)}</li>" for failure in report.failures)
    reasons = f"<ul>{failures}</ul>" if failures else ""
    return f'<div class="verdict {"good" if report.ok else "bad"}">{escape(wording.verdict(report))}{reasons}</div>'


def _card(row: Row) -> str:
    beside = f'<span class="soft">{wording.ratio(row)}</span>' if row.ratio is not None else ""
    return f'<div class="card"><span class="soft">{escape(row.name)}</span><b>{wording.figure(row)}</b>{beside}</div>'


def _comparison(report: Report, earlier: Report, figures: Sequence[Row]) -> Iterator[str]:
    yield f"<h2>{escape(wording.beside(earlier))}</h2>"
    if not earlier.ok:
        yield '<p class="bad">The earlier one did not hold.</p>'
    if found := differences(report, earlier):
        yield "<p>Not the same, so the ratios do not speak of the program alone:</p>"
        yield _table(["", "now", "earlier"], [(one.what, one.now, one.earlier) for one in found])
        yield "<br/>"
    else:
        yield "<p>Load and machine are the same.</p>"
    yield _table(
        ["", ("now", "number"), ("earlier", "number"), ("ratio", "number")],
        [
            (
                row.name,
                (wording.figure(row), "number"),
                (wording.figure(row, earlier=True), "number"),
                (wording.ratio(row), "number"),
            )
            for row in figures
        ],
    )


def _plots(report: Report, earlier: Report | None) -> Iterator[str]:
    now, before = report.series, earlier.series if earlier else None

    def line(name: str, values: Sequence[float | None], style: str) -> Line:
        return Line(name=name, values=values, step=now.width, style=style)

    def past(values: Callable[[Series], Sequence[float | None]]) -> list[Line]:
        return [Line(name="earlier", values=values(before), step=before.width, style="earlier")] if before else []

    def each(of: Mapping[str, Sequence[float | None]]) -> list[Line]:
        return [line(name, values, f"c{number % _COLORS}") for number, (name, values) in enumerate(of.items())]

    requests = each(now.requests)
    quotas = {use.api: use.per_second for use in report.quotas}
    bounds = [
        structs.replace(one, name=f"quota of {one.name}", values=[quotas[one.name]])
        for one in requests
        if one.name in quotas
    ]
    published, done = line("sent", now.published, "c1"), line("done", now.done, "c0")
    yield chart("Events", "that ask for a sync, a second", [*past(lambda it: it.done), published, done])
    yield chart(
        "Latency",
        "seconds, by the time at which the event was to be sent",
        [*past(lambda it: it.latency_p99), line("p99", now.latency_p99, "c1"), line("p50", now.latency_p50, "c0")],
    )
    yield chart("Lag", "events without a commit", [*past(lambda it: it.lag), line("now", now.lag, "c0")])
    yield chart("Requests", "a second", requests, bounds=bounds)
    yield chart("CPU", "cores", each(now.cores))
    yield chart("Memory", "MiB", each(now.rss_mib))


def _processes(report: Report) -> str:
    heads: list[Cell] = [
        "",
        ("CPU", "number"),
        ("memory at most", "number"),
        ("events", "number"),
        ("requests", "number"),
        ("rebalances", "number"),
        ("retries", "number"),
        "end",
    ]
    lines: list[Sequence[Cell]] = []
    for one in report.instances:
        counts = (one.events, one.requests, one.rebalances, one.retries)
        end = "died, " if one.died else ""
        lines.append(
            (
                (one.process.name, "name"),
                (wording.cores(one.process), "number"),
                (_memory(one.process.peak_rss_mib), "number"),
                *((f"{count:,}", "number") for count in counts),
                f"{end}exit code {one.exit_code}",
            )
        )
    lines += [
        ((one.name, "name"), (wording.cores(one), "number"), (_memory(one.peak_rss_mib), "number"), "", "", "", "", "")
        for one in report.others
    ]
    return _table(heads, lines)


def _requests(report: Report) -> str:
    heads: list[Cell] = [
        "API",
        "operation",
        "status",
        ("in the sandbox's log", "number"),
        ("counted by the program", "number"),
    ]
    lines = [
        (one.api, one.operation, one.status, (f"{one.log:,}", "number"), (f"{one.program:,}", "number"))
        for one in report.requests
    ]
    per_user = "".join(f"<p>{escape(wording.per_user(one))}</p>" for one in report.per_user)
    return _table(heads, lines) + per_user


def _agreement(report: Report) -> Iterator[str]:
    yield f"<p>{escape(wording.agreement(report))}.</p>"
    lines: list[Sequence[Cell]] = [
        (
            check.what,
            (f"{check.program:,}", "number"),
            (f"{check.seen:,}", "number"),
            ("agree", "good") if check.agrees else ("DIFFER", "bad"),
        )
        for check in report.agreement
    ]
    table = _table(["", ("program", "number"), ("log or topic", "number"), ""], lines)
    shown = "" if report.ok else ' open="open"'
    yield f"<details{shown}><summary>All of them</summary>{table}</details>"


def _memory(mib: float | None) -> str:
    return wording.NONE if mib is None else f"{mib:,.0f} MiB"


def _table(heads: Sequence[Cell], lines: Iterable[Sequence[Cell]]) -> str:
    head = f"<tr>{''.join(_cell('th', cell) for cell in heads)}</tr>" if heads else ""
    body = "".join(f"<tr>{''.join(_cell('td', cell) for cell in line)}</tr>" for line in lines)
    return f'<div class="table"><table>{head}{body}</table></div>'


def _cell(tag: str, cell: Cell) -> str:
    text, style = (cell, "") if isinstance(cell, str) else cell
    return f'<{tag} class="{style}">{escape(text)}</{tag}>' if style else f"<{tag}>{escape(text)}</{tag}>"
