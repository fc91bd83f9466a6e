"""The arguments of `sync`."""

import argparse

from schemas.events import LONGEST_USER_ID


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, and what `--help` says of the command."""
    parser.description = (
        "Asks the running service, through the topic, to sync these users, and waits until that is done."
    )
    parser.epilog = (
        "examples:\n"
        "  sesamy-mailmojo sync 'email|84cccf985de28a2a84824786'\n"
        "  sesamy-mailmojo sync --dry-run 'email|84cccf985de28a2a84824786'   # what would be written?\n\n"
        "For each user the result is created, updated, unchanged, skipped (with the reason: guest, no e-mail address,\n"
        "unknown to Sesamy, another vendor) or dead-lettered (with reason and error). It is unknown where the service\n"
        "finished the request and did not say how: another version, or an instance that stopped at that moment.\n"
        "Exits with 1 when a request was dead-lettered, was not done in time, or its result is unknown."
    )
    parser.add_argument("user_ids", nargs="+", metavar="USER_ID", type=_user_id)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--no-wait", action="store_true", help="only put the requests into the topic")
    how.add_argument("--direct", action="store_true", help="sync in this process; the service must be stopped")
    how.add_argument("--dry-run", action="store_true", help="read and print what would be written, write nothing")
    parser.add_argument("--timeout", type=_seconds, default=300.0, metavar="SECONDS", help="wait this long [300]")
    parser.add_argument("--json", action="store_true", help="one line of JSON per user")


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
