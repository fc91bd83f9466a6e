"""A TCP relay on loopback that forgets connections as a NAT gateway does: no byte, no FIN, no RST tells either side."""

import asyncio
from contextlib import suppress
from typing import Any, Self

_CHUNK = 64 * 1024


class Relay:
    """Passes bytes between clients and one target, for `async with`.

    A connection without traffic for `idle_timeout` seconds is forgotten: both sockets stay open, and what either side
    sends from then on is swallowed. `forget()` does that to every open connection at once.
    """

    def __init__(
        self, target: str, *, idle_timeout: float | None = None, end_delay: float = 0.0, port: int = 0
    ) -> None:
        """Relay to `target` (host:port), listening on `port` of 127.0.0.1, or on any free one.

        `end_delay` is how many seconds later than its last bytes the end of a connection is passed on: a proxy
        delivers the request of a client that hung up right behind it.
        """
        host, _, target_port = target.rpartition(":")
        self._target = (host, int(target_port))
        self._idle_timeout = idle_timeout
        self._end_delay = end_delay
        self._port = port
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._serving: set[asyncio.Task[Any]] = set()
        self.accepted = 0
        """Connections accepted so far."""
        self.forgotten = 0
        """Connections forgotten so far."""

    @property
    def address(self) -> str:
        """Where it listens, as host:port."""
        assert self._server is not None, "the relay is not running"
        return "{}:{}".format(*self._server.sockets[0].getsockname()[:2])

    def forget(self) -> None:
        """Forget every connection that is open now; later ones work."""
        for connection in self._connections:
            connection.forget()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.close()
        await self._server.wait_closed()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            upstream = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        connection = _Connection(self, (reader, writer), upstream, self._idle_timeout, self._end_delay)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


class _Connection:
    def __init__(
        self,
        relay: Relay,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        target: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        idle_timeout: float | None,
        end_delay: float,
    ) -> None:
        self._relay = relay
        self._client, self._target = client, target
        self._idle_timeout = idle_timeout
        self._end_delay = end_delay
        self._loop = asyncio.get_running_loop()
        self._active_at = self._loop.time()
        self._forgotten = False

    def forget(self) -> None:
        if not self._forgotten:
            self._forgotten = True
            self._relay.forgotten += 1

    def close(self) -> None:
        for _, writer in (self._client, self._target):
            writer.close()

    async def run(self) -> None:
        with suppress(ConnectionError):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass(self._client[0], self._target[1]))
                tasks.create_task(self._pass(self._target[0], self._client[1]))
        self.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                now = self._loop.time()
                if self._idle_timeout is not None and now - self._active_at >= self._idle_timeout:
                    self.forget()
                self._active_at = now
                if not self._forgotten:
                    writer.write(data)
                    await writer.drain()
        await asyncio.sleep(self._end_delay)
        # The end of a forgotten connection is not passed on either.
        if not self._forgotten:
            writer.close()
