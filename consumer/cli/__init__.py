"""The command line: finds the command, parses its arguments, runs it, and turns every error into an exit code."""

import argparse
import difflib
import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from consumer import signals
from consumer.cli import output
from consumer.cli.commands import BY_NAME, COMMANDS, Command
from consumer.cli.exit_codes import FAILED, WRONG_USAGE
from consumer.failure import Failure, SettingsError

PROGRAM = "sesamy-mailmojo"


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
        args = parse(_spelled_out(given))
        # Only now is anything slow imported.
        code: int = importlib.import_module(f"consumer.cli.{BY_NAME[args.command].module}").execute(args)
    except SystemExit as done:  # argparse, after --help or a complaint about the usage
        return done.code if isinstance(done.code, int) else WRONG_USAGE
    except KeyboardInterrupt:
        return signals.exit_code(list(given))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the exit code is one of ours
        return _fail(error)
    return code


def parse(given: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments; `command` is the command's name.

    Raises:
        SystemExit: they ask for help or the version, or are wrong. What is to be said of that is printed.
    """
    return _parser(BY_NAME.get(given[0]) if given else None).parse_args(given)


def _spelled_out(given: Sequence[str]) -> list[str]:
    """Return `help [COMMAND]` and `version` as the options that they stand for."""
    match given:
        case ["help", command, *_] if not command.startswith("-"):
            return [command, "--help"]
        case ["help", *_]:
            return ["--help"]
        case ["version"]:
            return ["--version"]
        case _:
            return list(given)


def _fail(error: BaseException) -> int:
    expected = next((one for one in _leaves(error) if isinstance(one, SettingsError | Failure)), None)
    if expected is None:
        if any(isinstance(one, OSError) for one in _leaves(error)):
            try:  # code of others prints, too: was it that?
                output.flush()
            except Failure as failure:
                return _fail(failure)
        from consumer.cli import crash  # noqa: PLC0415 - only after a mistake of the program

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


def _parser(command: Command | None) -> argparse.ArgumentParser:
    """Return the parser of the command line; the arguments of other commands are not loaded."""
    parser = _Parser(
        prog=PROGRAM,
        description=metadata.metadata(PROGRAM)["Summary"],
        epilog=f"Try it with nothing set up: {PROGRAM} demo\nEach command explains itself: {PROGRAM} run --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=f"{PROGRAM} {metadata.version(PROGRAM)}")
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command", required=True, title="commands")
    for each in COMMANDS if command is None else (command,):
        subparser = subparsers.add_parser(
            each.name, help=each.summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if each is command:
            importlib.import_module(f"consumer.cli.arguments.{each.module}").add(subparser)
            subparser.add_argument(
                "--config", type=Path, metavar="FILE.toml", help="settings; the environment overrides it"
            )
    return parser


class _Parser(argparse.ArgumentParser):
    """Complains about the usage in one line, as about everything else."""

    def _check_value(self, action: argparse.Action, value: str) -> None:
        if action.dest != "command" or value in BY_NAME:
            super()._check_value(action, value)
            return
        similar = difflib.get_close_matches(value, BY_NAME, n=1)
        meant = f"; did you mean {similar[0]}?" if similar else ""
        self.error(f"unknown command {value!r}{meant}")

    def error(self, message: str) -> NoReturn:
        output.complain(f"{message}; see {self.prog} --help")
        self.exit(WRONG_USAGE)
