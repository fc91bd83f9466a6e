"""`sync`: bring some users up to date now."""

import argparse
from collections.abc import Sequence
from typing import Final

from msgspec import Struct, to_builtins

from consumer.cli import output
from consumer.cli.loading import is_dry_run, load_settings
from consumer.event_loop import run_loop
from consumer.failure import Failure
from consumer.settings import Settings
from schemas.events import LONGEST_USER_ID

_REASONS: Final = {
    "guest": "guest",
    "no_email": "no e-mail address",
    "unknown_user": "unknown to Sesamy",
    "vendor": "another vendor",
    "type": "unknown event type",
    "not_a_contact": "not a contact, and MAILMOJO_CREATE_CONTACTS is false",
}
"""Why a user is skipped: what follows `skipped_` in the outcome, and how people read it."""

_BAD: Final = frozenset({"dead_lettered", "failed", "waiting", "unknown"})


class Result(Struct, frozen=True, omit_defaults=True):
    """What became of one user."""

    user_id: str
    status: str
    """`created`, `updated`, `unchanged`, `skipped`, `dead_lettered`; `failed` with --direct and --dry-run; `requested`
    with --no-wait; `waiting` when it was not done in time; `unknown` when it is done and the service did not say how;
    `would_be_created`, `would_be_updated` with --dry-run."""
    reason: str = ""
    """Of a skipped user, as in `skipped_no_email`: `no_email`; of a dead letter: its reason."""
    detail: str = ""
    fields: tuple[str, ...] = ()
    tags_added: tuple[str, ...] = ()
    tags_removed: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The result for people to read."""
        told = [self.user_id, self.status.replace("_", "-" if self.status == "dead_lettered" else " ")]
        if self.reason:
            told.append(_REASONS.get(self.reason, self.reason))
        parts = [": ".join(told)]
        for name, values in (
            ("fields", self.fields),
            ("tags added", self.tags_added),
            ("tags removed", self.tags_removed),
        ):
            if values:
                parts.append(f"{name}: {', '.join(values)}")
        if self.detail:
            parts.append(self.detail)
        return "; ".join(parts)


def outcome_of(outcome: str) -> tuple[str, str]:
    """Return the `status` and the `reason` of a result whose sync came to this outcome."""
    return ("skipped", outcome.removeprefix("skipped_")) if outcome.startswith("skipped_") else (outcome, "")


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "sync",
        help="sync some users now, through the running service or in this process",
        description="Asks the running service, through the topic, to sync these users, and waits until that is done.",
        epilog="examples:\n"
        "  sesamy-mailmojo sync 'email|84cccf985de28a2a84824786'\n"
        "  sesamy-mailmojo sync --dry-run 'email|84cccf985de28a2a84824786'   # what would be written?\n\n"
        "For each user the result is created, updated, unchanged, skipped (with the reason: guest, no e-mail address,\n"
        "unknown to Sesamy, another vendor) or dead-lettered (with reason and error). It is unknown where the service\n"
        "finished the request and did not say how: another version, or an instance that stopped at that moment.\n"
        "Exits with 1 when a request was dead-lettered, was not done in time, or its result is unknown.",
    )
    parser.add_argument("user_ids", nargs="+", metavar="USER_ID", type=_user_id)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--no-wait", action="store_true", help="only put the requests into the topic")
    how.add_argument("--direct", action="store_true", help="sync in this process; the service must be stopped")
    how.add_argument("--dry-run", action="store_true", help="read and print what would be written, write nothing")
    parser.add_argument("--timeout", type=_seconds, default=300.0, metavar="SECONDS", help="wait this long [300]")
    parser.add_argument("--json", action="store_true", help="one line of JSON per user")
    parser.set_defaults(handler=_handle)


def _user_id(text: str) -> str:
    if text in {"", ".", ".."} or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text[:80]!r} cannot be a user id")
    if len(text) > LONGEST_USER_ID:
        raise argparse.ArgumentTypeError(f"a user id has at most {LONGEST_USER_ID} characters, not {len(text)}")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _handle(args: argparse.Namespace) -> int:
    args.dry_run = is_dry_run(args)
    in_process = args.direct or args.dry_run
    settings = load_settings(args, needs={"kafka", "sesamy", "mailmojo"} if in_process else {"kafka"})

    from consumer.ops import logs  # noqa: PLC0415 - heavy, and not needed to refuse wrong settings

    logs.configure(settings.log)
    user_ids = list(dict.fromkeys(args.user_ids))
    if in_process:
        from consumer.cli.in_process import sync_here  # noqa: PLC0415

        results = run_loop(sync_here(settings, user_ids, dry_run=args.dry_run))
    else:
        results = run_loop(_through_topic(settings, user_ids, None if args.no_wait else args.timeout))
    for result in results:
        if args.json:
            output.print_json(to_builtins(result))
        else:
            output.line(result.line)
    return 1 if any(result.status in _BAD for result in results) else 0


async def _through_topic(settings: Settings, user_ids: Sequence[str], timeout: float | None) -> list[Result]:  # noqa: ASYNC109 - the option
    from consumer import kafka  # noqa: PLC0415 - heavy
    from consumer.cli import requests  # noqa: PLC0415

    topic, letters = settings.kafka.topic, settings.kafka.dead_letter_topic
    async with kafka.admin(settings.kafka) as client:
        partitions = await kafka.count_partitions(client, {topic, letters})
        members = await kafka.group_members(client, settings.group_id)
    wanted = {topic: "KAFKA_TOPIC", letters: "KAFKA_DEAD_LETTER_TOPIC"}
    if missing := {name: setting for name, setting in wanted.items() if name not in partitions}:
        raise Failure(kafka.missing_topics(settings.kafka, missing))
    if not members:
        output.complain(f"nobody is in group {settings.group_id}: the requests wait until the service runs")

    if timeout is None:
        stored = await requests.put(settings, user_ids)
        return [Result(request.user_id, "requested") for request in stored]
    async with requests.DeadLetterWatch(settings.kafka, partitions[letters]) as watch:
        stored = await requests.put(settings, user_ids, report=True)
        done = await requests.wait(settings, stored, timeout)
        failed = await watch.find(stored)
    results = []
    for request in stored:
        outcome = done.get(request)
        if letter := failed.get(request):
            result = Result(request.user_id, "dead_lettered", letter.reason, letter.error)
        elif request not in done:
            place = f"partition {request.partition}, offset {request.offset}"
            result = Result(request.user_id, "waiting", detail=f"not done after {timeout:g} s ({place})")
        elif outcome is None:
            result = Result(request.user_id, "unknown", detail="done, but the service did not say how")
        else:
            result = Result(request.user_id, *outcome_of(outcome))
        results.append(result)
    return results
