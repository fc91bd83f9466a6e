"""The demo while it runs: a live page on a terminal, plain lines elsewhere, nothing beside `--json`."""

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from msgspec import Struct
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from consumer.demo.checks import events_by_outcome
from consumer.demo.run import Running, Stage

Mode = Literal["live", "lines", "silent"]

_FRAME: Final = 0.125
_LINE: Final = 1.0
_WINDOW: Final = 2.0
"""Seconds between frames, between lines, and that a rate is taken over."""

_BAR: Final = 34
_DONE_WELL: Final = ("synced", "unchanged", "coalesced")


class Moment(Struct, frozen=True):
    """What there is to see at one moment."""

    elapsed: float
    planned: int
    stored: int
    outcomes: Mapping[str, int]
    per_second: float
    in_flight: int
    waiting: int
    lag: Mapping[str, int]
    """By partition; empty while the service is no member of the group."""
    calls: Mapping[str, float]
    """Requests a second, by API."""
    retries: int
    written: str
    """The last write, as the service logged it."""

    @property
    def done(self) -> int:
        """Events that are done, whatever they came to."""
        return sum(self.outcomes.values())

    @property
    def skipped(self) -> int:
        """Events skipped on purpose."""
        return sum(count for outcome, count in self.outcomes.items() if outcome.startswith("skipped_"))


class Watch:
    """Takes moments of a run."""

    def __init__(self, stage: Stage, running: Running) -> None:
        self._stage, self._running = stage, running
        self._past: deque[tuple[float, int, Counter[str]]] = deque()
        self._log_at = 0
        self._written = ""

    def look(self) -> Moment:
        """Return what there is to see now."""
        stage, service = self._stage, self._running.service
        now = asyncio.get_running_loop().time()
        outcomes = events_by_outcome(stage.metrics)
        calls = Counter({api: int(_total(stage, "api_requests_total", api=api)) for api in ("sesamy", "mailmojo")})
        self._past.append((now, outcomes.total(), calls))
        while now - self._past[0][0] > _WINDOW:
            self._past.popleft()
        then, done, earlier = self._past[0]
        span = max(now - then, 1e-3)
        status = service.overview.status()
        lag = {
            sample.labels["partition"]: int(sample.value)
            for family in stage.metrics.consumer_lag.collect()
            for sample in family.samples
        }
        return Moment(
            elapsed=now - stage.began,
            planned=self._running.feeder.planned,
            stored=self._running.feeder.sent,
            outcomes=outcomes,
            per_second=(outcomes.total() - done) / span,
            in_flight=status["users_in_flight"],
            waiting=status["events_pending"],
            lag=lag,
            calls={api: (count - earlier[api]) / span for api, count in calls.items()},
            retries=int(_total(stage, "retries_total")),
            written=self._last_write(),
        )

    def _last_write(self) -> str:
        with self._stage.log_file.open("rb") as log:
            log.seek(self._log_at)
            lines = log.read().split(b"\n")
            self._log_at = log.tell() - len(lines[-1])  # the last one may be half a line
        for line in reversed(lines[:-1]):
            if b'"contact.written"' in line:
                self._written = _said(json.loads(line))
                break
        return self._written


def _said(event: Mapping[str, Any]) -> str:
    tags = [f"+{tag}" for tag in event["tags_added"]] + [f"-{tag}" for tag in event["tags_removed"]]
    shown = ", ".join(tag for tag in tags if "_tag_v-" not in tag)
    counts = f"{_counted(event['events'], 'event')}, {_counted(len(event['fields']), 'field')}"
    return f"{event['action']} {event['user_id']}, {counts}" + (f", {shown}" if shown else "")


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _total(stage: Stage, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in stage.metrics.registry.collect()
        for sample in family.samples
        if sample.name == f"sesamy_mailmojo_{name}" and labels.items() <= sample.labels.items()
    )


async def show(stage: Stage, running: Running, console: Console, mode: Mode, until: Callable[[], bool]) -> None:
    """Show the run until it is over."""
    watch = Watch(stage, running)
    if mode == "live":
        with Live(console=console, auto_refresh=False) as live:
            while not until():
                live.update(page(stage, watch.look()), refresh=True)
                await asyncio.sleep(_FRAME)
            live.update(page(stage, watch.look()), refresh=True)
    elif mode == "lines":
        next_at = time.monotonic()
        while not until():
            if time.monotonic() >= next_at:
                next_at += _LINE
                console.print(line(watch.look()), soft_wrap=True)
            await asyncio.sleep(_FRAME)
        console.print(line(watch.look()), soft_wrap=True)


def line(moment: Moment) -> str:
    """Return a moment as one line."""
    outcomes = moment.outcomes
    return (
        f"{moment.elapsed:5.1f} s  stored {moment.stored}/{moment.planned}  done {moment.done}  "
        f"synced {outcomes.get('synced', 0)}  unchanged {outcomes.get('unchanged', 0)}  "
        f"coalesced {outcomes.get('coalesced', 0)}  skipped {moment.skipped}  "
        f"dead letters {outcomes.get('dead_lettered', 0)}  "
        + (f"lag {sum(moment.lag.values())}  users in flight {moment.in_flight}" if moment.lag else "joining the group")
    )


def page(stage: Stage, moment: Moment) -> Group:
    """Return a moment as a page."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", width=8, no_wrap=True)
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_row("stored", _bar(moment.stored, moment.planned), f"{moment.stored} of {moment.planned} events")
    speed = f"{moment.done} done" + (f", {moment.per_second:.0f}/s" if moment.per_second >= 1 else "")
    table.add_row("done", _bar(moment.done, moment.planned), speed)
    for api, name, limit in (
        ("sesamy", "Sesamy", stage.pace.sesamy_per_minute / 60),
        ("mailmojo", "Mailmojo", float(stage.pace.mailmojo_per_second)),
    ):
        used = moment.calls[api]
        table.add_row(name, _bar(used, limit, "magenta"), f"{used:.0f} of {limit:.0f} calls/s")
    facts = Table.grid(padding=(0, 2), expand=True)
    facts.add_column(style="dim", width=8, no_wrap=True)
    facts.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    facts.add_row("events", _counts(moment))
    if moment.lag:
        lag = "  ".join(f"{partition}: {count}" for partition, count in sorted(moment.lag.items()))
        work = f"{moment.in_flight} in flight, {moment.waiting} events waiting, {moment.retries} tried again"
    else:
        lag, work = "", "none yet: joining the consumer group (the mock takes 3 s for that)"
    facts.add_row("users", work)
    facts.add_row("lag", lag or "-")
    facts.add_row("wrote", moment.written or "-")
    title = Text.assemble(("the service at work", "bold"), (f"  {moment.elapsed:.1f} s", "dim"))
    return Group(title, table, facts, Text())


def _counts(moment: Moment) -> Text:
    parts: list[tuple[str, int, str]] = [(name, moment.outcomes.get(name, 0), "green") for name in _DONE_WELL]
    parts += [("skipped", moment.skipped, "yellow"), ("dead letters", moment.outcomes.get("dead_lettered", 0), "red")]
    text = Text()
    for name, count, colour in parts:
        text.append(f"{count} ", style=f"bold {colour}" if count else "dim")
        text.append(f"{name}   ", style="" if count else "dim")
    return text


def _bar(value: float, total: float, colour: str = "green") -> ProgressBar:
    return ProgressBar(
        total=max(total, 1), completed=min(value, total), width=_BAR, complete_style=colour, finished_style=colour
    )
