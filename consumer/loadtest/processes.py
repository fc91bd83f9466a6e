"""Processes that somebody starts and ends: none outlives whoever started it."""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from consumer import files


class Child:
    """A running process with its output in files.

    It does not get the terminal's Ctrl-C (whoever started it stops it, in an order), and a guard kills it when that
    one dies without stopping it, even by SIGKILL: the guard sees the end of a pipe that only the starter holds.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        output: Path,
        errors: Path | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start the command; `env` is its whole environment, None this process's.

        Raises:
            OSError: it cannot be started, or a file not be opened.
        """
        with files.append(output) as stdout, files.append(errors or output) as stderr:
            self._process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )
        try:
            self._guard = subprocess.Popen(  # noqa: S603 - as above
                ["/bin/sh", "-c", 'read _; kill -9 "$0"', str(self.pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to stop (SIGTERM); does not wait."""
        self._process.send_signal(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP)."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once (SIGKILL, which a frozen process obeys too) and reap it; no-op when it has ended."""
        self._process.kill()
        self._process.wait()
        self._guard.kill()
        self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()
