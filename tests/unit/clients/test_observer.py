"""What a request that brings no answer is reported as."""

import asyncio
import errno
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError
from yarl import URL

from consumer.clients.errors import ApiError, LocalFault, Unavailable, Unreachable
from consumer.clients.session import open_session
from tests.unit.clients.raw_server import raw_server
from tests.unit.clients.scripted import HANG, Sender, serve

pytestmark = pytest.mark.usefixtures("both_clients")

KEY = ConnectionKey("x", 443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)


Send = Callable[[str | URL], Coroutine[Any, Any, object]]


@asynccontextmanager
async def sending(*, connect_timeout: float = 5.0, patience: float = 5.0) -> AsyncIterator[Send]:
    async with open_session(connect_timeout=connect_timeout) as session:
        yield lambda url: Sender("mailmojo", url, session, timeout=patience).get("/", operation="get_contact")


@contextmanager
def deaf() -> Iterator[str]:
    """The address of a server whose queue of connections is full: a new one waits for ever."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for one in waiting:
                one.close()


LIMITS = pytest.mark.parametrize(("connect_timeout", "patience"), [(0.2, 5.0), (5.0, 0.2)])


@LIMITS
async def test_a20_a_connection_that_is_not_made_in_time_is_called_that(
    connect_timeout: float, patience: float
) -> None:
    with deaf() as address:
        async with sending(connect_timeout=connect_timeout, patience=patience) as send:
            with pytest.raises(Unreachable, match=r"^mailmojo get_contact: no answer: no connection within 0\.2 s$"):
                await send(f"http://{address}")


@LIMITS
async def test_a20_so_is_a_tls_handshake_that_does_not_end(connect_timeout: float, patience: float) -> None:
    with raw_server(lambda _, __: None) as server:
        async with sending(connect_timeout=connect_timeout, patience=patience) as send:
            with pytest.raises(Unreachable, match=r"no connection within 0\.2 s"):
                await send(server.url.replace("http:", "https:"))


@LIMITS
async def test_a20_so_is_a_name_that_no_dns_server_answers_for(
    connect_timeout: float, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
    async with sending(connect_timeout=connect_timeout, patience=patience) as send:
        with pytest.raises(Unreachable, match=r"no connection within 0\.2 s"):
            await send("http://name.example")


async def test_a20_an_answer_that_does_not_come_in_time_is_called_that() -> None:
    async with serve(lambda _: HANG) as server, sending(connect_timeout=5.0, patience=0.2) as send:
        with pytest.raises(Unavailable, match=r"no answer within 0\.2 s") as caught:
            await send(server.url)
    assert not isinstance(caught.value, Unreachable)


async def test_a20_requests_do_not_wait_for_a_free_connection() -> None:
    async with serve(lambda _: HANG) as server, sending(connect_timeout=60.0, patience=60.0) as send:
        requests = [asyncio.create_task(send(server.url)) for _ in range(200)]
        await asyncio.wait_for(server.heard(200), 30)
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)


FAILURES: list[tuple[Exception, type[ApiError], str]] = [
    (UnicodeError("label empty or too long"), Unavailable, "UnicodeError"),
    (UnicodeEncodeError("idna", "x", 0, 1, "label too long"), Unavailable, "UnicodeEncodeError"),
    (aiohttp.InvalidURL("https://x/a%40x.no"), Unavailable, "InvalidURL"),
    (ValueError("https://x/a%40x.no"), Unavailable, "ValueError"),
    (HttpProcessingError(code=400, message="a@x.no"), Unavailable, "not valid HTTP"),
    (BadHttpMessage("a@x.no"), Unavailable, "not valid HTTP"),
    (aiohttp.ServerDisconnectedError("a@x.no"), Unavailable, "ServerDisconnectedError"),
    (aiohttp.ClientPayloadError("a@x.no"), Unavailable, "ClientPayloadError"),
    (asyncio.IncompleteReadError(b"", 1), Unavailable, "IncompleteReadError"),
    (ConnectionResetError(errno.ECONNRESET, "reset"), Unavailable, "reset"),
    (aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "refused")), Unreachable, "refused"),
    (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_NONAME, "unknown")), Unreachable, "unknown"),
    (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "[SSL] bad")), Unreachable, "no TLS connection"),
    (aiohttp.ClientConnectorError(KEY, OSError(errno.EMFILE, "too many")), LocalFault, "too many"),
    (aiohttp.ClientConnectorError(KEY, OSError(errno.ENFILE, "too many")), LocalFault, "too many"),
    (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_SYSTEM, "system")), LocalFault, "system"),
    (aiohttp.ClientOSError(errno.ENOMEM, "memory"), LocalFault, "memory"),
    (OSError(errno.EMFILE, "too many"), LocalFault, "too many"),
    (MemoryError(), LocalFault, "MemoryError"),
    (RuntimeError("can't start new thread"), LocalFault, "RuntimeError"),
    (AssertionError(), LocalFault, "AssertionError"),
    (TypeError("a@x.no"), LocalFault, "TypeError"),
]


@pytest.mark.parametrize(("error", "kind", "said"), FAILURES)
async def test_a18_whatever_a_request_raises_is_an_api_error_without_address_or_url(
    error: Exception, kind: type[ApiError], said: str
) -> None:
    session = Mock(spec=aiohttp.ClientSession, headers={}, timeout=aiohttp.ClientTimeout())
    session.request.side_effect = session.connector.connect.side_effect = error
    with pytest.raises(ApiError) as caught:
        await Sender("mailmojo", "https://x", session).get("/a%40x.no")
    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert "x.no" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("host", ["api..example.no", f"{'a' * 64}.no", "a b", "api.example\u2028.no"])
async def test_a18_a_host_that_cannot_be_looked_up_is_an_api_error(host: str) -> None:
    async with sending() as send:
        with pytest.raises(ApiError) as caught:
            await send(URL.build(scheme="http", host=host, encoded=True))
    assert "example" not in str(caught.value)


async def test_a15_no_file_descriptor_left_is_a_fault_of_this_process_and_not_of_the_api() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serve(lambda _: HANG) as server, sending() as send:
        with open(os.devnull, "rb") as lowest_free:  # noqa: ASYNC230, PTH123 - one that tells the next number
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free.fileno(), hard))
            try:
                with pytest.raises(LocalFault, match="Too many open files"):
                    await send(server.url)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
