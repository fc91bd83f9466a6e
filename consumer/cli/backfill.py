"""`backfill`: have the service sync every user whom Sesamy knows."""

import argparse
import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from consumer.cli import INTERRUPTED, options, output
from consumer.cli.interrupting import interruptible
from consumer.cli.loading import is_dry_run, load_settings
from consumer.cli.progress import duration, shown, time_left
from consumer.event_loop import run_loop
from consumer.failure import Failure
from consumer.settings import Settings

if TYPE_CHECKING:
    from consumer.backfill.run import Backfill, Steps

_SHARE: Final = 0.5
"""Part of Sesamy's quota that the listing may take: the service needs it for the syncs."""

_EPILOG = """\
examples:
  sesamy-mailmojo backfill --dry-run
  sesamy-mailmojo backfill --checkpoint backfill.json

Users are listed up to a thousand at a call, with half of SESAMY_REQUESTS_PER_MINUTE at most; the service, which does
the syncs at its own pace, takes events of users first. With --checkpoint a backfill that was stopped, or killed, goes
on where it was; the file is deleted when all users were asked for. Who begins or ceases to be a user meanwhile can
move the others in the list: a new user has an event, and the next backfill finds whoever was missed."""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "backfill",
        help="put a sync request into the topic for every user Sesamy knows",
        description="Asks the running service, through the topic, to sync every user whom Sesamy knows, but for\n"
        "guests and users without an e-mail address.",
        epilog=_EPILOG,
    )
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
    parser.set_defaults(handler=_handle)


def _handle(args: argparse.Namespace) -> int:
    args.dry_run = is_dry_run(args)
    settings = load_settings(args, needs={"sesamy"} if args.dry_run else {"kafka", "sesamy"})

    from msgspec import structs  # noqa: PLC0415 - heavy, and not needed to refuse wrong settings

    from consumer.ops import logs  # noqa: PLC0415

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


async def _backfill(args: argparse.Namespace, settings: Settings) -> "tuple[Backfill, bool]":
    from consumer.backfill import checkpoint  # noqa: PLC0415 - heavy, as what follows
    from consumer.backfill.pages import UserPages  # noqa: PLC0415
    from consumer.backfill.run import Backfill  # noqa: PLC0415
    from consumer.clients.build import open_clients  # noqa: PLC0415
    from consumer.clients.errors import ApiError  # noqa: PLC0415
    from consumer.masking import mask_addresses  # noqa: PLC0415
    from consumer.ops.metrics import Metrics  # noqa: PLC0415

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


async def _steps(args: argparse.Namespace, settings: Settings, stack: AsyncExitStack) -> "Steps":
    from consumer.backfill import checkpoint  # noqa: PLC0415 - heavy, as what follows
    from consumer.backfill.backlog import Backlog  # noqa: PLC0415
    from consumer.backfill.run import Steps  # noqa: PLC0415

    async def save(done: checkpoint.Checkpoint) -> None:
        if args.checkpoint and not args.dry_run:
            await asyncio.to_thread(checkpoint.save, args.checkpoint, done)

    if args.dry_run:

        async def nothing(_users: Sequence[str]) -> None:
            pass

        async def none_waiting() -> int:
            return 0

        return Steps(nothing, save, none_waiting)

    from consumer import kafka  # noqa: PLC0415
    from consumer.cli.requests import open_requester  # noqa: PLC0415

    admin = await stack.enter_async_context(kafka.admin(settings.kafka))
    partitions = (await kafka.count_partitions(admin, {settings.kafka.topic})).get(settings.kafka.topic)
    if partitions is None:
        raise Failure(kafka.missing_topics(settings.kafka, {settings.kafka.topic: "KAFKA_TOPIC"}))
    if not await kafka.group_members(admin, settings.group_id):
        output.complain(f"nobody is in group {settings.group_id}: the requests wait until the service runs")
    backlog = await stack.enter_async_context(Backlog(settings, admin, partitions))
    return Steps(await stack.enter_async_context(open_requester(settings)), save, backlog.count)


def _progress(backfill: "Backfill", settings: Settings, first: int, elapsed: float) -> str:
    from consumer.backfill.backlog import seconds_of_work  # noqa: PLC0415

    passed = backfill.offset - first
    of, left = "", ""
    if backfill.total:
        of = f" of {backfill.total:,}"
        left = f", {time_left(passed / max(1, backfill.total - first), elapsed)}"
    work = duration(seconds_of_work(settings, backfill.waiting))
    behind = f"; the service's work behind them: up to {work}" if backfill.requested else ""
    held = f"; waits for the service, which has {backfill.waiting:,} records before it" if backfill.held else ""
    return f"{backfill.offset:,}{of} users{left}{held or behind}"


def _told(backfill: "Backfill", args: argparse.Namespace, settings: Settings, *, ended: bool) -> str:
    from consumer.backfill.backlog import seconds_of_work  # noqa: PLC0415

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
