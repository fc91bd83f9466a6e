"""The arguments of `backfill`."""

import argparse
from pathlib import Path

from consumer.cli import options

_EPILOG = """\
examples:
  sesamy-mailmojo backfill --dry-run
  sesamy-mailmojo backfill --checkpoint backfill.json

Users are listed up to a thousand at a call, with half of SESAMY_REQUESTS_PER_MINUTE at most; the service, which does
the syncs at its own pace, takes events of users first. With --checkpoint a backfill that was stopped, or killed, goes
on where it was; the file is deleted when all users were asked for. Who begins or ceases to be a user meanwhile can
move the others in the list: a new user has an event, and the next backfill finds whoever was missed."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, and what `--help` says of the command."""
    parser.description = (
        "Asks the running service, through the topic, to sync every user whom Sesamy knows, but for\n"
        "guests and users without an e-mail address."
    )
    parser.epilog = _EPILOG
    parser.add_argument("--limit", type=options.count(), metavar="N", help="at most N requests in this run")
    parser.add_argument("--dry-run", action="store_true", help="count users by kind, ask for none")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="remember how far it came, and go on there")
    parser.add_argument(
        "--ahead",
        type=options.count(),
        metavar="N",
        help="records that may wait for the service, so that it sees new events (default: half of SYNC_MAX_PENDING)",
    )
    parser.add_argument("--json", action="store_true", help="the result as one line of JSON")
