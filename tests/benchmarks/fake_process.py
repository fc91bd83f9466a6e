"""The fast fake as a process of its own, driven through its control address."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

from consumer.loadtest.processes import Child
from consumer.sandbox.world import LIST_ID
from tests.benchmarks.fake import State
from tests.waiting import wait_until

_ROOT = Path(__file__).parents[2]


class FakeProcess:
    """`python -m tests.benchmarks.fake`, serving; obtained from `serve_fake`."""

    def __init__(self, process: Child, port: int, session: aiohttp.ClientSession) -> None:
        self.pid = process.pid
        self._url = f"http://127.0.0.1:{port}"
        self._session = session

    @property
    def environment(self) -> dict[str, str]:
        """The settings that lead a contestant to it, with quotas that are out of reach."""
        return {
            "SESAMY_API_URL": self._url,
            "SESAMY_TOKEN_URL": f"{self._url}/oauth/token",
            "SESAMY_CLIENT_ID": "bench",
            "SESAMY_CLIENT_SECRET": "secret",
            "SESAMY_REQUESTS_PER_MINUTE": "1000000",
            "SESAMY_BURST": "100000",
            "MAILMOJO_API_URL": self._url,
            "MAILMOJO_API_TOKEN": "token",
            "MAILMOJO_LIST_ID": str(LIST_ID),
            "MAILMOJO_REQUESTS_PER_SECOND": "100000",
            "MAILMOJO_BURST": "100000",
        }

    async def reset(self, latency: float) -> None:
        """Count from zero, and delay every answer by so many seconds from now on."""
        await self._call("POST", "reset", msgspec.json.encode(latency))

    async def forget_syncs(self) -> None:
        """Expect new syncs: the client was killed in the middle of some."""
        await self._call("POST", "forget", b"{}")

    async def state(self) -> State:
        """Return what it has counted."""
        return msgspec.json.decode(await self._call("GET", "counts"), type=State)

    async def _call(self, method: str, name: str, body: bytes | None = None) -> bytes:
        async with self._session.request(method, f"{self._url}/control/{name}", data=body) as response:
            return await response.read()


@asynccontextmanager
async def serve_fake(folder: Path) -> AsyncIterator[FakeProcess]:
    """Serve the fast fake on a free port until the block ends."""
    process, output, errors = _start(folder)

    def said() -> str:
        if process.returncode is not None:
            raise RuntimeError(f"the fake ended with {process.returncode}: {errors.read_text()[-2000:]}")
        return output.read_text()

    try:
        await wait_until(lambda: said().endswith("\n"), what="the fake's port")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            yield FakeProcess(process, int(said()), session)
    finally:
        process.kill()


def _start(folder: Path) -> tuple[Child, Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    output, errors = folder / "fake.out", folder / "fake.err"
    process = Child(
        [sys.executable, "-m", "tests.benchmarks.fake"],
        output=output,
        errors=errors,
        cwd=_ROOT,
        env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
    )
    return process, output, errors
