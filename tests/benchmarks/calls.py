"""The six calls of a sync in Python, with nothing derived, quota-checked or logged, over either client of aiohttp."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal, Protocol
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from consumer.clients.http import ConnectionClient

Kind = Literal["session", "connections"]


class Send(Protocol):
    """Sends one request to a path of an API and returns the response's body."""

    async def __call__(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None, /
    ) -> bytes: ...


class SixCalls:
    """Syncs users; obtained from `open_calls`."""

    def __init__(self, sesamy: Send, mailmojo: Send, token: str) -> None:
        self._sesamy, self._mailmojo = sesamy, mailmojo
        self._reads = {"Authorization": f"Bearer {token}"}
        self._gets = {"Authorization": f"Bearer {os.environ['MAILMOJO_API_TOKEN']}"}
        self._writes = self._gets | {"Content-Type": "application/json"}

    async def sync(self, user_id: str) -> None:
        """Read the profile; contracts, then transactions, beside entitlements; then the contact, and write it."""
        user = quote(user_id, safe="")
        profile = orjson.loads(await self._read(f"/users/{user}"))
        await asyncio.gather(self._paid(user), self._read(f"/entitlements?userId={user}"))
        address = profile["email"].strip().lower()
        path = f"/v1/contacts/{quote(address, safe='')}/"
        contact = orjson.loads(await self._mailmojo("GET", path, self._gets))
        tags = [tag for tag in contact["tags"] if not tag.startswith("sesamy_")]
        tags += [f"sesamy_tag_{tag}" for tag in profile["tags"] if tag.startswith("v-")]
        custom = {**contact["custom"], "Sesamy User ID": user_id}
        body = orjson.dumps({"email": address, "tags": tags, "custom": custom})
        await self._mailmojo("PATCH", path, self._writes, body)

    async def _paid(self, user: str) -> None:
        await self._read(f"/contracts?userId={user}&limit=100&offset=0")
        await self._read(f"/transactions?userId={user}&limit=100&offset=0")

    async def _read(self, path: str) -> bytes:
        return await self._sesamy("GET", f"/management{path}", self._reads)


@asynccontextmanager
async def open_calls(kind: Kind) -> AsyncIterator[SixCalls]:
    """Open the clients of both APIs, through aiohttp's `ClientSession` or on its connections alone."""
    sesamy, mailmojo = URL(os.environ["SESAMY_API_URL"]), URL(os.environ["MAILMOJO_API_URL"])
    open_api = _through if kind == "session" else _on_connections
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield SixCalls(open_api(session, sesamy), open_api(session, mailmojo), await _token(session))


def _through(session: aiohttp.ClientSession, base: URL) -> Send:
    async def send(method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
        url = base.with_path(path, encoded=True)
        async with session.request(method, url, data=body, headers=headers) as response:
            content = await response.read()
            _check(response.status, method, path)
            return content

    return send


def _on_connections(session: aiohttp.ClientSession, base: URL) -> Send:
    client = ConnectionClient(base.origin(), session, timeout=10)

    async def send(method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
        answer = await client.request(method, path, headers, body)
        _check(answer.status, method, path)
        return answer.body

    return send


def _check(status: int, method: str, path: str) -> None:
    if status != 200:
        raise RuntimeError(f"{method} {path}: {status}")


async def _token(session: aiohttp.ClientSession) -> str:
    form = {
        "grant_type": "client_credentials",
        "client_id": os.environ["SESAMY_CLIENT_ID"],
        "client_secret": os.environ["SESAMY_CLIENT_SECRET"],
    }
    async with session.post(os.environ["SESAMY_TOKEN_URL"], data=form) as response:
        return str(orjson.loads(await response.read())["access_token"])
