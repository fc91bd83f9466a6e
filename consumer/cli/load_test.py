"""`load-test`: a load, the service and the fakes in one run, and a report."""

import argparse
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from consumer import files
from consumer.cli import INTERRUPTED, options, output
from consumer.cli.interrupting import interruptible
from consumer.cli.loading import load_settings
from consumer.cli.progress import shown
from consumer.event_loop import run_loop
from consumer.failure import Failure
from consumer.settings import Settings, SettingsError

if TYPE_CHECKING:
    from consumer.loadtest.plan import LoadPlan
    from consumer.loadtest.report import Report

_DESCRIPTION = """\
Replays events into a topic of its own, lets N instances of the service work them off against the fakes of both APIs,
and reports throughput, latency, lag, quota use, memory and CPU, and whether anything was lost or out of order.

It uses the Kafka of the settings, and is the one command that makes topics there: two with names of their own
(load-test-…), and a group, removed at the end. No other topic is written to, and no real API is called: the instances
get the fakes' addresses and credentials whatever the settings say, and the settings of SYNC_… as they are."""

_EPILOG = """\
examples:
  sesamy-mailmojo load-test --events 20000 --users 5000 --rate 500 --report before
  sesamy-mailmojo load-test --from topic:sesamy.events --speed 10 --sesamy-per-minute 100 --mailmojo-per-second 5
  sesamy-mailmojo load-test --from recording.ndjson --max --instances 3 --compare before/report.json

Every user that occurs in recorded events is known to the fakes, with an invented profile. How to record, and what the
figures mean: docs/load-testing.md. Faults (--fault) are those of `sandbox --help`; their windows begin with the load.

exits with 1 when events were lost, order or a quota broken, an instance ended, counts disagree, or not done in time"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "load-test",
        help="a load, instances of the service and the fakes in one run, and a report",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    share, seconds = options.between(0, 1), options.between(0, 3600)
    what = parser.add_argument_group("events")
    what.add_argument("--from", dest="source", metavar="topic:NAME|FILE.ndjson", help="recorded ones; else invented")
    what.add_argument(
        "--events", type=options.count(), metavar="N", help="how many (default: 10000; of a recording, all)"
    )
    what.add_argument("--users", type=options.count(), metavar="M", help="of how many users, invented (default: 1000)")
    what.add_argument(
        "--zipf",
        type=options.positive,
        nargs="?",
        const=1.0,
        metavar="EXPONENT",
        help="few users get most of the invented events (exponent: 1)",
    )
    what.add_argument("--ordinary", action="store_true", help="no invented guests, nobody without an address")
    what.add_argument("--seed", type=options.count(0), default=1, metavar="N", help="same seed, same events and users")
    what.add_argument(
        "--changes",
        type=share,
        default=1.0,
        metavar="SHARE",
        help="of the events before which the user really changes, so that there is something to write (default: 1)",
    )
    pace = parser.add_argument_group("pace").add_mutually_exclusive_group()
    pace.add_argument("--rate", type=options.positive, metavar="N", help="events a second (default, invented: 200)")
    pace.add_argument(
        "--speed", type=options.positive, metavar="X", help="so many times as fast as recorded (default, recorded: 1)"
    )
    pace.add_argument("--max", action="store_true", help="as fast as it goes")
    stage = parser.add_argument_group("what works on them")
    stage.add_argument("--instances", type=options.count(most=100), default=3, metavar="N", help="default: 3")
    stage.add_argument("--partitions", type=options.count(most=1000), default=12, metavar="N", help="default: 12")
    stage.add_argument("--backlog", action="store_true", help="start the instances when all is in the topic")
    fakes = parser.add_argument_group("fakes")
    fakes.add_argument("--latency", type=seconds, default=0.05, metavar="SECONDS", help="of answers (default: 0.05)")
    fakes.add_argument("--jitter", type=seconds, default=0.0, metavar="SECONDS", help="up to so much more")
    fakes.add_argument(
        "--sesamy-per-minute", type=options.positive, metavar="N", help="quota, SESAMY_BURST at once (default: none)"
    )
    fakes.add_argument(
        "--mailmojo-per-second",
        type=options.positive,
        metavar="N",
        help="quota, MAILMOJO_BURST at once (default: none)",
    )
    fakes.add_argument("--fault", action="append", default=[], metavar="KEY=VALUE,…", help="repeatable")
    result = parser.add_argument_group("result")
    result.add_argument("--report", type=Path, metavar="DIR", help="write report.html and report.json there")
    result.add_argument("--html", type=Path, metavar="FILE", help="write the page there")
    result.add_argument("--json-file", type=Path, metavar="FILE", help="write the figures there")
    result.add_argument("--compare", type=Path, metavar="EARLIER.json", help="show an earlier report beside")
    result.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    result.add_argument(
        "--within",
        type=options.positive,
        default=300.0,
        metavar="SECONDS",
        help="all is done so long after the last event was sent, or it fails (default: 300)",
    )
    result.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave topics and group in Kafka, and logs and requests in DIR"
    )
    parser.set_defaults(handler=_handle)


def _handle(args: argparse.Namespace) -> int:
    settings = load_settings(args, needs={"kafka"})
    plan = _plan(args, settings)
    files = _files(args)

    from msgspec import structs  # noqa: PLC0415 - heavy, and not needed to refuse wrong settings

    from consumer.loadtest import report as reports  # noqa: PLC0415
    from consumer.loadtest import text  # noqa: PLC0415
    from consumer.ops import logs  # noqa: PLC0415

    earlier = reports.read(args.compare) if args.compare else None
    logs.configure(structs.replace(settings.log, level="error"))
    report = run_loop(_run(args, plan, settings))
    if report is None:
        return INTERRUPTED
    if args.json:
        output.print_json(reports.builtins(report))
    else:
        output.lines(text.render(report, earlier))
    for path, render in files.items():  # after the print: a disk that is full by now must not take the figures, too
        _write(path, render(report, earlier))
    return 0 if report.ok else 1


def _plan(args: argparse.Namespace, settings: Settings) -> "LoadPlan":
    from consumer.cli.sandbox import rule  # noqa: PLC0415 - heavy, as what follows
    from consumer.loadtest import environment  # noqa: PLC0415
    from consumer.loadtest.plan import LoadPlan  # noqa: PLC0415
    from consumer.sandbox import Quota  # noqa: PLC0415

    recorded = args.source is not None
    if recorded:
        for option, given in (("--users", args.users), ("--zipf", args.zipf), ("--ordinary", args.ordinary)):
            if given:
                raise SettingsError(f"{option} is for invented events; --from brings users of its own")
        _require_recording(args.source)
    elif args.speed:
        raise SettingsError("--speed is for recorded events (--from); use --rate")
    paced = args.rate or args.max
    return LoadPlan(
        source=args.source,
        events=args.events or (0 if recorded else 10_000),
        users=0 if recorded else args.users or 1000,
        zipf=args.zipf,
        ordinary=args.ordinary,
        seed=args.seed,
        changes=args.changes,
        rate=args.rate or (None if recorded or paced else 200.0),
        speed=args.speed or (1.0 if recorded and not paced else None),
        instances=args.instances,
        partitions=args.partitions,
        backlog=args.backlog,
        latency=args.latency,
        jitter=args.jitter,
        sesamy=args.sesamy_per_minute and Quota(args.sesamy_per_minute / 60, settings.sesamy.burst),
        mailmojo=args.mailmojo_per_second and Quota(args.mailmojo_per_second, settings.mailmojo.burst),
        settings=environment.syncing(settings),
        faults=tuple(rule(text) for text in args.fault),
        within=args.within,
    )


def _require_recording(source: str) -> None:
    if not source.removeprefix("topic:"):
        raise SettingsError("--from: neither topic:NAME nor a file")
    if not source.startswith("topic:"):
        try:
            is_file = Path(source).is_file()
        except OSError as error:
            raise SettingsError(f"--from {source}: {error.strerror}") from None
        if not is_file:
            raise SettingsError(f"--from {source}: there is no such file")
        if not os.access(source, os.R_OK):
            raise SettingsError(f"--from {source}: it may not be read")


def _files(args: argparse.Namespace) -> "dict[Path, Callable[[Report, Report | None], bytes]]":
    """Return what is to be written where, after making sure that it can be: nobody wants to learn that in the end."""
    from consumer.loadtest import html, report  # noqa: PLC0415 - heavy

    def figures(now: "Report", _: "Report | None") -> bytes:
        return report.to_json(now)

    def page(now: "Report", earlier: "Report | None") -> bytes:
        return html.render(now, earlier).encode()

    files: dict[Path, Callable[[Report, Report | None], bytes]] = {}
    for option, folder in (("--report", args.report), ("--keep", args.keep)):
        if folder is not None:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if option == "--keep" and any(folder.iterdir()):
                    raise SettingsError(f"--keep {folder}: it is not empty, and logs of two load tests must not mix")
            except OSError as error:
                raise SettingsError(f"{option} {folder}: {error.strerror}") from None
    if args.report:
        files = {args.report / "report.html": page, args.report / "report.json": figures}
    files |= {args.html: page} if args.html else {}
    files |= {args.json_file: figures} if args.json_file else {}
    for path in (*files, *([args.keep / "requests.ndjson"] if args.keep else [])):
        if not _is_writable(path):
            raise SettingsError(
                f"{path}: cannot be written; it must be a file, no symbolic link, in a folder that may be used"
            )
    return files


def _is_writable(path: Path) -> bool:
    """Return whether the file can be written, by making and removing it where it is not there."""
    try:
        files.check_replaceable(path)
        if path.exists():
            return not path.is_dir() and os.access(path, os.W_OK)
        files.create(path).close()
        path.unlink()
    except OSError:
        return False
    return True


def _write(path: Path, content: bytes) -> None:
    try:
        files.replace(path, content)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}") from error


async def _run(args: argparse.Namespace, plan: "LoadPlan", settings: Settings) -> "Report | None":
    from consumer.loadtest.figures import report as report_of  # noqa: PLC0415 - heavy
    from consumer.loadtest.stage import LoadTest  # noqa: PLC0415

    report: Report | None = None
    # Logs name users: the folder is this user's alone, and goes in the end.
    folders: AbstractContextManager[str | Path]
    folders = nullcontext(args.keep) if args.keep else tempfile.TemporaryDirectory(prefix="load-test-")
    with folders as folder:
        test = LoadTest(plan, settings, Path(folder), keep=args.keep is not None)

        async def work() -> None:
            nonlocal report
            report = report_of(await test.run())

        try:
            async with shown(lambda: test.progress):
                finished = await interruptible(work())
        finally:
            if test.kept:
                output.note(f"kept: {test.kept}")
    return report if finished else None
