"""Clients that open connections to a port and send half a request line, as many as they can, until told to stop."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

HALF = b"GET /livez HTT"
REJECTED = b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@asynccontextmanager
async def crowd(port: int, count: int, first: bytes = b"") -> AsyncIterator[None]:
    """Keep `count` connections open that sent `first` and then half a request; a closed one is opened again."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft > count + 100, "the clients need descriptors of their own"

    async def client() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(first + HALF)
                    while await reader.read(1 << 16):
                        pass
                finally:
                    writer.transport.abort()
            await asyncio.sleep(1)

    clients = [asyncio.create_task(client()) for _ in range(count)]
    try:
        await asyncio.sleep(0.5)
        yield
    finally:
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
