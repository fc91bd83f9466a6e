"""How commands speak: results to stdout, complaints to stderr, and nothing that a terminal would act upon.

No other module of the command line prints. What is foreign (records, answers, file names) may be part of any text.
"""

import json
import os
import sys

import orjson

from consumer.failure import Failure
from consumer.printable import printable, printable_json


class NoReader(Failure):
    """Nobody reads stdout any more, as when `| head` has seen enough: no reason for a complaint."""


def line(text: str = "") -> None:
    """Print one line to stdout; line breaks in the text are escaped as well.

    Raises:
        Failure: stdout cannot be written to.
    """
    _write(printable(text))


def lines(text: str) -> None:
    """Print a text of several lines to stdout. Raises `Failure` as `line` does."""
    for part in text.split("\n"):
        line(part)


def note(text: str) -> None:
    """Print one line to stderr."""
    print(printable(text), file=sys.stderr)


def complain(text: str) -> None:
    """Print one line to stderr, after the program's name."""
    note(f"sesamy-mailmojo: {' '.join(text.split())}")


def confirms(question: str, answer: str) -> bool:
    """Ask at the terminal, and return whether this was the answer. Raises `Failure` as `line` does."""
    flush()
    try:
        return input(question).strip() == answer
    except EOFError:
        return False


def require() -> None:
    """Make sure that there is a stdout, for code that prints by itself. Raises `Failure` as `line` does."""
    if sys.stdout is None:
        raise _closed()


def print_json(value: object) -> None:
    """Print a value as one line of JSON. Raises `Failure` as `line` does."""
    _write(to_json(value))


def to_json(value: object) -> str:
    """Return a value as one line of JSON that stdout can show."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # half a character, or a number beyond 64 bits
        text = json.dumps(value)
    return printable_json(text, only_ascii=not encoding.lower().startswith("utf"))


def write_bytes(data: bytes) -> None:
    """Write bytes to stdout. Raises `Failure` as `line` does."""
    require()
    try:
        sys.stdout.buffer.write(data)
    except OSError as error:
        raise stdout_failure(error) from error


def flush() -> None:
    """Have everything printed so far arrive. Raises `Failure` as `line` does."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        raise stdout_failure(error) from error


def discard() -> None:
    """Drop what could not be printed: the interpreter would try once more, and change the exit code."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def stdout_failure(error: OSError) -> Failure:
    """Return what to raise when stdout cannot be written to."""
    if isinstance(error, BrokenPipeError):
        return NoReader("nobody reads standard output")
    return Failure(f"cannot write to standard output: {error.strerror}")


def _write(text: str) -> None:
    require()
    try:
        print(text)
    except OSError as error:
        raise stdout_failure(error) from error


def _closed() -> Failure:
    return Failure("cannot write to standard output: it is closed")
