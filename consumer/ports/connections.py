"""Bounds on the connections of one port: how many, and how long each may take for what it sends and receives.

aiohttp bounds neither. A client that opens connections and sends half a request line would keep every descriptor of the
process, and with them Kafka and both APIs, for as long as it likes.
"""

import asyncio
import resource
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import IntEnum
from typing import Any, Final, cast

import structlog
from aiohttp import web
from msgspec import Struct

_log = structlog.get_logger("ports")

_SWEEP_EVERY: Final = 0.5
_LOG_EVERY: Final = 60.0

_MOST_INCOMPLETE: Final = 16 * 1024 * 1024
"""Bytes of incomplete requests that one port holds: aiohttp takes a megabyte of headers from each connection."""

LINGER: Final = 1.0
"""Seconds between a rejection and the end of a connection whose client still sends: closed at once, a connection is
reset, and the client may lose the response."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ConnectionLimits(Struct, frozen=True, kw_only=True):
    """What the connections of one port may take. Durations are seconds."""

    most: int
    """Open connections. Above that a new one takes the place of the oldest one that has sent no complete request."""
    head: float = 5.0
    """From the first byte, or from a connection's beginning, until a request line and its headers are complete."""
    idle: float
    """From the end of a request until the next one begins; the response has to be received in that time."""


def descriptors() -> int:
    """Return how many file descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


class _Phase(IntEnum):
    """What a connection is doing, in the order in which they are closed when there is no room."""

    NEW = 0
    REJECTED = 1
    IDLE = 2
    HEAD = 3
    HANDLING = 4
    """The only phase without a deadline here: a handler bounds what it waits for."""


class Connection(web.RequestHandler):
    """aiohttp's protocol of one connection, with deadlines."""

    __slots__ = ("_connections", "deadline", "incomplete", "opened", "phase")

    def __init__(self, connections: "Connections", server: web.Server, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._connections = connections
        self.opened: asyncio.Transport | None = None
        """The transport until it is closed; aiohttp's own `transport` is None as soon as it is to be closed."""
        self.incomplete = 0
        """Bytes that came of a request that is not complete."""
        self.phase = _Phase.NEW
        self.deadline = self._connections.now() + self._connections.limits.head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.opened = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End, and make room."""
        self.opened = None
        self._count(0)
        self._connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; it begins the time in which a next request must be complete."""
        if self.phase is _Phase.IDLE:
            self._enter(_Phase.HEAD, self._connections.limits.head)
        if self.phase in {_Phase.NEW, _Phase.HEAD}:
            self._count(self.incomplete + len(data))
        super().data_received(data)
        self._connections.limit_heads()

    def handle(self) -> None:
        """Note that a request is complete and its handler runs."""
        self._count(0)
        self._enter(_Phase.HANDLING, None)

    def handled(self) -> None:
        """Note that the handler returned; the response is about to be written."""
        self._enter(_Phase.IDLE, self._connections.limits.idle)

    def reject(self) -> None:
        """Read nothing more and say that this was all; the connection is closed after `LINGER`."""
        self._enter(_Phase.REJECTED, self._connections.limits.head)
        if self.opened is not None and not self.opened.is_closing():
            self.opened.pause_reading()
            self.opened.write_eof()

    async def linger(self) -> None:
        """Wait until a rejected client has had time to read the response, or the port is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                await self._connections.closing.wait()

    def cut(self) -> None:
        """Close at once, whatever was not sent or received yet."""
        self._count(0)
        if self.opened is not None:
            self.opened.abort()

    def _count(self, incomplete: int) -> None:
        self._connections.incomplete += incomplete - self.incomplete
        self.incomplete = incomplete

    def _enter(self, phase: _Phase, seconds: float | None) -> None:
        self.phase = phase
        self.deadline = float("inf") if seconds is None else self._connections.now() + seconds


class Connections:
    """All connections of one port."""

    def __init__(self, name: str, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.now = asyncio.get_running_loop().time
        self.incomplete = 0
        """Bytes that came of requests that are not complete."""
        self.closing = asyncio.Event()
        """Set when the port accepts no more connections."""
        self._name = name
        self._open: set[Connection] = set()
        self._logged = -_LOG_EVERY

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._open)

    def add(self, server: web.Server, **options: Any) -> Connection:
        """Return the protocol of a new connection."""
        connection = Connection(self, server, **options)
        self._open.add(connection)
        return connection

    def discard(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)

    def make_room(self) -> bool:
        """Return whether there is room for another connection, after closing one that does nothing if need be."""
        if len(self._open) < self.limits.most:
            return True
        if self.now() - self._logged >= _LOG_EVERY:
            self._logged = self.now()
            _log.warning("port.connections_limited", port=self._name, connections=len(self._open))
        return self.cut_oldest()

    def cut_oldest(self) -> bool:
        """Close the connection that has done nothing for the longest; return False where all are being handled."""
        oldest = min(self._open, key=lambda connection: (connection.phase, connection.deadline), default=None)
        if oldest is None or oldest.phase is _Phase.HANDLING:
            return False
        oldest.cut()
        self._open.discard(oldest)
        return True

    def limit_heads(self) -> None:
        """Close the connections with the longest incomplete requests while all of them together take too much."""
        while self.incomplete > _MOST_INCOMPLETE:
            longest = max(self._open, key=lambda connection: connection.incomplete, default=None)
            if longest is None:
                return
            longest.cut()
            self._open.discard(longest)

    async def run(self) -> None:
        """Close connections that are too slow, until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_EVERY)
            now = self.now()
            for connection in [connection for connection in self._open if connection.deadline <= now]:
                if connection.opened is None:  # its client was gone before it began
                    self._open.discard(connection)
                connection.cut()


@web.middleware
async def bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keep a connection's deadlines; a request that is rejected (4xx) ends its connection and is read no further."""
    connection = request.protocol
    if not isinstance(connection, Connection):  # served by something else, as in a test
        return await handler(request)
    connection.handle()
    try:
        response = await handler(request)
        await _end_if_rejected(request, response, connection)
    except web.HTTPException as refusal:
        await _end_if_rejected(request, refusal, connection)
        raise
    finally:
        connection.handled()
    return response


async def _end_if_rejected(request: web.Request, response: web.StreamResponse, connection: Connection) -> None:
    if not 400 <= response.status < 500 or response.prepared:
        return
    response.force_close()
    if not request.content.is_eof():
        with suppress(ConnectionError):  # the client is gone, which is no fault of this process
            await response.prepare(request)
            await response.write_eof()
        connection.reject()
        await connection.linger()
