"""`dead-letters`: look into the dead-letter topic, and put records back."""

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from msgspec import structs

from consumer import files
from consumer.cli import output
from consumer.cli.exit_codes import INTERRUPTED
from consumer.cli.interrupting import interruptible
from consumer.cli.loading import is_dry_run, load_settings
from consumer.cli.progress import shown
from consumer.dead_letters import retried, retry
from consumer.dead_letters.retry import Plan, PutBack, Times, letters
from consumer.dead_letters.stored import StoredLetter, Wanted, masked
from consumer.event_loop import run_loop
from consumer.masking import mask_addresses
from consumer.ops import logs
from consumer.replay.record import to_line
from consumer.settings import Settings, SettingsError


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    actions = {"list": _list, "show": _show, "retry": _retry, "export": _export}
    return actions[args.action](args)


def _settings(args: argparse.Namespace) -> Settings:
    settings = load_settings(args, needs={"kafka"})

    logs.configure(structs.replace(settings.log, level="error"), libraries=False)
    return settings


def _wanted(args: argparse.Namespace) -> tuple[Wanted, Times]:

    wanted = Wanted(places=args.places or None, reasons=args.reason, users=args.user)
    return wanted, Times(args.since, args.until)


async def _each(
    settings: Settings, args: argparse.Namespace, take: Callable[[StoredLetter, bool], object]
) -> tuple[int, int]:
    """Give the letters that are asked for to `take`; return how many there were, and how many were retried before."""
    wanted, times = _wanted(args)
    done = await retried.load(settings)
    given = before = 0
    async for letter in letters(settings, times, report=output.complain):
        if not wanted.matches(letter):
            continue
        was_retried = letter.place in done
        before += was_retried
        if args.all or not was_retried:
            given += 1
            take(letter, was_retried)
    return given, before


def _list(args: argparse.Namespace) -> int:
    settings = _settings(args)

    def show(letter: StoredLetter, was_retried: bool) -> None:  # noqa: FBT001 - the callback's shape
        found = _about(letter, was_retried=was_retried, unmasked=args.unmasked)
        if args.json:
            output.print_json(found)
            return
        retries = f", retried {letter.retries} times" if letter.retries else ""
        marks = "".join(
            f"  [{mark}]"
            for mark, applies in (("value not kept", letter.truncated), ("put back", was_retried))
            if applies
        )
        about = f"{found['user_id']}  {letter.attempts} attempts{retries}  {found['error']}{marks}"
        output.line(f"{found['place']:8}  {letter.at}  {letter.reason:9}  {about}")

    given, before = run_loop(_each(settings, args, show))
    if not args.json:
        others = f"; put back: {before}{'' if args.all else ' (--all shows them)'}" if before else ""
        still = given - before if args.all else given
        output.note(f"dead letters not put back: {still}{others}")
    return 0


def _about(letter: StoredLetter, *, was_retried: bool, unmasked: bool) -> dict[str, Any]:

    partition, offset = letter.place
    user_id = letter.user_id if unmasked or letter.user_id is None else mask_addresses(letter.user_id)
    return {
        "place": f"{partition}:{offset}",
        "at": letter.at,
        "reason": letter.reason,
        "error": letter.error if unmasked else mask_addresses(letter.error),
        "attempts": letter.attempts,
        "retries": letter.retries,
        "user_id": user_id,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "truncated": letter.truncated,
        "retried": was_retried,
    }


def _show(args: argparse.Namespace) -> int:
    settings = _settings(args)
    args.all = True

    def show(letter: StoredLetter, was_retried: bool) -> None:  # noqa: FBT001 - the callback's shape

        record = letter.record if args.unmasked else masked(letter.record, settings.kafka.value_pointer or "")
        about = _about(letter, was_retried=was_retried, unmasked=args.unmasked)
        about["key"] = _text(record.key)
        about["headers"] = {name: _text(value) for name, value in record.headers}
        about["value"] = _text(record.value)
        if args.json:
            output.print_json(about)
            return
        headers = about.pop("headers")
        for name, value in (*about.items(), *((f"header {name}", value) for name, value in headers.items())):
            output.line(f"{name:12}  {'-' if value is None else value}")
        output.line()

    given, _ = run_loop(_each(settings, args, show))
    if given < len(set(args.places)):
        output.complain(f"{len(set(args.places)) - given} of these places hold no such letter; `list --all` shows all")
        return 1
    return 0


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="backslashreplace")


def _export(args: argparse.Namespace) -> int:
    settings = _settings(args)

    try:
        with files.create(args.to) if args.to else nullcontext() as file:
            put = file.write if file else output.write_bytes

            def write(letter: StoredLetter, _was_retried: bool) -> None:  # noqa: FBT001 - the callback's shape
                record = letter.record
                put(to_line(record if args.unmasked else masked(record, settings.kafka.value_pointer or "")))

            given, _ = run_loop(_each(settings, args, write))
    except FileExistsError:
        raise SettingsError(f"--to {args.to}: the file exists; choose another one") from None
    except OSError as error:
        if args.to is None:
            raise
        raise SettingsError(f"--to {args.to}: {error.strerror}") from error
    how = "" if args.unmasked else "; masked: their values are not the original ones (--unmasked)"
    output.note(f"{given} dead letters exported{how}")
    return 0


def _retry(args: argparse.Namespace) -> int:
    args.dry_run = is_dry_run(args)
    settings = _settings(args)
    if not (args.yes or args.dry_run or sys.stdin.isatty()):
        raise SettingsError(
            "retry asks before it puts records back, and nobody is at the terminal: give --yes or --dry-run"
        )

    wanted, times = _wanted(args)
    options_of_plan = {"most_retries": args.max_retries, "again": args.again, "report": output.complain}
    plan = run_loop(retry.plan(settings, wanted, times, **options_of_plan))
    count = len(plan.chosen)
    if not args.json:
        _print_plan(plan, settings.kafka.topic, certain=args.yes and not args.dry_run)
    work, complete = retry.PutBack(settings, plan), True
    if count and not args.dry_run:
        if not args.yes and not output.confirms(f"Type {count} to put them back: ", str(count)):
            output.complain("nothing was put back")
            return 1
        complete = run_loop(_put_back(work))
    if args.json:
        found = {"chosen": count, "reasons": plan.reasons, "left_out": plan.left_out, "put_back": work.count}
        output.print_json(found | {"complete": complete})
    elif not args.dry_run:
        end = "" if complete else "stopped: "
        output.line(f"{end}{work.count} put back into {settings.kafka.topic}")
    return 0 if complete else INTERRUPTED


async def _put_back(work: PutBack) -> bool:
    async with shown(lambda: f"{work.count:,} put back"):
        return await interruptible(work.run())


def _print_plan(plan: Plan, topic: str, *, certain: bool) -> None:
    by_reason = ", ".join(f"{number} {reason or 'of no reason'}" for reason, number in sorted(plan.reasons.items()))
    would = "to be" if certain else "would be"
    output.line(f"{len(plan.chosen)} {would} put back into {topic}" + (f": {by_reason}" if by_reason else ""))
    for why, number in sorted(plan.left_out.items()):
        output.line(f"{number} left out: {why}")
