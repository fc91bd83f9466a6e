"""Both APIs as one fast process: what a benchmark measures is then its contestant. `python -m tests.benchmarks.fake`.

It knows just the requests of a sync, answers each after the latency that was set, and counts (`fake_users.py`). It
prints its port, and takes commands under `/control/`.
"""

import asyncio
import gc
import re
import sys
import time
from collections import deque
from typing import Final, cast

import msgspec

from consumer.event_loop import run_loop
from tests.benchmarks.fake_users import FIELDS, Counts, FakeUsers, User

_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n"
    b"Date: Sun, 01 Nov 2026 12:00:00 GMT\r\nServer: fake\r\n\r\n"
)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TOKEN: Final = b'{"access_token":"token","token_type":"Bearer","expires_in":86400}'


class State(Counts, kw_only=True):
    """The counts, and how many syncs have begun and not ended."""

    in_flight: int


class Fake:
    """The state that all connections share."""

    def __init__(self) -> None:
        self._users = FakeUsers()
        self._known: dict[bytes, tuple[User, int]] = {}
        self._latency = 0.0
        self._waiting: deque[tuple[float, Connection, User, int, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def take(self, connection: "Connection", request: bytes, body: bytes) -> None:
        """Answer a request, now or after the latency."""
        known = self._known.get(request)
        if known is None:
            known = self._users.find(request.decode())
            if known is None:
                connection.respond(self._other(request, body))
                return
            self._known[request] = known
        user, call = known
        counts, now = self._users.counts, time.monotonic()
        counts.requests += 1
        counts.first = counts.first or now
        user.begin(call, counts)
        content = user.answer(call, body, counts)
        if self._latency:
            self._waiting.append((now + self._latency, connection, user, call, content))
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._latency, self._respond)
        else:
            user.answered(call, counts)
            counts.last = now
            connection.respond(content)

    def _respond(self) -> None:
        """Answer all requests whose time has come: one timer for all, and none early."""
        counts, now = self._users.counts, time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, connection, user, call, content = self._waiting.popleft()
            user.answered(call, counts)
            counts.last = now
            connection.respond(content)
        self._timer = None
        if self._waiting:
            wait = max(0.0, self._waiting[0][0] - now)
            self._timer = asyncio.get_running_loop().call_later(wait, self._respond)

    def _other(self, request: bytes, body: bytes) -> bytes:
        counts = self._users.counts
        match request:
            case b"POST /control/reset":
                self._latency = float(msgspec.json.decode(body))
                self._users.reset()
                return b"{}"
            case b"POST /control/forget":
                self._users.forget_syncs()
                return b"{}"
            case b"GET /control/counts":
                state = msgspec.structs.asdict(counts)
                return msgspec.json.encode(State(**state, in_flight=self._users.in_flight()))
            case b"POST /oauth/token":
                counts.others += 1
                return _TOKEN
            case b"GET /v1/fields/":
                counts.others += 1
                return FIELDS
        counts.violation(f"no such request: {request.decode()}")
        return b"{}"


class Connection(asyncio.Protocol):
    """One connection: requests one after the other, their bodies of a known length."""

    def __init__(self, fake: Fake) -> None:
        self._fake = fake
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not derived from it

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            body = b""
            begin = end = end + 4
            if not data.startswith(b"GET "):
                length = _LENGTH.search(data, 0, begin)
                if length is None:
                    raise ValueError("a request other than GET has no Content-Length")
                end += int(length[1])
                body = data[begin:end]
                if len(data) < end:
                    break
            self._fake.take(self, data[: data.index(b" HTTP/1.1\r\n")], body)
            data = data[end:]
        self._rest = data

    def respond(self, body: bytes) -> None:
        """Write a response, unless the client is gone."""
        if self._transport is not None:
            self._transport.write(_HEAD % len(body) + body)


async def serve() -> None:
    """Serve on a free port until killed."""
    fake = Fake()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(fake), "127.0.0.1", 0, backlog=2048)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(10_000)
    run_loop(serve())
