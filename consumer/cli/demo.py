"""`demo`: the whole thing on one machine, with nothing to set up."""

import argparse
import importlib.util
import sys
from typing import TYPE_CHECKING

from consumer.cli import output
from consumer.event_loop import run_loop
from consumer.failure import Failure
from consumer.settings import SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from consumer.demo.display import Mode
    from consumer.demo.run import Running, Stage

_WIDTH = 100
"""Columns where there is no terminal to ask."""


def execute(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    if args.config is not None:
        raise SettingsError("--config: the demo brings its own settings; leave it out, or use `sesamy-mailmojo run`")
    if importlib.util.find_spec("rich") is None:
        raise Failure("the demo needs more packages: pip install 'sesamy-mailmojo[demo]'")
    output.require()
    return run_loop(_demo(args))


async def _demo(args: argparse.Namespace) -> int:
    from rich.console import Console  # noqa: PLC0415 - an extra

    from consumer.demo import checks, display, report, run  # noqa: PLC0415 - heavy

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    mode: Mode = "silent" if args.json else "live" if console.is_terminal else "lines"
    stage = run.Stage(args.users, args.seed, args.seconds_at_most)
    async with run.run(stage) as running:
        if mode != "silent":
            _introduce(console, stage, running)
        await display.show(stage, running, console, mode, until=lambda: running.is_over)
    found = checks.findings(stage, running)
    result = report.summary(stage, found)
    if args.json:
        output.print_json(result)
    else:
        report.report(stage, found, console)
    if not result["ok"]:
        wrong = next(one for one in found if one.wrong)
        raise Failure(f"the demo's result does not hold: {wrong.claim}: {wrong.wrong}")
    return 0


def _introduce(console: "Console", stage: "Stage", running: "Running") -> None:
    admin = f"http://127.0.0.1:{running.service.admin_port}"
    from consumer.sandbox.broker import ABOUT  # noqa: PLC0415 - heavy

    console.print("[bold]sesamy-mailmojo demo[/]: the real service, in miniature\n")
    for name, what in (
        ("broker", f"{running.settings.kafka.bootstrap_servers}, {ABOUT}"),
        ("Sesamy", f"{stage.sandbox.sesamy_url}, a fake with {len(stage.world.user_ids())} users"),
        ("Mailmojo", f"{stage.sandbox.mailmojo_url}, a fake with {len(stage.before)} contacts"),
        ("admin", f"{admin}  a page to open in a browser, while this runs; also /status /metrics /readyz"),
    ):
        console.print(f"  [dim]{name:9}[/] {what}", soft_wrap=True)
    console.print(
        "  [dim]The fakes are written from public references; neither was compared with the live service.[/]\n"
    )
