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


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "demo",
        help="the whole thing on one machine, nothing to set up: broker, both APIs, events, contacts",
        description="Runs the real service against a mock broker and fakes of both APIs, all in this process and "
        "offline:\na backlog and a stream of events, some faults, and what became of the contacts. It ends by itself.",
        epilog="examples:\n  sesamy-mailmojo demo\n  sesamy-mailmojo demo --users 100 --json | python -m json.tool\n\n"
        "exits with 1 when the result is not what the service promises",
    )
    parser.add_argument("--users", type=_users, default=300, metavar="N", help="invented users (default: %(default)s)")
    parser.add_argument("--seed", type=_seed, default=1, metavar="N", help="same seed, same users, events and faults")
    parser.add_argument(
        "--seconds-at-most", type=_seconds, default=28.0, metavar="S", help="it gives up after these (default: 28)"
    )
    parser.add_argument("--json", action="store_true", help="print only the result, as one line of JSON")
    parser.set_defaults(handler=_handle)


def _handle(args: argparse.Namespace) -> int:
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


def _users(text: str) -> int:
    return _whole(text, 1, 5000)


def _seed(text: str) -> int:
    return _whole(text, 0, 1 << 31)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 15 <= seconds <= 600:
        raise argparse.ArgumentTypeError(f"it is a number of seconds from 15 to 600, not {text!r}")
    return seconds


def _whole(text: str, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"it is a whole number from {least} to {most}, not {text!r}")
    return number
