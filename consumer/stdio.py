"""Standard input, output and error of this process, whatever it was started with."""

import atexit
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Final

from consumer.line_writer import LineWriter, text_stream

_EXIT_SECONDS: Final = 1.0
"""What waits for a slow reader of stderr is given so long at the end of the process."""

_stderr: LineWriter | None = None


def protect() -> None:
    """Make sure that no stream can stop the process or change its exit code.

    Everything written to `sys.stderr`, by whatever code, goes through a `LineWriter`. Characters that stdout's
    encoding does not have are escaped. A stream that was closed is opened as /dev/null, or the next file or socket
    would take its number; `sys.stdout` stays None then, so that a result that cannot be printed is noticed.
    """
    global _stderr  # noqa: PLW0603 - a process has one
    for descriptor in range(3):
        _open_if_closed(descriptor)
    if sys.stdin is None:  # as Python leaves it where the stream was closed
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    _stderr = LineWriter(2)
    sys.stderr = text_stream(_stderr, getattr(sys.stderr, "encoding", "utf-8"))
    atexit.register(_stderr.close, _EXIT_SECONDS)


def lines_dropped() -> int:
    """Return how many lines could not be written to stderr."""
    return _stderr.dropped if _stderr else 0


def _open_if_closed(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null == descriptor:
            os.set_inheritable(null, True)
        else:
            os.dup2(null, descriptor)
            os.close(null)
