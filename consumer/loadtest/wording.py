"""Words and numbers that the reports for people have in common."""

from consumer.loadtest import environment
from consumer.loadtest.comparison import Row
from consumer.loadtest.plan import LoadPlan
from consumer.loadtest.report import PerUser, Process, QuotaUse, Report
from consumer.settings import Settings

LATENCY = (
    "Latency is measured from the moment at which an event was to be sent, however late it was, to the end of the "
    "answer in which Mailmojo first shows the user's state of that event, in a sync that began after it was sent. "
    "Events that waited together are done together; of somebody who is skipped, it ends with the read that says so."
)

NONE = "\N{EN DASH}"
"""Where there is no figure."""


def number(value: float | None) -> str:
    """Return a figure with three significant digits or more, or a dash."""
    if value is None:
        return NONE
    size = abs(value)
    if value == int(value) and size < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.3g}"


def figure(row: Row, *, earlier: bool = False) -> str:
    """Return a row's figure with its unit."""
    value = row.earlier if earlier else row.now
    return f"{number(value)} {row.unit}".rstrip() if value is not None else NONE


def ratio(row: Row) -> str:
    """Return how many times the earlier figure it is."""
    return NONE if row.ratio is None else f"x{row.ratio:.2f}"


def load(plan: LoadPlan) -> list[tuple[str, str]]:
    """Return what was asked for, line by line."""
    quotas = {api: f"{quota.rate:g}/s, burst {quota.burst:g}" for api, quota in plan.quotas().items()}
    what = plan.source or "invented" + (f", users by Zipf's law, exponent {plan.zipf:g}" if plan.zipf else "")
    first = ", all in the topic before the instances start" if plan.backlog else ""
    jitter = f", up to {plan.jitter:g} s more" if plan.jitter else ""
    return [
        ("events", f"{plan.events:,} of {plan.users:,} users, {what}; seed {plan.seed}"),
        ("pace", f"{plan.pace}{first}"),
        ("changes", f"the user changes before {plan.changes:.0%} of the events"),
        ("instances", f"{plan.instances}, {plan.partitions} partitions"),
        ("fakes", f"{plan.latency:g} s latency{jitter}"),
        ("quotas", "; ".join(f"{api} {text}" for api, text in quotas.items()) or "none"),
        ("settings", _settings(plan)),
        ("faults", f"{len(plan.faults)} rules" if plan.faults else "none"),
    ]


def _settings(plan: LoadPlan) -> str:
    usual = environment.syncing(Settings())
    own = [f"{name} {value}" for name, value in plan.settings.items() if value != usual.get(name)]
    return ", ".join(own) or "SYNC_… by default"


def machine(report: Report) -> str:
    """Return where it ran, in one line."""
    where = report.machine
    return (
        f"{where.cpu}, {where.cores} cores, {where.memory_gib} GiB · {where.system} · Python {where.python} · "
        f"sesamy-mailmojo {where.program} · load average before: {where.load_average:g}"
    )


def beside(earlier: Report) -> str:
    """Return which report is the earlier one."""
    return f"Beside the report of {earlier.date}, by sesamy-mailmojo {earlier.machine.program}"


def verdict(report: Report) -> str:
    """Return the result in one sentence."""
    events = report.events
    done = events.published - events.lost
    if report.ok:
        return f"It holds: {events.published:,} events, none lost, order and quotas kept, every count agrees."
    return f"It does NOT hold ({done:,} of {events.published:,} events done)."


def events(report: Report) -> list[tuple[str, int]]:
    """Return what became of the events."""
    found = report.events
    return [
        ("synced: the contact was brought to the state, or shows it already", found.synced),
        ("skipped after a read: guests, no address, unknown to Sesamy", found.skipped),
        ("skipped without a request: guests by id, tombstones, other types and vendors", found.unread),
        ("dead letters, and older events of the same user", found.dead_lettered),
        ("lost", found.lost),
    ]


def per_user(one: PerUser) -> str:
    """Return how many requests a user took."""
    found = one.requests
    return (
        f"{one.mean:g} requests to {one.api} on average, p50 {found.p50:g}, p99 {found.p99:g}, max {found.max:g}, "
        f"of {found.count:,} users"
    )


def quota(use: QuotaUse) -> str:
    """Return how far a quota was used."""
    beyond = (
        f"exceeds it by {use.excess:g} ({use.allowed:g} allowed for)"
        if use.excess > 0
        else f"stays {-use.excess:g} requests under it"
    )
    return f"{use.used:.1%} of {use.per_second:g}/s used; the worst window {beyond}; {use.refused:,} answers 429"


def agreement(report: Report) -> str:
    """Return in one line how many counts agree."""
    agreeing = sum(check.agrees for check in report.agreement)
    return f"{agreeing} of {len(report.agreement)} counts of the program agree with the sandbox's log and the topics"


def cores(process: Process) -> str:
    """Return a process's CPU."""
    if process.cpu_seconds is None:
        return "not known"
    return f"{process.cpu_seconds:,.1f} s" + ("" if process.cores is None else f" ({process.cores:.2f} cores)")
