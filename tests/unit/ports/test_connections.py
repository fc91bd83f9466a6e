"""A port over real sockets: clients that send too little, read too little, or come in crowds."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import uvloop
from aiohttp import web

from consumer.ports import connections, serving
from consumer.ports.connections import ConnectionLimits, bounded
from tests.waiting import wait_until

HALF = b"GET /livez HTT"
WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
BIG = bytes(8 << 20)


class Client:
    """A connection that sends bytes and looks at what comes back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self) -> tuple[int, bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def ended(self, within: float = 30.0) -> bool:
        """Wait until the server ends the connection, and return whether it does so in time."""
        try:
            async with asyncio.timeout(within):
                with suppress(ConnectionError):
                    while await self.reader.read(1 << 16):
                        pass
        except TimeoutError:
            return False
        return True


class Port:
    """A port, and the handler that answers there."""

    def __init__(self) -> None:
        self.number = 0
        self.transports: list[asyncio.Transport] = []
        self.stopped = asyncio.Event()
        self._clients: list[Client] = []

    async def connect(self, data: bytes = b"") -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.number))
        self._clients.append(client)
        await client.send(data)
        return client

    async def get(self) -> int:
        return (await (await self.connect(WHOLE)).response())[0]

    async def answer(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        self.transports.append(request.transport)
        if request.path in {"/hang", "/late"}:
            await self.stopped.wait()
        if request.path == "/big":
            return web.Response(body=BIG)
        if request.path != "/":
            raise web.HTTPNotFound
        return web.Response(text="ok")

    def close(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Port]]]:
    @asynccontextmanager
    async def port(**limits: float) -> AsyncIterator[Port]:
        port = Port()
        app = web.Application(middlewares=[bounded])
        app.router.add_route("*", "/{path:.*}", port.answer)
        bounds = ConnectionLimits(**({"most": 50, "head": 30, "idle": 30} | limits))  # type: ignore[arg-type]
        async with serving.serve(app, "127.0.0.1", 0, bounds, name="admin", grace=0.1) as port.number:
            try:
                yield port
            finally:
                port.stopped.set()
                port.close()

    async with AsyncExitStack() as stack:
        yield lambda **limits: stack.enter_async_context(port(**limits))


Serve = Callable[..., Awaitable[Port]]


async def test_p4_a_request_line_that_is_never_finished_is_cut_in_time(serve: Serve) -> None:
    port = await serve(head=0.3)
    client, silent = await port.connect(HALF), await port.connect()
    assert await client.ended()
    assert await silent.ended()
    assert await port.get() == 200


async def test_p4_a_head_that_trickles_in_is_cut_in_time_on_a_used_connection_as_well(serve: Serve) -> None:
    port = await serve(head=0.5)
    client = await port.connect(WHOLE)
    assert await client.response() == (200, b"ok")
    await client.send(WHOLE[:-2])
    for _ in range(50):
        if await client.ended(0.1):
            break
        await client.send(b"x")
    else:
        pytest.fail("it trickles on")


async def test_p4_an_idle_connection_is_kept_for_a_while_and_then_closed(serve: Serve) -> None:
    port = await serve(idle=0.5)
    client = await port.connect(WHOLE)
    await client.response()
    await client.send(WHOLE)
    assert (await client.response())[0] == 200
    assert await client.ended()


async def test_p4_a_client_that_does_not_read_its_response_is_cut(serve: Serve) -> None:
    port = await serve(idle=0.5)
    client = await port.connect(WHOLE.replace(b"/ ", b"/big ", 1))
    await wait_until(lambda: port.transports != [] and port.transports[0].is_closing(), what="the connection is closed")
    received = 0
    with suppress(ConnectionError):
        while data := await client.reader.read(1 << 20):
            received += len(data)
    assert received < len(BIG)


async def test_p4_a_crowd_of_half_requests_takes_the_place_of_none_that_works(serve: Serve) -> None:
    port = await serve(most=8)
    hanging = await port.connect(WHOLE.replace(b"/ ", b"/hang ", 1))
    used = await port.connect(WHOLE)
    await used.response()
    crowd = [await port.connect(HALF) for _ in range(40)]
    assert await port.get() == 200
    assert [await client.ended(0.1) for client in crowd].count(False) <= 6  # the latest
    await used.send(WHOLE)
    assert (await used.response())[0] == 200
    port.stopped.set()
    assert (await hanging.response())[0] == 404


async def test_p4_a_port_full_of_running_requests_closes_new_connections(serve: Serve) -> None:
    port = await serve(most=3)
    hanging = [await port.connect(WHOLE.replace(b"/ ", b"/hang ", 1)) for _ in range(3)]
    await wait_until(lambda: len(port.transports) == 3, what="three requests are being handled")
    assert await (await port.connect(WHOLE)).ended()
    port.stopped.set()
    assert [(await client.response())[0] for client in hanging] == [404] * 3
    assert await port.get() == 200


@pytest.mark.parametrize("more", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3])
async def test_p4_a_rejected_request_ends_its_connection(serve: Serve, more: bytes) -> None:
    port = await serve()
    client = await port.connect(WHOLE.replace(b"/ ", b"/nothing ", 1) + more)
    assert (await client.response())[0] == 404
    assert await client.reader.read() == b""


async def test_p5_nothing_more_is_read_of_a_rejected_request_and_its_response_arrives(serve: Serve) -> None:
    port = await serve()
    head = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99000000\r\n\r\n"
    client = await port.connect(head)
    sent = 0

    async def send() -> None:
        nonlocal sent
        with suppress(ConnectionError):
            while sent < 99_000_000:
                await client.send(bytes(1 << 16))
                sent += 1 << 16

    sending = asyncio.create_task(send())
    assert (await client.response())[0] == 404
    assert await client.ended()
    await sending
    assert sent < 9_000_000  # what the buffers of both sides take


async def test_p4_a_client_that_is_gone_when_its_request_is_rejected_leaves_no_error(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    port = await serve()
    head = b"POST /late HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99000000\r\n\r\n"
    client = await port.connect(head)
    await wait_until(lambda: port.transports, what="the request is handled")
    client.writer.transport.abort()
    await wait_until(port.transports[0].is_closing, what="the server sees the end")
    port.stopped.set()
    assert await port.get() == 200
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_port_answers_on_either_event_loop(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def answered() -> tuple[int, int]:
        port = Port()
        app = web.Application(middlewares=[bounded])
        app.router.add_route("*", "/{path:.*}", port.answer)
        limits = ConnectionLimits(most=1, idle=1)
        async with serving.serve(app, "127.0.0.1", 0, limits, name="admin", grace=0.1) as port.number:
            await port.connect(HALF)
            statuses = await port.get(), await port.get()
            port.close()
            return statuses

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(answered()) == (200, 200)


async def test_p4_long_heads_of_many_connections_take_little_memory_together(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_MOST_INCOMPLETE", 200_000)
    port = await serve()
    small = await port.connect(HALF)
    head = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: %s\r\n" % (number, bytes(8000)) for number in range(8))
    large = [await port.connect(head.replace(b"\0", b"a")) for _ in range(10)]
    assert [await client.ended(0.2) for client in large].count(False) <= 3
    assert await port.get() == 200
    assert not await small.ended(0.1)
    for client in large:
        client.writer.transport.abort()
    assert await port.get() == 200


async def test_a_port_that_is_closed_waits_for_no_rejected_client() -> None:
    async with AsyncExitStack() as stack:
        port = Port()
        app = web.Application(middlewares=[bounded])
        app.router.add_route("*", "/{path:.*}", port.answer)
        limits = ConnectionLimits(most=9, idle=30)
        serving_it = serving.serve(app, "127.0.0.1", 0, limits, name="admin", grace=30)
        port.number = await stack.enter_async_context(serving_it)
        client = await port.connect(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        assert (await client.response())[0] == 404
        async with asyncio.timeout(connections.LINGER / 2):
            await stack.aclose()
    port.close()
