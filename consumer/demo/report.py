"""The demo afterwards: what it made of the contacts, what it skipped, and whether everything held."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from consumer.demo.checks import Finding, events_by_outcome
from consumer.demo.run import LINGER, Stage
from consumer.sandbox import Contact
from consumer.sandbox.contacts import SCALARS, SESAMY_FIELDS

_REAL: Final = "100 a minute at Sesamy, an assumed 5 a second at Mailmojo"
_STATUS: Final = {"a": "on the list", "u": "unsubscribed", "b": "bounced", "d": "deleted"}
_WHY: Final = {
    "skipped_guest": "guest accounts of the checkout are not synced",
    "skipped_no_email": "a contact needs an address",
    "skipped_unknown_user": "Sesamy does not know the user (any more)",
    "skipped_vendor": "another vendor's event",
    "skipped_type": "an event type that is none of the eight",
    "skipped_tombstone": "a record without a value",
}
_NEXT: Final = (
    ("sesamy-mailmojo check", "with your settings: is everything there? It writes nothing"),
    ("sesamy-mailmojo run", "the service; `run --help` lists every setting"),
    ("sesamy-mailmojo sandbox", "the fakes alone, to run the service against"),
    ("README.md", "Install, The topic, First run, Scaling and its limits"),
)


def summary(stage: Stage, found: Sequence[Finding]) -> dict[str, Any]:
    """Return the result for machines."""
    log = stage.sandbox.log
    return {
        "ok": not any(one.wrong for one in found),
        "seconds": round(stage.took, 3),
        "broker": "mock",
        "users": len(stage.world.user_ids()),
        "events": len(stage.steps),
        "outcomes": dict(sorted(events_by_outcome(stage.metrics).items())),
        "syncs": dict(sorted(_syncs(stage).items())),
        "requests": {api: dict(sorted(calls.items())) for api, calls in _requests(stage).items()},
        "writes": len(log.writes()),
        "faults": dict(sorted(_faults(stage).items())),
        "dead_letters": [{**letter.headers, "bytes_kept": letter.bytes_kept} for letter in stage.letters],
        "checks": [{"claim": one.claim, "ok": not one.wrong, "wrong": one.wrong} for one in found],
        "log": str(stage.log_file),
    }


def report(stage: Stage, found: Sequence[Finding], console: Console) -> None:
    """Print the result for people."""
    _contacts(stage, console)
    _skipped(stage, console)
    _dead_letters(stage, console)
    _calls(stage, console)
    _verdict(stage, found, console)


def _contacts(stage: Stage, console: Console) -> None:
    table = _table("Some of the contacts", "contact", "before", "after", leading=1)
    for role in stage.roles:
        before, after = stage.before.get(role.address), stage.world.contact(role.address)
        table.add_row(
            f"[bold]{role.address}[/]\n[dim]{role.shows}[/]",
            _contact(before),
            _contact(after, before),
        )
    console.print(table)
    console.print("[dim]Of the 13 account fields a few are shown; the fakes' own version tags are left out.[/]\n")


def _contact(contact: Contact | None, before: Contact | None = None) -> str:
    """Return what is on the contact; with `before`, what came and what went is marked."""
    if contact is None:
        return "[dim]no contact[/]"
    lines = list(_lines(contact))
    if before is None:
        return "\n".join(lines)
    earlier = set(_lines(before))
    gone = [tag for tag in before.tags if tag not in contact.tags]
    gone += [f"{name}: {value}" for name, value in before.custom.items() if name not in contact.custom]
    return "\n".join(
        [
            *(f"  {one}" if one in earlier else f"[green]+ {one}[/]" for one in lines),
            *(f"[red]- {escape(one)}[/]" for one in gone),
        ]
    )


def _lines(contact: Contact) -> Iterator[str]:
    colour = "" if contact.status == "a" else "[yellow]"
    yield f"{colour}{_STATUS[contact.status]}{'[/]' if colour else ''}"
    for name in SCALARS:
        if value := getattr(contact, name):
            yield escape(f"{name.replace('_', ' ')}: {value}")
    for tag in contact.tags:
        if not tag.startswith("sesamy_tag_v-"):
            yield escape(tag)
    for key, value in contact.custom.items():
        if key not in SESAMY_FIELDS or key in _TELLING:
            yield f"{escape(key)}: {escape(str(value))}"


_TELLING: Final = ("Active Subscriptions", "Expired Subscriptions", "Next Payment Date", "Will Cancel At")


def _skipped(stage: Stage, console: Console) -> None:
    table = _table("Skipped on purpose", "events", "why", numbers=1)
    outcomes = events_by_outcome(stage.metrics)
    for outcome, why in _WHY.items():
        if outcomes[outcome]:
            table.add_row(str(outcomes[outcome]), why)
    console.print(table)


def _dead_letters(stage: Stage, console: Console) -> None:
    table = _table("In the dead-letter topic, whole, with headers that say why", "reason", "from", "error")
    for letter in sorted(stage.letters, key=lambda one: one.headers.get("reason", "")):
        told = letter.headers
        place = f"partition {told.get('partition')}, offset {told.get('offset')}"
        table.add_row(told.get("reason"), place, escape(told.get("error", "")))
    console.print(table)


def _calls(stage: Stage, console: Console) -> None:
    requests, syncs = _requests(stage), _syncs(stage)
    table = _table("Requests, as the fakes counted them", "API", "requests", "per sync", "of which", numbers=2)
    reached = syncs.total() - syncs["skipped"]
    for api, name in (("sesamy", "Sesamy"), ("mailmojo", "Mailmojo")):
        calls = requests[api]
        kinds = ", ".join(f"{operation} {count}" for operation, count in calls.most_common())
        table.add_row(name, str(calls.total()), f"{calls.total() / max(reached, 1):.1f}", kinds)
    console.print(table)
    faults = ", ".join(f"{what} ({count})" for what, count in sorted(_faults(stage).items())) or "none"
    console.print(
        f"[dim]{len(stage.steps)} events of {len(stage.world.user_ids())} users took {reached} syncs: what a user does "
        f"within {LINGER:g} s is answered at once.\nFaults met and made good: {faults}.\n"
        f"The demo's quotas are {stage.pace.sesamy_per_minute} a minute and {stage.pace.mailmojo_per_second} a second. "
        f"The real ones ({_REAL}) are the service's defaults.[/]"
    )


def _verdict(stage: Stage, found: Sequence[Finding], console: Console) -> None:
    console.print("\n[bold]Does it hold?[/] Looked at from the side of the fakes and of the broker:")
    for one in found:
        if one.wrong:
            console.print(f"  [red]✘ {one.claim}[/]: {escape(one.wrong)}")
        else:
            console.print(f"  [green]✔[/] {one.claim}")
    table = Table.grid(padding=(0, 2))
    for command, what in _NEXT:
        table.add_row(f"  [bold]{command}[/]", what)
    console.print(f"\n[bold]Go on with[/] [dim](this took {stage.took:.1f} s)[/]")
    console.print(table)
    console.print(f"  [dim]what the service logged: {stage.log_file}[/]", soft_wrap=True)


def _table(title: str, *columns: str, numbers: int = 0, leading: int = 0) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, leading=leading
    )
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if numbers and number == numbers - 1 else "left", overflow="fold")
    return table


def _syncs(stage: Stage) -> Counter[str]:
    samples = (sample for family in stage.metrics.syncs.collect() for sample in family.samples)
    return Counter(
        {sample.labels["outcome"]: int(sample.value) for sample in samples if sample.name.endswith("_total")}
    )


def _requests(stage: Stage) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {"sesamy": Counter(), "mailmojo": Counter()}
    for record in stage.sandbox.log.records:
        if record.api in found:
            found[record.api][record.operation] += 1
    return found


def _faults(stage: Stage) -> Counter[str]:
    names = {0: "connection cut after a write", 429: "429 too many requests", 503: "503"}
    return Counter(names[record.status] for record in stage.sandbox.log.records if record.status in names)
