"""`reconcile`: clear contacts whose Sesamy user is gone or has another address."""

import argparse
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from consumer.cli import output
from consumer.cli import reconcile_report as report
from consumer.cli.exit_codes import DONE, FAILED, INTERRUPTED
from consumer.cli.interrupting import interruptible
from consumer.cli.loading import is_dry_run, load_settings
from consumer.cli.progress import shown, wipe
from consumer.clients.build import Clients, open_clients
from consumer.clients.errors import ApiError
from consumer.clients.session import READ_TIMEOUT
from consumer.event_loop import run_loop
from consumer.failure import Failure
from consumer.masking import mask_addresses, mask_secrets
from consumer.ops import logs
from consumer.ops.metrics import Metrics
from consumer.reconcile.address_file import read_addresses
from consumer.reconcile.clearing import Cleared, Clearing, log_audit
from consumer.reconcile.search import Found, Search
from consumer.service import rules_of
from consumer.settings import Settings, SettingsError

_SHARE: Final = 0.5
"""Part of both quotas that this command takes at most: the service needs them for its syncs."""

_SHOWN: Final = 20
"""Contacts that are shown before the question whether to clear them."""


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    args.dry_run = is_dry_run(args)
    settings = load_settings(args, needs={"sesamy", "mailmojo"})
    if not (args.dry_run or args.yes or args.expect is not None or sys.stdin.isatty()):
        raise SettingsError(
            "reconcile asks before it clears contacts, and nobody is at the terminal: "
            "give --yes, --expect N or --dry-run"
        )

    mask = mask_secrets if args.unmasked else mask_addresses
    addresses = read_addresses(args.contacts) if args.contacts else None
    logs.configure(settings.log)
    search, ended = run_loop(_search(settings, addresses))
    found = search.found
    if not args.json:
        output.lines(report.found(found, ended=ended))
    for complaint in report.complaints(found):
        output.complain(mask(complaint))
    clearing = None
    if ended and found.suspects:
        if not args.dry_run:
            _make_sure(found, args, mask)
        clearing, ended = run_loop(_clear(settings, found, args, mask))
    if args.json:
        output.print_json(report.result(found, clearing, dry_run=args.dry_run, ended=ended))
    elif clearing:
        output.lines(report.cleared(clearing, len(found.suspects), dry_run=args.dry_run, ended=ended))
    if not ended:
        return INTERRUPTED
    return FAILED if found.failed or (clearing and (clearing.failed or clearing.tally.differing)) else DONE


async def _search(settings: Settings, addresses: Sequence[str] | None) -> tuple[Search, bool]:

    async with _clients(settings, lambda: "nothing was cleared") as clients:
        search = Search(clients.sesamy, clients.mailmojo, settings.sync, addresses=addresses)
        began = time.monotonic()
        async with shown(lambda: report.searching(search, time.monotonic() - began)):
            return search, await interruptible(search.run())


async def _clear(
    settings: Settings, found: Found, args: argparse.Namespace, mask: Callable[[str], str]
) -> tuple[Clearing, bool]:

    def tell(cleared: Cleared) -> None:
        wipe()
        if not args.dry_run:
            log_audit(cleared)
        elif not args.json:
            output.line(mask(report.preview(cleared)))

    async with _clients(settings, lambda: f"{clearing.tally.cleared} contacts are done; run it again") as clients:
        clearing = Clearing(
            clients.sesamy,
            clients.mailmojo,
            rules_of(settings),
            settings.sync,
            tell,
            known=found.known,
            dry_run=args.dry_run,
        )
        began, count = time.monotonic(), len(found.suspects)
        try:
            async with shown(lambda: report.working(clearing, count, time.monotonic() - began)):
                return clearing, await interruptible(clearing.run(found.suspects))
        finally:
            for suspect, error in clearing.failed:
                output.complain(mask(f"{suspect.address} {suspect.user_id}: {error}"))


@asynccontextmanager
async def _clients(settings: Settings, done: Callable[[], str]) -> AsyncIterator[Clients]:
    """Open the clients; an API that is of no use becomes one line, with what is `done`."""
    # No lease bounds a request here, and a page of a list may take longer than a contact.
    async with open_clients(settings, Metrics(), write_timeout=READ_TIMEOUT) as clients:
        clients.set_share(_SHARE)
        try:
            yield clients
        except ApiError as error:
            raise Failure(f"{mask_addresses(str(error))}; {done()}; `check` may say more") from error


def _make_sure(found: Found, args: argparse.Namespace, mask: Callable[[str], str]) -> None:
    """Let the operator confirm the count, or refuse. Raises `Failure`: nothing is cleared."""
    count = len(found.suspects)
    if args.expect is not None and count > args.expect:
        raise Failure(f"{count} contacts would be cleared, more than --expect {args.expect}; nothing was cleared")
    if args.yes or args.expect is not None:
        if found.alarm and args.expect != count:
            raise Failure(
                f"{count} contacts would be cleared: {found.alarm}. Wrong credentials, or another tenant? Nothing was "
                f"cleared; if it is right, --expect {count} clears them"
            )
        return
    for suspect in found.suspects[:_SHOWN]:
        output.line(mask(f"  {suspect.address}  {suspect.user_id}"))
    if count > _SHOWN:
        output.line(f"  and {count - _SHOWN} more (--dry-run shows all)")
    if found.alarm:
        output.complain(f"{found.alarm}: wrong credentials, or another tenant?")
    if not output.confirms(f"Type {count} to clear them: ", str(count)):
        raise Failure("nothing was cleared")
