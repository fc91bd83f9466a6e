"""`backfill`: have the service sync every user whom Sesamy knows."""

import argparse
import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from msgspec import structs

from consumer import kafka
from consumer.backfill import checkpoint
from consumer.backfill.backlog import Backlog, seconds_of_work
from consumer.backfill.pages import UserPages
from consumer.backfill.run import Backfill, Steps
from consumer.cli import output
from consumer.cli.exit_codes import INTERRUPTED
from consumer.cli.interrupting import interruptible
from consumer.cli.loading import is_dry_run, load_settings
from consumer.cli.progress import duration, shown, time_left
from consumer.cli.requests import open_requester
from consumer.clients.build import open_clients
from consumer.clients.errors import ApiError
from consumer.event_loop import run_loop
from consumer.failure import Failure
from consumer.masking import mask_addresses
from consumer.ops import logs
from consumer.ops.metrics import Metrics
from consumer.settings import Settings

_SHARE: Final = 0.5
"""Part of Sesamy's quota that the listing may take: the service needs it for the syncs."""


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    args.dry_run = is_dry_run(args)
    settings = load_settings(args, needs={"sesamy"} if args.dry_run else {"kafka", "sesamy"})

    logs.configure(structs.replace(settings.log, level="error"), libraries=False)
    backfill, ended = run_loop(_backfill(args, settings))
    if backfill.complete and args.checkpoint and not args.dry_run:
        args.checkpoint.unlink(missing_ok=True)
    if args.json:
        output.print_json(
            {
                "users": backfill.offset,
                "requested": backfill.counts["requested"],
                "guests": backfill.counts["guest"],
                "without_email": backfill.counts["without_email"],
                "unusable": backfill.counts["unusable"],
                "complete": backfill.complete,
            }
        )
    else:
        output.lines(_told(backfill, args, settings, ended=ended))
    return 0 if ended else INTERRUPTED


async def _backfill(args: argparse.Namespace, settings: Settings) -> tuple[Backfill, bool]:

    resumes = args.checkpoint and not args.dry_run
    start = checkpoint.load(args.checkpoint, settings) if resumes else checkpoint.first(settings)
    async with AsyncExitStack() as stack:
        steps = await _steps(args, settings, stack)
        clients = await stack.enter_async_context(open_clients(settings, Metrics()))
        clients.set_share(_SHARE)
        backfill = Backfill(
            UserPages(clients.sesamy, settings.sync),
            steps,
            start,
            guest_prefixes=settings.sync.guest_prefixes,
            ahead=args.ahead or max(1, settings.sync.max_pending // 2),
            limit=args.limit,
        )
        began, first = time.monotonic(), start.offset
        try:
            async with shown(lambda: _progress(backfill, settings, first, time.monotonic() - began)):
                return backfill, await interruptible(backfill.run())
        except ApiError as error:
            way_out = "--checkpoint goes on there" if args.checkpoint else "with --checkpoint it could go on there"
            raise Failure(
                f"{mask_addresses(str(error))}; {backfill.offset} users are done, {way_out}; `check` may say more"
            ) from error


async def _steps(args: argparse.Namespace, settings: Settings, stack: AsyncExitStack) -> Steps:

    async def save(done: checkpoint.Checkpoint) -> None:
        if args.checkpoint and not args.dry_run:
            await asyncio.to_thread(checkpoint.save, args.checkpoint, done)

    if args.dry_run:

        async def nothing(_users: Sequence[str]) -> None:
            pass

        async def none_waiting() -> int:
            return 0

        return Steps(nothing, save, none_waiting)

    admin = await stack.enter_async_context(kafka.admin(settings.kafka))
    partitions = (await kafka.count_partitions(admin, {settings.kafka.topic})).get(settings.kafka.topic)
    if partitions is None:
        raise Failure(kafka.missing_topics(settings.kafka, {settings.kafka.topic: "KAFKA_TOPIC"}))
    if not await kafka.group_members(admin, settings.group_id):
        output.complain(f"nobody is in group {settings.group_id}: the requests wait until the service runs")
    backlog = await stack.enter_async_context(Backlog(settings, admin, partitions))
    return Steps(await stack.enter_async_context(open_requester(settings)), save, backlog.count)


def _progress(backfill: Backfill, settings: Settings, first: int, elapsed: float) -> str:

    passed = backfill.offset - first
    of, left = "", ""
    if backfill.total:
        of = f" of {backfill.total:,}"
        left = f", {time_left(passed / max(1, backfill.total - first), elapsed)}"
    work = duration(seconds_of_work(settings, backfill.waiting))
    behind = f"; the service's work behind them: up to {work}" if backfill.requested else ""
    held = f"; waits for the service, which has {backfill.waiting:,} records before it" if backfill.held else ""
    return f"{backfill.offset:,}{of} users{left}{held or behind}"


def _told(backfill: Backfill, args: argparse.Namespace, settings: Settings, *, ended: bool) -> str:

    counts = backfill.counts
    verb = "would be asked for" if args.dry_run else "asked for"
    text = (
        f"{backfill.offset:,} users: {counts['requested']:,} {verb}, {counts['guest']:,} guests, "
        f"{counts['without_email']:,} without e-mail"
    )
    if counts["unusable"]:
        text += f", {counts['unusable']:,} without a usable id"
    requested = counts["requested"] if args.dry_run else backfill.requested
    text += f"\nthe service's work for them: up to {duration(seconds_of_work(settings, requested))} at the quotas"
    if not backfill.complete:
        why = "the limit is reached" if ended else "stopped"
        go_on = (
            "the same command goes on there" if args.checkpoint and not args.dry_run else "no --checkpoint was given"
        )
        text += f"\n{why}: there are more users; {go_on}"
    return text
