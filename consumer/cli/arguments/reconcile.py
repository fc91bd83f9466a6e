"""The arguments of `reconcile`."""

import argparse
from pathlib import Path

from consumer.cli import options

_EPILOG = """\
examples:
  sesamy-mailmojo reconcile --dry-run
  sesamy-mailmojo reconcile                       # shows what it found, and asks
  sesamy-mailmojo reconcile --expect 50           # unattended: clears 50 contacts at most, or none
  sesamy-mailmojo reconcile --contacts emails.txt

A contact is looked at if its Sesamy User ID is set, and cleared if Sesamy, asked for that user once more right before,
does not know the user or has another address. What goes are the tags that begin with sesamy_ and the 13 account
fields; everything else stays, and nobody is subscribed, unsubscribed or deleted. It needs no Kafka and may run beside
the service, with half of both quotas at most. Stopped or killed it can be run again: what is cleared is not found any
more. Where nearly everything looks wrong (more than half of our contacts), --yes is not enough: see --expect."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, and what `--help` says of the command."""
    parser.description = (
        "Finds contacts whose Sesamy user is gone or has another address, and clears our tags and fields\nthere."
    )
    parser.epilog = _EPILOG
    sure = parser.add_mutually_exclusive_group()
    sure.add_argument("--dry-run", action="store_true", help="only say what would be cleared; reads, writes nothing")
    sure.add_argument("--yes", action="store_true", help="do not ask")
    sure.add_argument(
        "--expect",
        type=options.count(0),
        metavar="N",
        help="do not ask, and clear nothing if it is more than N; more than half of our contacts only if it is N",
    )
    parser.add_argument(
        "--contacts", type=Path, metavar="FILE", help="look at the contacts with these addresses, one a line, instead"
    )
    parser.add_argument("--unmasked", action="store_true", help="show whole addresses")
    parser.add_argument("--json", action="store_true", help="the result as one line of JSON")
