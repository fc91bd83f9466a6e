"""The machine's limit as a program: the calls of a sync by aiohttp alone, no Kafka, no derivation, no quota, no log.

It works off files of lines `user id <tab> address`, as they appear in a folder, and says `done-N` there.
"""

import asyncio
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from consumer.event_loop import run_loop

_LOOK = 0.02


class Bare:
    """One session and the few headers and URLs that every request needs."""

    def __init__(self, session: aiohttp.ClientSession, sesamy_token: str) -> None:
        self._session = session
        self._sesamy, self._mailmojo = os.environ["SESAMY_API_URL"], os.environ["MAILMOJO_API_URL"]
        self._reads = {"Authorization": f"Bearer {sesamy_token}"}
        self._gets = {"Authorization": f"Bearer {os.environ['MAILMOJO_API_TOKEN']}"}
        self._writes = self._gets | {"Content-Type": "application/json"}

    async def sync(self, user_id: str, address: str) -> None:
        user = quote(user_id, safe="")
        profile = orjson.loads(await self._read(f"/users/{user}"))
        await asyncio.gather(self._paid(user), self._read(f"/entitlements?userId={user}"))
        url = URL(f"{self._mailmojo}/v1/contacts/{quote(address, safe='')}/", encoded=True)
        contact = orjson.loads(await self._send("GET", url, self._gets))
        version = next(tag for tag in profile["tags"] if tag.startswith("v-"))
        tags = [tag for tag in contact.get("tags") or () if not tag.startswith("sesamy_")]
        body = {
            "email": address,
            "tags": [*tags, f"sesamy_tag_{version}"],
            "custom": {**(contact.get("custom") or {}), "Sesamy User ID": user_id},
        }
        await self._send("PATCH", url, self._writes, orjson.dumps(body))

    async def _paid(self, user: str) -> None:
        await self._read(f"/contracts?userId={user}&limit=100&offset=0")
        await self._read(f"/transactions?userId={user}&limit=100&offset=0")

    async def _read(self, path: str) -> bytes:
        return await self._send("GET", URL(f"{self._sesamy}/management{path}", encoded=True), self._reads)

    async def _send(self, method: str, url: URL, headers: dict[str, str], body: bytes | None = None) -> bytes:
        async with self._session.request(method, url, data=body, headers=headers) as response:
            content = await response.read()
            if response.status != 200:
                raise RuntimeError(f"{method} {url.path}: {response.status}")
            return content


async def run(folder: Path) -> None:
    """Work off the files until killed."""
    width = int(os.environ["SYNC_CONCURRENCY"])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=3 * width)) as session:
        bare = Bare(session, await _token(session))

        async def work(lines: Iterator[str]) -> None:
            for line in lines:
                await bare.sync(*line.split("\t"))

        number = 0
        while True:
            number += 1
            load = folder / f"load-{number}"
            while not load.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(_LOOK)
            lines = iter(load.read_text().splitlines())
            async with asyncio.TaskGroup() as tasks:
                for _ in range(width):
                    tasks.create_task(work(lines))
            (folder / f"done-{number}").touch()


async def _token(session: aiohttp.ClientSession) -> str:
    form = {
        "grant_type": "client_credentials",
        "client_id": os.environ["SESAMY_CLIENT_ID"],
        "client_secret": os.environ["SESAMY_CLIENT_SECRET"],
    }
    async with session.post(os.environ["SESAMY_TOKEN_URL"], data=form) as response:
        return str(orjson.loads(await response.read())["access_token"])


if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(10_000)  # as the service does
    run_loop(run(Path(sys.argv[1])))
