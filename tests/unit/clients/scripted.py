"""A server on a real socket that answers as a test says, and remembers what arrived, byte for byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web
from yarl import URL

from consumer.clients.bounds import Progress
from consumer.clients.errors import Api
from consumer.clients.http import Answer, HttpClient, SessionClient
from consumer.clients.observer import RequestObserver
from consumer.clients.quota import QuotaGate
from consumer.clients.session import open_session
from consumer.clients.transport import Credentials, Transport
from consumer.ops.metrics import Metrics
from consumer.settings.proxies import Proxies

EPOCH = 1_700_000_000.0
"""What the injected wall clock shows."""

client: type[HttpClient] = SessionClient
"""What the helpers here send with; see the fixture `both_clients`."""


class Arrived(NamedTuple):
    method: str
    path: str
    """As it came over the wire, query included."""
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Reply(NamedTuple):
    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = {}


CUT = Reply(status=0)
"""The connection is cut instead of an answer."""
HANG = Reply(status=-1)
"""No answer ever."""

Script = Callable[[Arrived], Reply]


def in_turn(*replies: Reply) -> Script:
    """Answer with these, one after the other."""
    left = iter(replies)
    return lambda _: next(left)


class Server:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.arrived: list[Arrived] = []
        self.url = ""
        self._over = asyncio.Event()
        self._arrival = asyncio.Condition()

    def calls(self) -> list[tuple[str, str]]:
        return [(request.method, request.path) for request in self.arrived]

    async def heard(self, count: int) -> None:
        """Wait until so many requests have arrived."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.arrived) >= count)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        arrived = Arrived(request.method, request.raw_path, request.headers, await request.read())
        async with self._arrival:
            self.arrived.append(arrived)
            self._arrival.notify_all()
        reply = self.script(arrived)
        if reply is CUT:
            assert request.transport is not None
            request.transport.abort()
        if reply is HANG:
            await self._over.wait()
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        return web.Response(status=max(reply.status, 200), body=body, headers=reply.headers)


@asynccontextmanager
async def serve(script: Script) -> AsyncIterator[Server]:
    server = Server(script)
    runner = web.ServerRunner(web.Server(server._answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        server._over.set()
        await runner.cleanup()


class Token:
    """Credentials that change as a test says."""

    def __init__(self, *values: str) -> None:
        self._values = list(values)
        self.refusals: list[str] = []

    async def authorization(self) -> str:
        return self._values[0]

    async def refused(self, used: str) -> bool:
        self.refusals.append(used)
        if len(self._values) > 1:
            del self._values[0]
        return self._values[0] != used


class Sender:
    """Sends requests with neither quota nor credentials."""

    def __init__(
        self,
        api: Api,
        url: str | URL,
        session: aiohttp.ClientSession,
        *,
        timeout: float = 10.0,
        proxies: Proxies | None = None,
    ) -> None:
        self._http = client(URL(url), session, timeout=timeout, proxies=proxies)
        self._observer = RequestObserver(api, self._http, Metrics())

    async def get(self, target: str = "/x", *, operation: str = "op", headers: dict[str, str] | None = None) -> Answer:
        headers = headers or {}
        state, began = Progress(), self._observer.begin(headers)
        try:
            return await self._http.request("GET", target, headers, state=state)
        except Exception as error:
            if failure := self._observer.failed(operation, began, error, state):
                raise failure from None
            raise


class Bench(NamedTuple):
    server: Server
    transport: Transport
    gate: QuotaGate
    metrics: Metrics
    session: aiohttp.ClientSession


@asynccontextmanager
async def bench(
    script: Script,
    *,
    api: Api = "mailmojo",
    credentials: Credentials | None = None,
    patience: float = 10.0,
    rate: float = 1000,
    burst: float = 1000,
) -> AsyncIterator[Bench]:
    """A transport to a scripted server, with a quota that never makes it wait unless the server asks to."""
    metrics = Metrics()
    async with serve(script) as server, open_session() as session:
        gate = QuotaGate(api, rate, burst, metrics=metrics, stored_burst=True)
        http = client(URL(server.url), session, timeout=patience)
        token = credentials or Token("Bearer t")
        transport = Transport(api, server.url, http, gate, token, metrics=metrics, wall_clock=lambda: EPOCH)
        yield Bench(server, transport, gate, metrics, session)
