"""The command line: one module per command, each with `register(subparsers)`, which sets `handler(args) -> int`."""

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from consumer import signals
from consumer.cli import output
from consumer.failure import Failure
from consumer.settings import SettingsError

PROGRAM = "sesamy-mailmojo"
COMMANDS = (
    "run",
    "demo",
    "check",
    "sync",
    "backfill",
    "reconcile",
    "dead_letters",
    "replay",
    "load_test",
    "sandbox",
    "ingest",
)
"""Modules of this package, in the order of `--help`. They import what is heavy inside their handlers."""

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong usage or settings, 130 interrupted."""
    given = sys.argv[1:] if argv is None else list(argv)
    code = _run(given)
    try:
        output.flush()
    except Failure as failure:
        output.discard()
        failed = _fail(failure)
        return code or failed
    return code


def _run(given: Sequence[str]) -> int:
    try:
        args = _parser(given).parse_args(given)
        code: int = args.handler(args)
    except SystemExit as done:  # argparse, after --help or a complaint about the usage
        return done.code if isinstance(done.code, int) else WRONG_USAGE
    except KeyboardInterrupt:
        return signals.exit_code(list(given))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the exit code is one of ours
        return _fail(error)
    return code


def _fail(error: BaseException) -> int:
    expected = next((one for one in _leaves(error) if isinstance(one, SettingsError | Failure)), None)
    if expected is None:
        if any(isinstance(one, OSError) for one in _leaves(error)):
            try:  # code of others prints, too: was it that?
                output.flush()
            except Failure as failure:
                return _fail(failure)
        from consumer.cli import crash  # noqa: PLC0415 - seldom needed

        crash.tell(error)
        return FAILED
    if not isinstance(expected, output.NoReader):
        output.complain(str(expected))
    return WRONG_USAGE if isinstance(expected, SettingsError) else FAILED


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    # Where a command is named, the others' modules need not be loaded.
    asked = [module for module in COMMANDS if given[:1] == [module.replace("_", "-")]]
    parser = _Parser(
        prog=PROGRAM,
        description=metadata.metadata(PROGRAM)["Summary"],
        epilog=f"Try it with nothing set up: {PROGRAM} demo\nEach command explains itself: {PROGRAM} run --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {metadata.version(PROGRAM)}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for module in asked or COMMANDS:
        importlib.import_module(f"consumer.cli.{module}").register(subparsers)
    for command in subparsers.choices.values():
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        command.add_argument("--config", type=Path, metavar="FILE.toml", help="settings; the environment overrides it")
    return parser


class _Parser(argparse.ArgumentParser):
    """Complains about the usage in one line, as about everything else."""

    def error(self, message: str) -> NoReturn:
        output.complain(f"{message}; see {self.prog} --help")
        self.exit(WRONG_USAGE)
