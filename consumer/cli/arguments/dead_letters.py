"""The arguments of `dead-letters`."""

import argparse
import re
from pathlib import Path

from consumer.cli import options

_EPILOG = """\
examples:
  sesamy-mailmojo dead-letters summary
  sesamy-mailmojo dead-letters list --reason rejected --since 2d
  sesamy-mailmojo dead-letters show 0:12
  sesamy-mailmojo dead-letters retry --user 'email|84cccf985de28a2a84824786' --dry-run
  sesamy-mailmojo dead-letters dismiss --reason malformed --until 2026-01-01
  sesamy-mailmojo dead-letters export --unmasked > letters.ndjson

A letter is named by its place in the dead-letter topic, PARTITION:OFFSET, as `list` shows it. Personal data are masked
unless --unmasked is given. Letters that were put back or dismissed are not listed any more, unless --all is given; a
dismissed one is never put back. The consumer groups <KAFKA_GROUP_ID>.dead-letters and .dead-letters.dismissed remember
that, for as long as the brokers keep their commits. A retry may be stopped, even killed, and given again: a letter and
the mark that it was put back are one transaction."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, and what `--help` says of the command."""
    parser.description = (
        "Shows the dead letters, puts them back into the topic of events, dismisses them, or writes them to a file."
    )
    parser.epilog = _EPILOG
    commands = parser.add_subparsers(metavar="list|summary|show|retry|dismiss|export", dest="action", required=True)
    listing = _add(commands, "list", "one line per letter")
    summary = _add(commands, "summary", "count the letters by reason and error")
    show = _add(commands, "show", "everything about these letters", places="+")
    retry = _add(commands, "retry", "put letters back into the topic of events, with key and headers")
    dismiss = _add(commands, "dismiss", "mark letters as resolved: they are not listed any more and never put back")
    export = _add(commands, "export", "write letters as NDJSON, which `replay` reads", json=False)
    for command in (listing, summary, show, export):
        command.add_argument("--unmasked", action="store_true", help="show addresses and whole values")
    for command in (listing, summary, export):
        command.add_argument("--all", action="store_true", help="also those that were put back or dismissed")
    export.add_argument("--to", type=Path, metavar="FILE.ndjson", help="a new file, instead of stdout")
    retry.add_argument("--again", action="store_true", help="also those that were put back before")
    retry.add_argument(
        "--max-retries",
        type=options.count(),
        default=3,
        metavar="N",
        help="leave out what was put back so often and came back each time (default: %(default)s)",
    )
    for command in (retry, dismiss):
        sure = command.add_mutually_exclusive_group()
        sure.add_argument("--dry-run", action="store_true", help="only say what would be done")
        sure.add_argument("--yes", action="store_true", help="do not ask")


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    meaning: str,
    *,
    places: str = "*",
    json: bool = True,
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=meaning,
        description=f"{meaning[0].upper()}{meaning[1:]}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("places", nargs=places, type=_place, metavar="PARTITION:OFFSET")
    command.add_argument(
        "--reason", action="append", choices=["malformed", "rejected", "exhausted"], help="of this reason; repeatable"
    )
    command.add_argument("--user", action="append", metavar="USER_ID", help="of this user; repeatable")
    command.add_argument("--since", type=options.instant, metavar="TIME", help="stored at or after (ISO 8601, or 2h)")
    command.add_argument("--until", type=options.instant, metavar="TIME", help="stored before")
    if json:
        command.add_argument("--json", action="store_true", help="lines of JSON")
    command.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE.toml", help="settings")
    return command


def _place(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"\d{1,9}:\d{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no place PARTITION:OFFSET, such as 0:12")
    partition, _, offset = text.partition(":")
    return int(partition), int(offset)
