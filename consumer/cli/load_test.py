"""`load-test`: a load, the service and the fakes in one run, and a report."""

import argparse
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from msgspec import structs

from consumer import files
from consumer.cli import output
from consumer.cli.exit_codes import INTERRUPTED
from consumer.cli.interrupting import interruptible
from consumer.cli.loading import load_settings
from consumer.cli.progress import shown
from consumer.cli.sandbox import rule
from consumer.event_loop import run_loop
from consumer.failure import Failure
from consumer.loadtest import environment, html, text
from consumer.loadtest import report as reports
from consumer.loadtest.figures import report as report_of
from consumer.loadtest.plan import LoadPlan
from consumer.loadtest.report import Report
from consumer.loadtest.stage import LoadTest
from consumer.ops import logs
from consumer.sandbox import Quota
from consumer.settings import Settings, SettingsError


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    settings = load_settings(args, needs={"kafka"})
    plan = _plan(args, settings)
    files = _files(args)

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


def _plan(args: argparse.Namespace, settings: Settings) -> LoadPlan:

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


def _files(args: argparse.Namespace) -> dict[Path, Callable[[Report, Report | None], bytes]]:
    """Return what is to be written where, after making sure that it can be: nobody wants to learn that in the end."""

    def figures(now: Report, _: Report | None) -> bytes:
        return reports.to_json(now)

    def page(now: Report, earlier: Report | None) -> bytes:
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


async def _run(args: argparse.Namespace, plan: LoadPlan, settings: Settings) -> Report | None:

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
