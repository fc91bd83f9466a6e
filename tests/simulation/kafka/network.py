"""Connections between hosts and nodes: latency, lost and refused connections, and answers in the order of requests.

A node works on one request of a connection at a time, as a broker does, so a held fetch or a join delays what was sent
after it. Requests and responses are aiokafka's own objects; nothing is encoded but record batches.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from tests.simulation.host import Host
from tests.simulation.timeline import Timeline

_ORDER: Final = 1e-6
"""Seconds between two messages of a connection, so that none overtakes another."""


class Node(Protocol):
    """The part of a broker that connections know."""

    @property
    def node_id(self) -> int:
        """Its number in the cluster."""

    @property
    def up(self) -> bool:
        """Whether it takes connections."""

    @property
    def frozen(self) -> bool:
        """Whether it takes connections, but answers nothing."""

    def handle(self, wire: "Wire", request: Any) -> None:
        """Begin to work on a request; `wire.reply` ends it."""


class Client(Protocol):
    """The client's end of a connection."""

    def arrived(self, correlation_id: int, response: Any) -> None:
        """Take a response."""

    def broken(self) -> None:
        """Take note that the other side has closed the connection."""


class Path:
    """The network between a host and a node."""

    def __init__(self, host: Host, node: Node) -> None:
        self.host = host
        self.node = node
        self.cut = False
        """Nothing passes, and neither side is told."""
        self.refused = False
        """New connections are refused."""
        self.wires: list[Wire] = []

    @property
    def is_silent(self) -> bool:
        """Whether requests stay without answers for now."""
        return self.cut or self.node.frozen


class Network:
    """All paths. Latencies are drawn anew for each message."""

    def __init__(self, timeline: Timeline, *, latency: tuple[float, float]) -> None:
        self.timeline: Final = timeline
        self.latency = latency
        """Shortest and longest time of a message, in seconds."""
        self.rng: Final[random.Random] = timeline.stream("kafka network")
        self._paths: dict[tuple[str, int], Path] = {}

    def path(self, host: Host, node: Node) -> Path:
        """Return the path between these two."""
        key = (host.name, node.node_id)
        path = self._paths.get(key)
        if path is None or path.host is not host:
            path = self._paths[key] = Path(host, node)
        return path

    def wires(self, node: Node | None = None, host: Host | None = None) -> "Iterator[Wire]":
        """Yield the open connections, those of a node or of a host."""
        for path in list(self._paths.values()):
            if (node is None or path.node is node) and (host is None or path.host is host):
                yield from list(path.wires)

    def delay(self) -> float:
        """Return how long the next message takes."""
        shortest, longest = self.latency
        return shortest + (longest - shortest) * self.rng.random()


class Wire:
    """One connection, from the moment it is open until one side closes it."""

    def __init__(self, network: Network, path: Path, client: Client) -> None:
        self.path: Final = path
        self.is_open = True
        self.hurry: Callable[[], None] | None = None
        """Set while a fetch is held: have it answered as soon as a broker would."""
        self.told: dict[Any, int] = {}
        """By log the end that a fetch was told last."""
        self._network = network
        self._client = client
        self._up: deque[tuple[int, Any]] = deque()
        self._queue: deque[tuple[int, Any]] = deque()
        self._down: deque[tuple[int, Any]] = deque()
        self._working_on: int | None = None
        self._forgotten = False
        self._last_up = self._last_down = 0.0
        path.wires.append(self)

    @property
    def idles(self) -> bool:
        """Whether a fetch is held that a broker would have answered by now: there is nothing to tell."""
        return self.hurry is not None and not self.path.is_silent and not self._forgotten

    def send(self, correlation_id: int, request: Any) -> None:
        """Send a request on its way to the node."""
        if self._forgotten:
            return
        if self.path.cut:
            self._up.append((correlation_id, request))
            return
        timeline = self._network.timeline
        when = self._last_up = max(self._last_up + _ORDER, timeline.now + self._network.delay())
        timeline.at(when, lambda: self._arrive(correlation_id, request))

    def _arrive(self, correlation_id: int, request: Any) -> None:
        if not self.is_open or self._forgotten:
            return
        if self.path.cut:
            self._up.append((correlation_id, request))
            return
        self._queue.append((correlation_id, request))
        if self.hurry is not None:
            self.hurry()
        self.pump()

    def pump(self) -> None:
        """Have the node work on the next request, if it can."""
        node = self.path.node
        if self.is_open and self._working_on is None and self._queue and node.up and not node.frozen:
            self._working_on, request = self._queue.popleft()
            node.handle(self, request)

    def reply(self, response: Any) -> None:
        """Answer the request that the node works on, and go on with the next one."""
        correlation_id, self._working_on, self.hurry = self._working_on, None, None
        if not self.is_open or correlation_id is None:
            return
        self._deliver(correlation_id, response)
        self.pump()

    def _deliver(self, correlation_id: int, response: Any) -> None:
        if self._forgotten:
            return
        if self.path.is_silent:
            self._down.append((correlation_id, response))
            return
        now = self._network.timeline.now
        self._last_down = max(self._last_down + _ORDER, now + self._network.delay())
        self.path.host.post(lambda: self._client.arrived(correlation_id, response), self._last_down - now)

    def healed(self) -> None:
        """Pass on what waited for the network, which TCP sends again until it arrives, or for a frozen node."""
        if self.path.is_silent:
            return
        up, down = self._up, self._down
        self._up, self._down = deque(), deque()
        for correlation_id, response in down:
            self._deliver(correlation_id, response)
        for correlation_id, request in up:
            self.send(correlation_id, request)
        self.pump()

    def forget(self) -> None:
        """Let nothing pass any more, as a gateway that forgot the connection; neither side is told."""
        self._forgotten = True
        self._up.clear()
        self._down.clear()

    def close(self) -> None:
        """Close it from the client's side."""
        if self.is_open:
            self.is_open = False
            self.path.wires.remove(self)
            self._queue.clear()
            self.hurry = None

    def break_(self) -> None:
        """Close it from the node's side, or in between: the client is told."""
        if self.is_open:
            self.close()
            self.path.host.post(self._client.broken, self._network.delay())
