"""The command line: one module per command, each with `register(subparsers)`, which sets `handler(args) -> int`."""

import argparse
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

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
    """Run one command and return its exit code: 0 done, 1 failed while running, 2 wrong usage or settings."""
    try:
        given = sys.argv[1:] if argv is None else list(argv)
        args = _parser(given).parse_args(given)
        code: int = args.handler(args)
        sys.stdout.flush()
    except SystemExit as done:  # argparse, after --help or a complaint about the usage
        return done.code if isinstance(done.code, int) else WRONG_USAGE
    except BrokenPipeError:  # somebody read the first lines only, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except (SettingsError, Failure, ExceptionGroup) as error:
        return _fail(error)
    return code


def _fail(error: Exception) -> int:
    expected = next((one for one in _leaves(error) if isinstance(one, SettingsError | Failure)), None)
    if expected is None:
        raise error
    output.complain(str(expected))
    return WRONG_USAGE if isinstance(expected, SettingsError) else FAILED


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
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
