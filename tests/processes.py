"""Processes that tests start: they can be killed, frozen and thawed, and none outlives the test run."""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class Child:
    """A running process with its output in files.

    It does not get the terminal's Ctrl-C (the tests stop it in their own order), and a guard kills it when this
    process dies without stopping it, even by SIGKILL: the guard sees the end of a pipe that only this process holds.
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
        with output.open("ab") as stdout, (errors or output).open("ab") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", 'read _; kill -9 "$0"', str(self.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to stop (SIGTERM); does not wait."""
        self._process.send_signal(signal.SIGTERM)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once (SIGKILL, which a frozen process obeys too) and reap it; no-op when it has ended."""
        self._process.kill()
        self._process.wait()
        self._guard.kill()
        self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()
