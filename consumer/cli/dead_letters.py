"""`dead-letters`: inspect the dead-letter topic, and republish or dismiss records."""

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal, TypeAlias

from msgspec import Struct, structs, to_builtins

from consumer import files
from consumer.cli import output
from consumer.cli.dead_letters_resolving import dismiss_letters, retry_letters
from consumer.cli.loading import load_settings
from consumer.dead_letters import resolved
from consumer.dead_letters.retry import Times, letters
from consumer.dead_letters.stored import StoredLetter, Wanted, masked
from consumer.event_loop import run_loop
from consumer.masking import mask_addresses
from consumer.ops import logs
from consumer.replay.record import to_line
from consumer.settings import Settings, SettingsError

State: TypeAlias = Literal["open", "republished", "dismissed"]


class Listed(Struct, frozen=True, kw_only=True):
    """One dead letter, as `list --json` prints it."""

    place: str
    """`PARTITION:OFFSET` in the dead-letter topic."""
    state: State
    at: str
    reason: str
    error: str
    attempts: str
    retries: int
    """How often it was republished before it came back."""
    user_id: str | None
    topic: str
    partition: int | None
    offset: int | None
    truncated: bool


class Shown(Listed, frozen=True, kw_only=True):
    """One dead letter with its record, as `show --json` prints it."""

    key: str | None
    headers: dict[str, str | None]
    value: str | None


class Group(Struct, kw_only=True):
    """Dead letters with the same reason and error, as `summary --json` prints them."""

    reason: str
    error: str
    count: int = 0
    users: int = 0
    oldest: str = ""
    newest: str = ""


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    settings = load_settings(args, needs={"kafka"})
    logs.configure(structs.replace(settings.log, level="error"), libraries=False)
    wanted = Wanted(places=args.places or None, reasons=args.reason, users=args.user)
    times = Times(args.since, args.until)
    if args.action == "retry":
        return retry_letters(args, settings, wanted, times)
    if args.action == "dismiss":
        return dismiss_letters(args, settings, wanted, times)
    actions = {"list": _list, "summary": _summary, "show": _show, "export": _export}
    return actions[args.action](args, settings, wanted, times)


async def _each(
    settings: Settings, wanted: Wanted, times: Times, take: Callable[[StoredLetter, State], object], *, every: bool
) -> dict[State, int]:
    """Give the wanted letters that are open to `take`, or with `every` all; return how many have each state."""
    done = await resolved.load(settings)
    counts: dict[State, int] = {"open": 0, "republished": 0, "dismissed": 0}
    async for letter in letters(settings, times, report=output.complain):
        if not wanted.matches(letter):
            continue
        state: State = "open"
        if letter.place in done:
            state = "dismissed" if letter.place in done.dismissed else "republished"
        counts[state] += 1
        if every or state == "open":
            take(letter, state)
    return counts


def _list(args: argparse.Namespace, settings: Settings, wanted: Wanted, times: Times) -> int:
    def show(letter: StoredLetter, state: State) -> None:
        found = _listed(letter, state, unmasked=args.unmasked)
        if args.json:
            output.print_json(to_builtins(found))
            return
        retries = f", retried {letter.retries} times" if letter.retries else ""
        marks = [mark for mark, applies in (("value not kept", letter.truncated), (state, state != "open")) if applies]
        about = f"{found.user_id}  {letter.attempts} attempts{retries}  {found.error}"
        output.line(f"{found.place:8}  {letter.at}  {letter.reason:9}  {about}{''.join(f'  [{it}]' for it in marks)}")

    counts = run_loop(_each(settings, wanted, times, show, every=args.all))
    if not args.json:
        _tell_counts(counts, every=args.all)
    return 0


def _summary(args: argparse.Namespace, settings: Settings, wanted: Wanted, times: Times) -> int:
    groups: dict[tuple[str, str], Group] = {}
    users: dict[tuple[str, str], set[str | None]] = {}

    def count(letter: StoredLetter, _state: State) -> None:
        key = letter.reason, letter.error if args.unmasked else mask_addresses(letter.error)
        group = groups.setdefault(key, Group(reason=key[0], error=key[1]))
        users.setdefault(key, set()).add(letter.user_id)
        group.count += 1
        group.oldest = min(group.oldest or letter.at, letter.at)
        group.newest = max(group.newest, letter.at)

    counts = run_loop(_each(settings, wanted, times, count, every=args.all))
    for key, group in sorted(groups.items(), key=lambda item: (-item[1].count, item[0])):
        group.users = len(users[key])
        if args.json:
            output.print_json(to_builtins(group))
        else:
            span = group.oldest if group.oldest == group.newest else f"{group.oldest} to {group.newest}"
            output.line(f"{group.count:6}  {group.reason:9}  {group.users} users  {span}  {group.error}")
    if not args.json:
        _tell_counts(counts, every=args.all)
    return 0


def _tell_counts(counts: dict[State, int], *, every: bool) -> None:
    others = ", ".join(f"{state}: {count}" for state, count in counts.items() if count and state != "open")
    hint = "" if every or not others else " (--all shows them)"
    output.note(f"open dead letters: {counts['open']}{f'; {others}' if others else ''}{hint}")


def _listed(letter: StoredLetter, state: State, *, unmasked: bool) -> Listed:
    partition, offset = letter.place
    return Listed(
        place=f"{partition}:{offset}",
        state=state,
        at=letter.at,
        reason=letter.reason,
        error=letter.error if unmasked else mask_addresses(letter.error),
        attempts=letter.attempts,
        retries=letter.retries,
        user_id=letter.user_id if unmasked or letter.user_id is None else mask_addresses(letter.user_id),
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        truncated=letter.truncated,
    )


def _show(args: argparse.Namespace, settings: Settings, wanted: Wanted, times: Times) -> int:
    def show(letter: StoredLetter, state: State) -> None:
        record = letter.record if args.unmasked else masked(letter.record, settings.kafka.value_pointer or "")
        found = Shown(
            **structs.asdict(_listed(letter, state, unmasked=args.unmasked)),
            key=_text(record.key),
            headers={name: _text(value) for name, value in record.headers},
            value=_text(record.value),
        )
        if args.json:
            output.print_json(to_builtins(found))
            return
        about = structs.asdict(found)
        headers = about.pop("headers")
        for name, value in (*about.items(), *((f"header {name}", value) for name, value in headers.items())):
            output.line(f"{name:12}  {'-' if value is None else value}")
        output.line()

    given = sum(run_loop(_each(settings, wanted, times, show, every=True)).values())
    if given < len(set(args.places)):
        output.complain(f"{len(set(args.places)) - given} of these places hold no such letter; `list --all` shows all")
        return 1
    return 0


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="backslashreplace")


def _export(args: argparse.Namespace, settings: Settings, wanted: Wanted, times: Times) -> int:
    try:
        with files.create(args.to) if args.to else nullcontext() as file:
            put = file.write if file else output.write_bytes

            def write(letter: StoredLetter, _state: State) -> None:
                record = letter.record
                put(to_line(record if args.unmasked else masked(record, settings.kafka.value_pointer or "")))

            counts = run_loop(_each(settings, wanted, times, write, every=args.all))
    except FileExistsError:
        raise SettingsError(f"--to {args.to}: the file exists; choose another one") from None
    except OSError as error:
        if args.to is None:
            raise
        raise SettingsError(f"--to {args.to}: {error.strerror}") from error
    how = "" if args.unmasked else "; masked: their values are not the original ones (--unmasked)"
    output.note(f"{sum(counts.values()) if args.all else counts['open']} dead letters exported{how}")
    return 0
