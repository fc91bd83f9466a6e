"""SIGTERM, SIGINT and SIGHUP while no event loop waits for them: before the work, and after it.

A process that is still importing its modules has begun nothing, so it ends at once. Raising an exception instead is no
option: modules written in C crash when one comes while they are being imported. Nothing slow is imported here, since
a signal that comes before `install` ends the process as the system has it, or is lost where it is process 1.
"""

import os
import signal
import sys

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Each asks the process to end, and they mean the same."""

_SERVICES = frozenset({"run", "ingest", "sandbox"})
"""Commands that run until a signal, which is their normal end: exit code 0. It interrupts any other one: 130."""


def install() -> None:
    """Have each signal end the process at once with its exit code, also process 1, for which they mean nothing."""
    for number in numbers():
        signal.signal(number, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # whatever the parent process had blocked


def ignore() -> None:
    """Let the process end undisturbed: its exit code is decided."""
    for number in numbers():
        signal.signal(number, signal.SIG_IGN)


def numbers() -> list[signal.Signals]:
    """Return the signals to wait for. `nohup` has SIGHUP ignored, and then it stays ignored."""
    return [it for it in SIGNALS if it is not signal.SIGHUP or signal.getsignal(it) is not signal.SIG_IGN]


def exit_code(arguments: "list[str]") -> int:
    """Return the exit code of a command, given with its arguments, that a signal ends."""
    return 0 if arguments[:1] and arguments[0] in _SERVICES else 130


def _end(_number: int, _frame: object) -> None:
    os._exit(exit_code(sys.argv[1:]))
