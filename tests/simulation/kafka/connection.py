"""aiokafka's connection without a socket, and how a client gets one."""

import asyncio
from collections import deque
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.util import create_future, wait_for

from tests.simulation.host import Host
from tests.simulation.kafka.network import Network, Node, Path, Wire

_ANY_VERSION: Final = (0, 99)

_PREPARED: Final[dict[int, tuple[int, int]]] = dict.fromkeys(range(100), _ANY_VERSION)


class _Socket:
    """What aiokafka's connection asks of its reader, its writer and its reading task."""

    _buffer = b""

    def __init__(self, connection: "SimulatedConnection") -> None:
        self._connection = connection

    def at_eof(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def close(self) -> None:
        self._connection.closed()


class SimulatedConnection(AIOKafkaConnection):
    """A connection of a host to a node. It closes, fails and times out as aiokafka's own."""

    def __init__(self, host: str, port: int, network: Network, path: Path, **options: Any) -> None:
        super().__init__(host, port, **options)  # type: ignore[no-untyped-call]
        self._network = network
        self._path = path
        self._wire: Wire | None = None
        self._versions = _PREPARED

    async def connect(self) -> None:
        """Connect, and ask for the API versions as aiokafka does.

        Raises:
            OSError, TimeoutError, KafkaError: as a connection of aiokafka.
        """
        self._closed_fut = create_future()
        async with asyncio.timeout(self._request_timeout):
            await asyncio.sleep(2 * self._network.delay())
            while self._path.cut:  # noqa: ASYNC110 - until a SYN arrives, which is sent again and again
                await asyncio.sleep(0.5)
            if self._path.refused or not self._path.node.up:
                raise ConnectionRefusedError(111, f"Connect call failed ('{self._host}', {self._port})")
        self._wire = Wire(self._network, self._path, self)
        socket: Any = _Socket(self)
        self._reader = self._writer = self._read_task = socket
        try:
            await self.send(ApiVersionRequest())
        except BaseException:
            self.close()  # type: ignore[no-untyped-call]
            raise

    def send(self, request: Any, expect_response: bool = True) -> Any:
        """Send a request, and return an awaitable of its response."""
        if self._writer is None or self._wire is None:
            raise KafkaConnectionError(f"No connection to broker at {self._host}:{self._port}")
        prepared = request.prepare(self._versions)
        correlation_id = self._next_correlation_id()  # type: ignore[no-untyped-call]
        self._wire.send(correlation_id, prepared)
        future = self._loop.create_future()
        if not expect_response:
            future.set_result(None)
            return future
        self._waiting.append((correlation_id, prepared, future))
        return wait_for(future, self._request_timeout)

    @property
    def _requests(self) -> Any:
        """The requests that wait; a held fetch is none of them, unless the connection is dead."""
        waiting = self._waiting
        if waiting and self._wire is not None and self._wire.idles:
            return deque(list(waiting)[1:])
        return waiting

    @_requests.setter
    def _requests(self, requests: Any) -> None:
        self._waiting = requests

    def arrived(self, correlation_id: int, response: Any) -> None:
        """Take the response of the request that waits longest."""
        if self._reader is None or not self._waiting:
            return
        known, _, future = self._waiting.popleft()
        if known != correlation_id:
            raise AssertionError(f"response {correlation_id} arrived before that of request {known}")
        if not future.done():
            future.set_result(response)

    def broken(self) -> None:
        """Take note that the other side has closed the connection."""
        error = ConnectionResetError(104, "Connection reset by peer")
        self.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)  # type: ignore[no-untyped-call]

    def closed(self) -> None:
        """Close the simulated socket; aiokafka then fails all requests that wait."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        closed: Any = self._closed_fut
        self._loop.call_soon(lambda: None if closed.done() else closed.set_result(None))

    def hurry(self) -> None:
        """Have a fetch that the node holds answered as soon as a broker would answer it."""
        if self._wire is not None and self._wire.hurry is not None:
            self._wire.hurry()

    def __del__(self, _warnings: Any = None) -> None:
        """Do nothing: the connections of a crashed host are never closed."""


class Connector:
    """How the clients of one host connect."""

    def __init__(self, host: Host, network: Network, nodes: dict[tuple[str, int], Node]) -> None:
        self.host: Final = host
        self.network: Final = network
        self._nodes = nodes

    async def connect(self, host: str, port: int, **options: Any) -> SimulatedConnection:
        """Return a connection to the node at this address; does what aiokafka's `create_conn` does."""
        node = self._nodes.get((host, port))
        if node is None:
            raise OSError(f"[Errno -2] Name or service not known: {host}:{port}")
        options.pop("security_protocol", None)
        connection = SimulatedConnection(host, port, self.network, self.network.path(self.host, node), **options)
        await connection.connect()
        return connection
