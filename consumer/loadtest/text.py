"""The report for a terminal."""

from collections.abc import Iterable, Sequence

from consumer.loadtest import wording
from consumer.loadtest.comparison import differences, rows
from consumer.loadtest.report import Instance, Report


def render(report: Report, earlier: Report | None = None) -> str:
    """Return the report, beside an earlier one if there is one."""
    return "\n".join(_lines(report, earlier))


def _lines(report: Report, earlier: Report | None) -> Iterable[str]:
    yield wording.verdict(report)
    yield from (f"  - {failure}" for failure in report.failures)
    yield from (f"  Note: {note}" for note in report.notes)
    yield ""
    yield from _pairs(wording.load(report.load))
    yield ""
    if earlier:
        yield from _comparison(report, earlier)
    else:
        yield from _pairs([(row.name, wording.figure(row)) for row in rows(report, None)])
    yield ""
    yield from _pairs([(f"{count:,}", what) for what, count in wording.events(report)])
    yield ""
    lateness = report.throughput.lateness
    late = "flat out" if lateness is None else f"at most {lateness:.2f} s late"
    yield from _pairs(
        [
            ("replay", f"{report.throughput.replay_seconds:,.1f} s, {late}"),
            ("syncs", _syncs(report)),
            *(("per user", wording.per_user(one)) for one in report.per_user),
            *((f"quota of {use.api}", wording.quota(use)) for use in report.quotas),
            *((one.process.name, _instance(one)) for one in report.instances),
            *((one.name, wording.cores(one)) for one in report.others),
            ("agreement", wording.agreement(report)),
        ]
    )
    yield ""
    yield f"{report.date} · {wording.machine(report)}"


def _syncs(report: Report) -> str:
    syncs = report.syncs
    text = f"{syncs.written:,} wrote, {syncs.unchanged:,} found nothing to write, {syncs.skipped:,} skipped the user"
    return text + (f", {syncs.unfinished:,} unfinished" if syncs.unfinished else "")


def _instance(one: Instance) -> str:
    memory = "" if one.process.peak_rss_mib is None else f", {one.process.peak_rss_mib:.0f} MiB at the most"
    ended = f", exit code {one.exit_code}" if one.exit_code else ""
    counts = f"{one.events:,} events, {one.requests:,} requests, {one.rebalances} rebalances, {one.retries:,} retries"
    return f"{counts}; CPU {wording.cores(one.process)}{memory}{ended}"


def _comparison(report: Report, earlier: Report) -> Iterable[str]:
    yield wording.beside(earlier)
    table = [("", "now", "earlier", "ratio")] + [
        (row.name, wording.figure(row), wording.figure(row, earlier=True), wording.ratio(row))
        for row in rows(report, earlier)
    ]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    yield from (
        "  " + row[0].ljust(widths[0]) + "".join(f"  {cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))
        for row in table
    )
    yield ""
    if not earlier.ok:
        yield "The earlier one did not hold."
    if found := differences(report, earlier):
        yield "Not the same, so the ratios do not speak of the program alone:"
        yield from _pairs([(one.what, f"{one.now} (earlier {one.earlier})") for one in found])
    else:
        yield "Load and machine are the same."


def _pairs(pairs: Sequence[tuple[str, str]]) -> Iterable[str]:
    width = max((len(name) for name, _ in pairs), default=0)
    return (f"  {name:{width}}  {text}" for name, text in pairs)
