"""The service as a process of its own, driven from outside: its settings, its signals, its log and its admin port."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from consumer.loadtest.processes import Child
from tests.waiting import wait_until

_ROOT = Path(__file__).parents[1]
_DEFAULTS = {"ADMIN_HOST": "127.0.0.1", "ADMIN_PORT": "0", "LOG_FORMAT": "json", "LOG_LEVEL": "info"}


class ServiceProcess(Child):
    """`python -m consumer COMMAND`, running; stdout and stderr are files in `folder`.

    `program` is the module to run in place of `consumer`. Of this process's environment it gets nothing that could be
    a setting.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str],
        command: tuple[str, ...] = ("run",),
        *,
        program: str = "consumer",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.stdout = folder / "stdout"
        self.stderr = folder / "stderr"
        self._port: int | None = None
        super().__init__(
            [sys.executable, "-m", program, *command],
            output=self.stdout,
            errors=self.stderr,
            cwd=_ROOT,
            env={
                **{name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ},
                **_DEFAULTS,
                **settings,
            },
        )

    def output(self) -> str:
        return "".join(path.read_text(errors="replace") for path in (self.stdout, self.stderr))

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the log so far: every complete JSON line, or those whose `event` is `name`."""
        events: list[dict[str, Any]] = [
            msgspec.json.decode(line)
            for line in self.output().splitlines(keepends=True)
            if line.startswith("{") and line.endswith("}\n")
        ]
        return [event for event in events if name is None or event.get("event") == name]

    async def logged(self, name: str, count: int = 1, within: float = 60) -> list[dict[str, Any]]:
        """Wait until the log holds at least `count` events of this name, and return all of them.

        A thread of the process writes its log, so a line may come later than other signs of what it tells. Raises
        AssertionError with the output if the process ends before.
        """

        def is_logged() -> bool:
            self._assert_running()
            return len(self.events(name)) >= count

        await wait_until(is_logged, within, what=f"{count} events {name} in the log")
        return self.events(name)

    async def admin_port(self, within: float = 60) -> int:
        """Return the port that the log names; raise AssertionError with the output if the process ends before."""
        if self._port is None:
            self._port = int((await self.logged("admin.listening", within=within))[0]["port"])
        return self._port

    async def get(self, path: str, within: float = 20) -> tuple[int, str]:
        """Return status code and body of `path` on the admin port."""
        url = f"http://127.0.0.1:{await self.admin_port()}{path}"
        timeout = aiohttp.ClientTimeout(total=within)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            return response.status, await response.text()

    async def status(self) -> dict[str, Any]:
        _, body = await self.get("/status")
        status: dict[str, Any] = msgspec.json.decode(body)
        return status

    async def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of `sesamy_mailmojo_<name>` that carry these labels; 0 when there is none."""
        _, body = await self.get("/metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
            if sample.name == f"sesamy_mailmojo_{name}" and labels.items() <= sample.labels.items()
        )

    async def ready(self, within: float = 60) -> None:
        """Wait until `/readyz` answers 200."""

        async def is_ready() -> bool:
            self._assert_running()
            try:
                status, _ = await self.get("/readyz")
            except (aiohttp.ClientError, TimeoutError):
                return False
            return status == 200

        await wait_until(is_ready, within, what="/readyz answers 200")

    async def unready(self, what: str, within: float = 60) -> str:
        """Wait until `/readyz` names this as what the service waits for, and return the reason."""
        reason = ""

        async def is_named() -> bool:
            nonlocal reason
            self._assert_running()
            status, body = await self.get("/readyz")
            reason = str(msgspec.json.decode(body)["reasons"].get(what, ""))
            return status == 503 and bool(reason)

        await wait_until(is_named, within, what=f"/readyz names {what}")
        return reason

    async def exit_code(self, within: float = 60) -> int:
        """Wait for the end and return the exit code, negative for a signal."""
        await wait_until(lambda: self.returncode is not None, within, what="the service ends")
        assert self.returncode is not None
        return self.returncode

    def _assert_running(self) -> None:
        assert self.returncode is None, f"the service ended with {self.returncode}:\n{self.output()[-4000:]}"
