"""The sandbox in a process of its own, with its log in a file."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from consumer.failure import Failure
from consumer.loadtest.environment import system
from consumer.loadtest.processes import Child
from consumer.loadtest.waiting import until
from consumer.sandbox import Plan

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 60.0
_KEPT_IN_MEMORY: Final = "1000"


class _Announcement(msgspec.Struct):
    environment: dict[str, str]
    control_url: str


class _Changed(msgspec.Struct):
    version: int


class Fakes:
    """`sandbox`, serving; obtained from `serve`."""

    def __init__(self, process: Child, said: _Announcement, log: Path, session: aiohttp.ClientSession) -> None:
        self.pid = process.pid
        self.environment = said.environment
        """The settings that point at it."""
        self.log = log
        """Its request log, whole once it has stopped."""
        self._process = process
        self._control = said.control_url
        self._session = session

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.returncode is None

    async def set_faults(self, plan: Plan) -> None:
        """Replace latency, quotas and faults; windows start now."""
        await self._call("PUT", "/faults", plan)

    async def change(self, user_id: str) -> int:
        """Change a user at Sesamy and return the version that shows it."""
        answer = await self._call("POST", f"/users/{quote(user_id, safe='')}", {})
        return msgspec.json.decode(answer, type=_Changed).version

    async def stop(self) -> None:
        """Stop it, so that its log is whole.

        Raises:
            Failure: it does not stop, or did before.
        """
        was_running = self.running
        if was_running:
            self._process.terminate()
            if not await until(self._ended, _STOP_SECONDS):
                raise Failure(f"the sandbox did not stop within {_STOP_SECONDS:g} s")
        if self._process.returncode or not was_running:
            raise Failure(f"the sandbox ended with exit code {self._process.returncode}; its log is not whole")

    async def _ended(self) -> bool:
        return not self.running

    async def _call(self, method: str, path: str, body: object) -> bytes:
        url = URL(self._control + path, encoded=True)
        try:
            async with self._session.request(method, url, data=msgspec.json.encode(body)) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Failure(f"the sandbox does not answer ({type(error).__name__}); is the machine overloaded?") from None
        if response.status != 200:
            raise Failure(f"the sandbox answers {response.status} to {method} /{path.split('/')[1]}")
        return content


@asynccontextmanager
async def serve(folder: Path, world: list[str]) -> AsyncIterator[Fakes]:
    """Serve until the block ends; `world` are the options of `sandbox` that say whom it knows.

    Raises:
        Failure: it does not start.
    """
    output, errors, log = folder / "sandbox.json", folder / "sandbox.err", folder / "requests.ndjson"
    ports = [argument for api in ("sesamy", "mailmojo", "control") for argument in (f"--{api}-port", "0")]
    keeping = ["--log", str(log), "--log-limit", _KEPT_IN_MEMORY]
    process = Child(
        [sys.executable, "-m", "consumer", "sandbox", "--json", *ports, *keeping, *world],
        output=output,
        errors=errors,
        env=system(),
    )
    try:
        said = await _announced(process, output, errors)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            yield Fakes(process, said, log, session)
    finally:
        process.kill()


async def _announced(process: Child, output: Path, errors: Path) -> _Announcement:
    async def said() -> bool:
        if process.returncode is not None:
            raise Failure(f"the sandbox ended with exit code {process.returncode}: {last_line(errors)}")
        return (await asyncio.to_thread(output.read_bytes)).endswith(b"\n")

    if not await until(said, _START_SECONDS):
        raise Failure(f"the sandbox did not start within {_START_SECONDS:g} s")
    return msgspec.json.decode(await asyncio.to_thread(output.read_bytes), type=_Announcement)


def last_line(path: Path) -> str:
    """Return the last line of a process's output, cut to 300 characters."""
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
