"""Requests leave through the proxy that the environment names, over real sockets."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from aiohttp import web

from consumer.clients.errors import Unreachable
from consumer.clients.http import Answer
from consumer.clients.session import open_session
from consumer.settings.proxies import Proxies, proxies_of
from tests.certificates import Authority
from tests.unit.clients.raw_server import raw_server
from tests.unit.clients.scripted import Reply, Sender, serve

pytestmark = pytest.mark.usefixtures("both_clients")

HOST = "api.example.no"


class ConnectProxy:
    """Tunnels every connection to one port of this machine, whatever host was asked for."""

    def __init__(self, port: int, status: str, authorization: str | None) -> None:
        self.asked: list[str] = []
        self.heads: list[str] = []
        self.port = 0
        self._target = port
        self._status = status
        self._authorization = authorization
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        self.asked.append(head.partition(" HTTP")[0])
        status = self._status
        if self._authorization and f"Proxy-Authorization: {self._authorization}\r\n" not in head:
            status = "407 Proxy Authentication Required"
        writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
        if not status.startswith("200"):
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(_pump(reader, back), _pump(there, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


class Bench(NamedTuple):
    proxy: ConnectProxy
    session: aiohttp.ClientSession
    proxies: Proxies
    arrived: list[Mapping[str, str]]

    async def get(self, url: str = f"https://{HOST}") -> Answer:
        sender = Sender("sesamy", url, self.session, proxies=self.proxies)
        return await sender.get(operation="get_user", headers={"Authorization": "Bearer of our own"})


@asynccontextmanager
async def bench(
    folder: Path,
    *,
    credentials: str = "",
    authorization: str | None = None,
    status: str = "200 Connection established",
    no_proxy: str = "",
) -> AsyncIterator[Bench]:
    """A server with a certificate of ours for a host that only the proxy can reach."""
    authority = Authority(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue("server", f"DNS:{HOST}"))
    arrived: list[Mapping[str, str]] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        arrived.append(request.headers)
        return web.Response(body=b"{}")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    proxy = ConnectProxy(runner.addresses[0][1], status, authorization)
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = listening.sockets[0].getsockname()[1]
    environ = {"HTTPS_PROXY": f"http://{credentials}127.0.0.1:{proxy.port}", "NO_PROXY": no_proxy}
    trusted = ssl.create_default_context(cafile=str(authority.certificate))
    try:
        async with open_session(tls=trusted) as session:
            yield Bench(proxy, session, proxies_of(environ), arrived)
    finally:
        listening.close()
        await runner.cleanup()


async def test_p11_requests_leave_through_the_proxy_and_keep_their_own_credentials(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        for _ in range(2):
            assert (await it.get()).body == b"{}"
    assert it.proxy.asked == [f"CONNECT {HOST}:443"]  # the tunnel is used again
    assert "Bearer" not in it.proxy.heads[0]
    assert [headers["Authorization"] for headers in it.arrived] == ["Bearer of our own"] * 2


async def test_p11_a_proxy_is_given_its_credentials_and_the_api_is_not(tmp_path: Path) -> None:
    authorization = f"Basic {b64encode('me:p@ß'.encode()).decode()}"
    async with bench(tmp_path, credentials="me:p%40%C3%9F@", authorization=authorization) as it:
        for _ in range(3):
            assert (await it.get()).status == 200
    assert "Proxy-Authorization" not in it.arrived[0]


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "403 Forbidden", "502 Bad Gateway"])
async def test_p11_a_proxy_that_refuses_is_an_error_that_names_the_setting(tmp_path: Path, status: str) -> None:
    async with bench(tmp_path, status=status, credentials="me:hunter2222@") as it:
        with pytest.raises(Unreachable) as caught:
            await it.get()
    assert str(caught.value) == (
        f"sesamy get_user: no answer: no connection through the proxy of HTTPS_PROXY, which answered HTTP {status[:3]}"
    )


async def test_p11_a_proxy_that_is_not_there_or_does_not_answer_is_an_error_that_names_the_setting() -> None:
    with raw_server(lambda _, __: None) as silent:
        for address, reason in (
            ("127.0.0.1:1", "Connect call failed"),
            (silent.url.removeprefix("http://"), r"no connection within 0\.2 s"),
        ):
            async with open_session(connect_timeout=0.2) as session:
                proxies = proxies_of({"https_proxy": address})
                sender = Sender("sesamy", f"https://{HOST}", session, proxies=proxies)
                with pytest.raises(Unreachable, match=f"{reason}.* through the proxy of https_proxy$"):
                    await sender.get()


async def test_p11_a_host_in_no_proxy_is_reached_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise OSError("no such name here")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", refuse)
    async with bench(tmp_path, no_proxy="other.no, .example.no") as it:
        with pytest.raises(Unreachable) as caught:
            await it.get()
    assert "proxy" not in str(caught.value)
    assert it.proxy.asked == []


async def test_p11_plain_http_which_is_for_this_machine_never_leaves_through_a_proxy(tmp_path: Path) -> None:
    async with serve(lambda _: Reply(200, b"{}")) as server, bench(tmp_path) as it:
        assert (await it.get(server.url)).status == 200
        assert it.proxy.asked == []


async def test_p11_the_environment_changes_neither_credentials_nor_the_way_of_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp would take credentials from .netrc where it takes proxies from the environment."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with serve(lambda _: Reply(200, b"{}")) as server, bench(tmp_path) as it:
        await it.get(server.url)
        await it.get()
        assert server.arrived[0].headers["Authorization"] == "Bearer of our own"
    assert it.arrived[0]["Authorization"] == "Bearer of our own"
