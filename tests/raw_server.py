"""An HTTP server of raw bytes: it keeps each request as it arrived and answers with whatever a test writes."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""Gets a whole request and the connection to answer on; closes it if the test wants that."""


class RawServer:
    """What arrived at the server. Obtained from `raw_server`."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.port = 0
        self._changed = asyncio.Condition()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this holds; looked at whenever a connection or a request comes or goes."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        self.open += 1
        await self._notify()
        try:
            while request := await _whole_request(reader):
                self.requests.append(request)
                await self._notify()
                await self.answer(request, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            self.open -= 1
            await self._notify()
            writer.close()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@asynccontextmanager
async def raw_server(
    answer: Answer, *, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Serve on a free port of `host`, with TLS where a context is given."""
    server = RawServer(answer)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(asyncio.CancelledError):
            await server.serve(reader, writer)
        tasks.discard(task)

    listening = await asyncio.start_server(serve, host, 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def replying(response: bytes, *, close: bool = False) -> Answer:
    """Answer every request with these bytes, and hang up after them with `close`."""

    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(response)
        if close:
            await writer.drain()
            writer.close()

    return answer


def response(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    """Return a response with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _whole_request(reader: asyncio.StreamReader) -> bytes:
    """Return the next request, or nothing when the client has hung up."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return head + (await reader.readexactly(int(lengths[0])) if lengths else b"")
