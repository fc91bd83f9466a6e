"""What a request promises on a real socket, asked of both HTTP clients on both event loops."""

import asyncio
import gc
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from aiohappyeyeballs import AddrInfoType
from aiohttp.http import HttpProcessingError
from yarl import URL

from consumer.clients.bounds import BoundedResponse, ResponseTooLargeError
from consumer.clients.http import ConnectionClient, HttpClient, SessionClient, missing_parts
from consumer.settings.proxies import Proxies, Proxy
from tests.certificates import Authority
from tests.http_clients import needs_connection_client
from tests.raw_server import RawServer, raw_server, replying, response

METHODS = ("GET", "POST", "PATCH", "PUT", "DELETE")
TOKEN = {"Authorization": "Bearer t"}
BROKEN = (aiohttp.ClientError, HttpProcessingError, OSError)
PATIENCE = 10.0

Opened = Callable[..., Awaitable[HttpClient]]


def _narrow(address: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return made


def new_session(
    *, context: ssl.SSLContext | None = None, pool: int = 100, connect: float = 5.0, narrow: bool = False
) -> aiohttp.ClientSession:
    """Return a session as `open_session` makes it, with a limit of connections and, if `narrow`, small buffers."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=pool, ssl=context or True, socket_factory=_narrow if narrow else None),
        cookie_jar=aiohttp.DummyCookieJar(),
        response_class=BoundedResponse,
        auto_decompress=False,
        headers={"Accept": "application/json"},
        timeout=aiohttp.ClientTimeout(total=None, connect=connect),
    )
    session._retry_connection = False
    return session


@pytest.fixture(params=[pytest.param("connection", marks=needs_connection_client), "session"])
async def open_client(request: pytest.FixtureRequest) -> AsyncIterator[Opened]:
    """A function that opens a client of a server; connections are closed at the end."""
    sessions: list[aiohttp.ClientSession] = []

    async def opened(
        server: RawServer | str,
        *,
        connect: float = 5.0,
        total: float = PATIENCE,
        context: ssl.SSLContext | None = None,
        pool: int = 100,
        proxy: str | None = None,
        narrow: bool = False,
    ) -> HttpClient:
        session = new_session(context=context, pool=pool, connect=connect, narrow=narrow)
        sessions.append(session)
        url = server if isinstance(server, str) else f"{'https' if context else 'http'}://127.0.0.1:{server.port}"
        kind: type[HttpClient] = ConnectionClient if request.param == "connection" else SessionClient
        proxies = Proxies(None if proxy is None else Proxy("HTTPS_PROXY", proxy))
        return kind(URL(url), session, timeout=total, proxies=proxies)

    yield opened
    for session in sessions:
        await session.close()


def descriptors() -> int:
    """Return how many file descriptors this process has open."""
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - only their number matters


@contextmanager
def noted(notes: list[str]) -> Iterator[None]:
    notes.append("in")
    try:
        yield
    finally:
        notes.append("out")


@needs_connection_client
def test_this_aiohttp_has_all_parts() -> None:
    assert missing_parts() is None


@pytest.mark.parametrize(
    "target", ["/v1/contacts/a%2Bb%40x.no/", "/users/%2e%2e", "/u/email%7C1?limit=100&x=%20%2F", "/%C3%A5/", "/"]
)
async def test_a_target_is_sent_unchanged(open_client: Opened, target: str) -> None:
    async with raw_server(replying(response())) as server:
        client = await open_client(server)
        await client.request("GET", target, TOKEN)
        assert server.requests[0].startswith(f"GET {target} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("method", METHODS)
async def test_a_request_has_its_headers_once_and_its_body(open_client: Opened, method: str) -> None:
    async with raw_server(replying(response(b'{"a": 1}', "201 Created", "X-Total-Count: 3"))) as server:
        client = await open_client(server)
        answer = await client.request(method, "/x", {**TOKEN, "Content-Type": "application/json"}, b'{"b": 2}')
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert (answer.status, answer.body, answer.headers["x-total-count"]) == (201, b'{"a": 1}', "3")
    lines = [line.lower() for line in head.decode().split("\r\n")]
    assert body == b'{"b": 2}'
    wanted = {
        f"host: 127.0.0.1:{server.port}",
        "accept: application/json",
        "authorization: bearer t",
        "content-length: 8",
        "content-type: application/json",
    }
    assert wanted <= set(lines)
    names = [line.partition(":")[0] for line in lines[1:]]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("bad", ["a\r\nX: y", "a\nb", "a\0b", "a\x7f", "æ"])
async def test_a_header_value_that_cannot_be_sent_is_refused_and_not_quoted(open_client: Opened, bad: str) -> None:
    async with raw_server(replying(response())) as server:
        client = await open_client(server)
        with pytest.raises(ValueError, match="cannot be sent") as refusal:
            await client.request("GET", "/x", {"Authorization": bad})
        assert bad not in str(refusal.value)
        with pytest.raises(ValueError, match="cannot be sent"):
            await client.request("GET", f"/x{bad} HTTP/1.1", {})
        assert server.connections == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("when", ["before the response", "in the head", "in the body"])
async def test_a_request_is_sent_once_when_the_server_hangs_up(open_client: Opened, method: str, when: str) -> None:
    whole = response(b'{"a": 1}')
    part = {"before the response": b"", "in the head": whole[:20], "in the body": whole[:-3]}[when]
    async with raw_server(replying(part, close=True)) as server:
        client = await open_client(server)
        with pytest.raises(BROKEN):
            await client.request(method, "/x", TOKEN, None if method == "GET" else b"{}")
        await server.until(lambda: server.open == 0)
        assert len(server.requests) == 1


@pytest.mark.parametrize("method", METHODS)
async def test_a_request_is_sent_once_when_a_kept_connection_dies_under_it(open_client: Opened, method: str) -> None:
    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        if len(server.requests) == 1:
            writer.write(response())
        else:
            writer.transport.abort()

    async with raw_server(answer) as server:
        client = await open_client(server)
        await client.request("GET", "/first", TOKEN)
        with pytest.raises(BROKEN):
            await client.request(method, "/second", TOKEN, None if method == "GET" else b"{}")
        assert [request.split(b" ")[1] for request in server.requests] == [b"/first", b"/second"]


async def test_a_connection_is_kept_and_used_again(open_client: Opened) -> None:
    async with raw_server(replying(response())) as server:
        client = await open_client(server)
        for _ in range(5):
            await client.request("GET", "/x", TOKEN)
        assert server.connections == 1


async def test_a_connection_that_the_server_closed_in_between_is_not_used_again(open_client: Opened) -> None:
    async with raw_server(replying(response(), close=True)) as server:
        client = await open_client(server)
        await client.request("GET", "/x", TOKEN)
        await server.until(lambda: server.open == 0)
        await asyncio.sleep(0.05)
        assert (await client.request("PATCH", "/x", TOKEN, b"{}")).status == 200


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n', b'{"a":1}'),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", b"{}"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
    ],
    ids=["chunked", "204", "304", "1xx first", "Connection: close", "HTTP/1.0"],
)
async def test_responses_of_every_form_are_read(open_client: Opened, raw: bytes, body: bytes) -> None:
    async with raw_server(replying(raw)) as server:
        client = await open_client(server)
        for _ in range(3):
            assert (await client.request("GET", "/x", TOKEN)).body == body


async def test_a_response_may_last_until_the_end_of_the_connection(open_client: Opened) -> None:
    async with raw_server(replying(b"HTTP/1.1 200 OK\r\n\r\n{}", close=True)) as server:
        client = await open_client(server)
        for _ in range(3):
            assert (await client.request("GET", "/x", TOKEN)).body == b"{}"
        assert server.connections == 3


async def test_a_redirect_is_not_followed(open_client: Opened) -> None:
    async with raw_server(replying(response(b"", "302 Found", "Location: /other"))) as server:
        client = await open_client(server)
        assert (await client.request("PATCH", "/x", TOKEN, b"{}")).status == 302
        assert len(server.requests) == 1


@pytest.mark.parametrize("raw", [b"garbage\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0\0\0\0\r\n\r\n", b"SSH-2.0-x\r\n"])
async def test_what_is_not_http_is_an_error_and_its_connection_is_closed(open_client: Opened, raw: bytes) -> None:
    async with raw_server(replying(raw, close=True)) as server:
        client = await open_client(server)
        with pytest.raises(BROKEN):
            await client.request("GET", "/x", TOKEN)
        await server.until(lambda: server.open == 0)


async def test_an_endless_row_of_informational_responses_ends_in_an_error(open_client: Opened) -> None:
    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)
            await writer.drain()
            await asyncio.sleep(0)

    async with raw_server(answer) as server:
        client = await open_client(server, total=2.0)
        with pytest.raises(ResponseTooLargeError):
            await client.request("GET", "/x", TOKEN)
        await server.until(lambda: server.open == 0)


async def test_a_body_beyond_the_limit_is_not_read_to_its_end(open_client: Opened) -> None:
    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" " * 65536)
            await writer.drain()

    async with raw_server(answer) as server:
        client = await open_client(server)
        with pytest.raises(ResponseTooLargeError):
            await client.request("GET", "/x", TOKEN)
        await server.until(lambda: server.open == 0)


async def test_a_response_that_drips_is_given_up_in_time(open_client: Opened) -> None:
    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()  # notices that the client has hung up
            await asyncio.sleep(0.02)

    async with raw_server(answer) as server:
        client = await open_client(server, total=0.3)
        with pytest.raises(TimeoutError) as error:
            await client.request("GET", "/x", TOKEN)
        assert not isinstance(error.value, aiohttp.ConnectionTimeoutError)
        await server.until(lambda: server.open == 0)


async def test_a_connection_that_is_never_made_is_told_from_a_slow_response(open_client: Opened) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:  # the queue of a listener that accepts nothing is full after a few
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        client = await open_client(f"http://127.0.0.1:{full.getsockname()[1]}", connect=0.2, total=5)
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            await client.request("GET", "/x", TOKEN)
        for one in waiting:
            one.close()


@pytest.mark.parametrize("stage", ["before the response", "in the body"])
async def test_a_cancelled_request_closes_its_connection_and_its_late_response_is_never_read(
    open_client: Opened, stage: str
) -> None:
    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        if b"/slow" in request:
            if stage == "in the body":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsl")
                await writer.drain()
            await asyncio.sleep(0.1)
            writer.write(b"ow" if stage == "in the body" else response(b"slow"))
        else:
            writer.write(response(b"fast"))

    async with raw_server(answer) as server:
        client = await open_client(server)
        await client.request("GET", "/x", TOKEN)
        task = asyncio.create_task(client.request("GET", "/slow", TOKEN))
        await server.until(lambda: len(server.requests) == 2)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(3):
            assert (await client.request("GET", "/x", TOKEN)).body == b"fast"
            await asyncio.sleep(0.05)
        await server.until(lambda: server.open == 1)


async def test_a_cancellation_at_any_turn_of_the_loop_leaks_no_connection(open_client: Opened) -> None:
    async with raw_server(replying(response())) as server:
        client = await open_client(server, pool=2)
        for turns in range(40):
            task = asyncio.create_task(client.request("PATCH", "/x", TOKEN, b"{}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        # With a place of the pool lost, one of these would wait for ever.
        async with asyncio.timeout(5):
            await asyncio.gather(*(client.request("GET", "/x", TOKEN) for _ in range(4)))
        await server.until(lambda: server.open <= 2)


async def test_no_more_connections_than_the_pool_has_places(open_client: Opened) -> None:
    async with raw_server(replying(response())) as server:
        client = await open_client(server, pool=3)
        answers = await asyncio.gather(*(client.request("GET", "/x", TOKEN) for _ in range(50)))
        assert len(answers) == 50
        assert server.connections <= 3


async def test_what_a_server_sends_unasked_is_not_taken_for_a_response(open_client: Opened) -> None:
    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(response(b"first" if b"/first" in request else b"second"))
        if b"/first" in request:
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.write(response(b"unasked"))

    async with raw_server(answer) as server:
        client = await open_client(server)
        assert (await client.request("GET", "/first", TOKEN)).body == b"first"
        await asyncio.sleep(0.15)
        assert (await client.request("GET", "/second", TOKEN)).body == b"second"


async def test_the_check_comes_right_before_the_bytes_and_its_context_ends_with_the_response(
    open_client: Opened,
) -> None:
    async with raw_server(replying(response())) as server:
        client = await open_client(server)
        notes: list[str] = []
        await client.request("GET", "/x", TOKEN, sending=lambda: noted(notes))
        assert notes == ["in", "out"]

        def refused() -> Iterator[None]:
            raise PermissionError

        with pytest.raises(PermissionError):
            await client.request("GET", "/x", TOKEN, sending=contextmanager(refused))
        await client.request("GET", "/y", TOKEN)
        assert len(server.requests) == 2
        assert server.connections == 1


@needs_connection_client
async def test_nothing_is_awaited_between_the_check_and_the_bytes_on_the_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        session = new_session()
        origin = URL(f"http://127.0.0.1:{listener.getsockname()[1]}")
        client = ConnectionClient(origin, session, timeout=5)
        seen: list[bytes] = []

        async def read(*_: object) -> None:
            peer, _address = listener.accept()
            with peer:
                peer.setblocking(False)
                seen.append(peer.recv(1000))  # in the same step of the same task that wrote
            raise aiohttp.ServerDisconnectedError

        monkeypatch.setattr(client, "_read", read)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.request("PATCH", "/x", TOKEN, b"{}")
        await session.close()
    assert seen[0].startswith(b"PATCH /x HTTP/1.1\r\n")
    assert seen[0].endswith(b"\r\n\r\n{}")


@asynccontextmanager
async def tls_server(folder: Path, names: str) -> AsyncIterator[tuple[RawServer, ssl.SSLContext]]:
    """A server with a certificate for these names, and a context that trusts its authority."""
    authority = Authority(folder)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(authority.issue("server", names))
    trusting = ssl.create_default_context(cafile=authority.certificate)
    async with raw_server(replying(response(b'{"tls": 1}')), context=serving) as server:
        yield server, trusting


async def test_tls_with_an_authority_of_ones_own(open_client: Opened, tmp_path: Path) -> None:
    async with tls_server(tmp_path, "IP:127.0.0.1") as (server, trusting):
        client = await open_client(server, context=trusting)
        for _ in range(3):
            assert (await client.request("PATCH", "/x", TOKEN, b"{}")).body == b'{"tls": 1}'
        assert server.connections == 1


@pytest.mark.parametrize("trouble", ["another name", "an unknown authority"])
async def test_a_certificate_that_is_not_right_sends_nothing(open_client: Opened, tmp_path: Path, trouble: str) -> None:
    names = "DNS:other.example" if trouble == "another name" else "IP:127.0.0.1"
    async with tls_server(tmp_path, names) as (server, trusting):
        context = trusting if trouble == "another name" else ssl.create_default_context()
        client = await open_client(server, context=context)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await client.request("PATCH", "/x", TOKEN, b"{}")
        assert server.requests == []


async def test_a_proxy_is_asked_to_connect_and_sees_no_request(open_client: Opened, tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, upstream), pump(upstream_reader, writer), return_exceptions=True)

    async with tls_server(tmp_path, "DNS:api.example") as (server, trusting):
        listening = await asyncio.start_server(proxy, "127.0.0.1", 0)
        address = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        client = await open_client("https://api.example", context=trusting, proxy=address)
        for _ in range(2):
            assert (await client.request("GET", "/secret", TOKEN)).body == b'{"tls": 1}'
        assert [request.split(b"\r\n")[0] for request in asked] == [b"CONNECT api.example:443 HTTP/1.1"]
        assert b"secret" not in asked[0]
        assert b"Bearer" not in asked[0]
        listening.close()


async def test_ipv6(open_client: Opened) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 address on its loopback interface")
    async with raw_server(replying(response()), host="::1") as server:
        client = await open_client(f"http://[::1]:{server.port}")
        assert (await client.request("GET", "/x", TOKEN)).status == 200
        assert f"host: [::1]:{server.port}\r\n".encode() in server.requests[0].lower()


async def test_a_large_body_is_sent_whole_to_a_server_that_reads_slowly(open_client: Opened) -> None:
    body = os.urandom(1_000_000)
    async with raw_server(replying(response())) as server:
        client = await open_client(server)
        assert (await client.request("POST", "/x", TOKEN, body)).status == 200
        assert server.requests[0].endswith(body)


async def test_a_server_that_never_reads_a_large_body_is_given_up_in_time(open_client: Opened) -> None:
    with socket.socket() as deaf:  # accepts in the kernel alone, with room for a fraction of the body
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        client = await open_client(f"http://127.0.0.1:{deaf.getsockname()[1]}", total=0.5)
        with pytest.raises(TimeoutError):
            await client.request("POST", "/x", TOKEN, os.urandom(1_000_000))


@pytest.mark.parametrize("given_up", ["in time", "by a cancellation"])
async def test_no_byte_of_a_write_leaves_after_it_was_given_up(open_client: Opened, given_up: str) -> None:
    body = bytes(1_000_000)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = await open_client(address, total=0.5 if given_up == "in time" else PATIENCE, narrow=True)
        request = asyncio.create_task(client.request("PATCH", "/x", TOKEN, body))
        peer, _ = await loop.sock_accept(listener)
        with peer:
            received = len(await loop.sock_recv(peer, 1000))
            if given_up == "by a cancellation":
                request.cancel()
            with pytest.raises(TimeoutError if given_up == "in time" else asyncio.CancelledError):
                await request
            with suppress(ConnectionResetError):
                while received < len(body) and (data := await loop.sock_recv(peer, 65536)):
                    received += len(data)
    assert received < len(body)  # what the kernel had taken by then


async def test_ten_thousand_requests_leak_neither_connections_nor_descriptors(open_client: Opened) -> None:
    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        number = int(request.split(b" ", 2)[1].rpartition(b"/")[2])
        if number % 50 == 1:
            writer.close()
        elif number % 50 == 2:
            writer.write(b"garbage\r\n\r\n")
        else:
            writer.write(response())

    before = descriptors()
    async with raw_server(answer) as server:
        client = await open_client(server, pool=8)

        async def ask(first: int) -> int:
            failures = 0
            for number in range(first, first + 1250):
                try:
                    await client.request("GET", f"/{number}", TOKEN)
                except BROKEN:
                    failures += 1
            return failures

        failures = sum(await asyncio.gather(*(ask(first * 1250) for first in range(8))))
        assert failures == 400
        assert len(server.requests) == 10_000
        gc.collect()
        await server.until(lambda: server.open <= 8)
        assert descriptors() < before + 30
