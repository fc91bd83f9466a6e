"""The fakes of both APIs as a process of their own, driven through their control address."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from consumer.loadtest.processes import Child
from consumer.sandbox import Plan, Record, RequestLog
from consumer.sandbox.population import Seed
from consumer.sandbox.world import LIST_ID, OTHER_LIST_ID
from tests.waiting import wait_until

_ROOT = Path(__file__).parents[2]
_KEPT = 10_000_000
_AT_ONCE = 16
_OF_A_CONTACT = ("first_name", "last_name", "phone", "tags", "custom", "status")


class _Announcement(msgspec.Struct):
    environment: dict[str, str]
    control_url: str


class SandboxProcess:
    """`python -m consumer sandbox`, serving; obtained from `serve_sandbox`."""

    def __init__(self, process: Child, announcement: _Announcement, session: aiohttp.ClientSession) -> None:
        self.pid = process.pid
        self.environment = announcement.environment
        self._control = announcement.control_url
        self._session = session

    async def add(self, seeds: Iterable[Seed]) -> None:
        """Make these users known to Sesamy and their contacts to Mailmojo."""
        line = iter(seeds)

        async def worker() -> None:
            for seed in line:
                contact = seed.grow_contact(LIST_ID, OTHER_LIST_ID)
                values = {key: value for key, value in contact.items() if key in _OF_A_CONTACT}
                await self._call("POST", f"/users/{quote(seed.user_id, safe='')}", seed.grow())
                await self._call("PUT", f"/contacts/{quote(contact['email'], safe='')}", values)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_ONCE):
                tasks.create_task(worker())

    async def set_latency(self, seconds: float) -> None:
        """Delay every answer of both APIs from now on."""
        await self.set_faults(Plan(latency=seconds))

    async def set_faults(self, plan: Plan) -> None:
        """Replace everything that goes wrong."""
        await self._call("PUT", "/faults", plan)

    async def requests(self) -> int:
        """Return how many requests there were."""
        about = msgspec.json.decode(await self._call("GET", "/"))
        return int(about["requests"])

    async def log(self, since: int) -> RequestLog:
        """Return the requests after that number."""
        log = RequestLog()
        log.extend(msgspec.json.Decoder(Record).decode_lines(await self._call("GET", f"/log?since={since}")))
        return log

    async def _call(self, method: str, path: str, body: object = None) -> bytes:
        data = None if body is None else msgspec.json.encode(body)
        async with self._session.request(method, URL(self._control + path, encoded=True), data=data) as response:
            content = await response.read()
            if response.status != 200:
                raise RuntimeError(f"the sandbox answers {response.status} to {method} {path}: {content!r}")
            return content


@asynccontextmanager
async def serve_sandbox(folder: Path) -> AsyncIterator[SandboxProcess]:
    """Serve an empty sandbox on free ports until the block ends."""
    process, output, errors = _start(folder)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
            yield SandboxProcess(process, await _announced(process, output, errors), session)
    finally:
        process.kill()


def _start(folder: Path) -> tuple[Child, Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    output, errors = folder / "sandbox.json", folder / "sandbox.err"
    ports = [argument for api in ("sesamy", "mailmojo", "control") for argument in (f"--{api}-port", "0")]
    process = Child(
        [sys.executable, "-m", "consumer", "sandbox", "--users", "0", "--json", "--log-limit", str(_KEPT), *ports],
        output=output,
        errors=errors,
        cwd=_ROOT,
        env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
    )
    return process, output, errors


async def _announced(process: Child, output: Path, errors: Path) -> _Announcement:
    def said() -> bytes:
        if process.returncode is not None:
            raise RuntimeError(f"the sandbox ended with {process.returncode}: {errors.read_text()[-2000:]}")
        return output.read_bytes()

    await wait_until(lambda: said().endswith(b"\n"), what="the sandbox's addresses")
    return msgspec.json.decode(said(), type=_Announcement)
