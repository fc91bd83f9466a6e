"""Listens on a port and serves an aiohttp application there, within `ConnectionLimits`."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from consumer.failure import Failure
from consumer.ports.connections import ConnectionLimits, Connections

_BACKLOG: Final = 128
_RECEIVE_BUFFER: Final = 64 * 1024
"""Bytes that the kernel takes from a client before it is read, and so the most that one read can bring."""

_RETRY_ACCEPT: Final = 0.1
"""Seconds until `accept` is tried again after it failed."""


@asynccontextmanager
async def serve(
    app: web.Application, host: str, port: int, limits: ConnectionLimits, *, name: str, grace: float
) -> AsyncIterator[int]:
    """Serve the application inside the block, and yield the port's number.

    At the end it listens no more, and open requests get `grace` seconds. Bodies are handed on as they were sent,
    compressed or not.

    Args:
        app: the application; `connections.bounded` must be its first middleware.
        host: the address to listen on.
        port: the port; 0 for any free one.
        limits: bounds of its connections.
        name: `admin` or `ingest`: the settings to change are called ADMIN_HOST and ADMIN_PORT.
        grace: seconds for open requests at the end.

    Raises:
        Failure: the port is taken or the host is not ours.
    """
    log = logging.getLogger(f"{name}.http")
    log.addFilter(_without_quotes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=grace)
    try:
        listeners = await _listen(host, port)
    except OSError as error:
        settings = f"{name.upper()}_HOST or {name.upper()}_PORT"
        raise Failure(f"cannot listen on {host}:{port}: {error.strerror or error}; change {settings}") from error
    await runner.setup()
    connections = Connections(name, limits)
    server = cast("web.Server", runner.server)  # there is one after `setup`
    deadlines = asyncio.create_task(connections.run(), name=f"{name}-deadlines")
    accepting = [
        asyncio.create_task(_accept(listener, connections, server, log), name=f"{name}-accept")
        for listener in listeners
    ]
    try:
        yield listeners[0].getsockname()[1]
    finally:
        for task in accepting:
            task.cancel()
        connections.closing.set()
        await asyncio.gather(*accepting, return_exceptions=True)
        for listener in listeners:
            listener.close()
        await runner.cleanup()
        deadlines.cancel()  # not before: open requests keep theirs
        await asyncio.gather(deadlines, return_exceptions=True)


async def _listen(host: str, port: int) -> Sequence[socket.socket]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            listeners.append(listener)
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)  # passed on to what it accepts
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


async def _accept(listener: socket.socket, connections: Connections, server: web.Server, log: logging.Logger) -> None:
    """Accept one connection after the other, until cancelled: asyncio's own server takes a hundred before it looks."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            sock, _ = await loop.sock_accept(listener)
        except OSError:  # most likely the process has no descriptor left
            connections.cut_oldest()
            await asyncio.sleep(_RETRY_ACCEPT)
            continue
        if not connections.make_room():
            sock.close()
            continue
        with suppress(OSError):  # closed by its client in this moment
            await loop.connect_accepted_socket(
                lambda: connections.add(
                    server,
                    # Bounded by `ConnectionLimits`; of no effect beside them.
                    keepalive_timeout=2 * connections.limits.idle,
                    access_log=None,
                    logger=log,
                    lingering_time=0,
                    auto_decompress=False,
                ),
                sock,
            )


def _without_quotes(record: logging.LogRecord) -> bool:
    """Reduce to its kind what aiohttp logs of a request it cannot read: it quotes the line, the secret's too (P8)."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError | web.RequestPayloadError):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args, record.exc_info = "unreadable request: %s", (type(error).__name__,), None
    return True
