"""The check of the lease and the write of the request are one step on every path of a sync (promise P2)."""

import asyncio
import socket
import ssl
import threading
from asyncio import selector_events
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from consumer.clients.build import open_clients
from consumer.clients.errors import Api
from consumer.clients.http import ConnectionClient
from consumer.ops.metrics import Metrics
from consumer.sandbox import Sandbox
from consumer.service import rules_of
from consumer.settings import load
from consumer.sync.flight import LoneFlight
from consumer.sync.syncer import Syncer
from tests.certificates import Authority
from tests.contract.every_answer import HIGH
from tests.http_clients import needs_connection_client

pytestmark = needs_connection_client

PATIENCE = 5.0
TRANSPORT: Any = vars(selector_events)["_SelectorSocketTransport"]
"""What asyncio's event loop writes with; typeshed does not know it."""


class WatchedSync(LoneFlight):
    """A sync that notes at each check of a write whether the request was written before the event loop's next turn."""

    def __init__(self) -> None:
        super().__init__()
        self.checked: list[str] = []
        self.written: list[bytes] = []
        self.too_late: list[str] = []
        self._open: str | None = None

    def sending(self, _api: Api, operation: str, /, *, writes: bool) -> AbstractContextManager[None]:
        if writes:
            self.checked.append(operation)
            self._open = operation
            # Whatever waits, if only for a future that is done, goes on after this callback.
            asyncio.get_running_loop().call_soon(self._turn)
        return nullcontext()

    def sees(self, data: bytes) -> None:
        if self._open is not None and data.startswith((b"PATCH ", b"POST ")):
            self.written.append(data.split(b" ")[0])
            self._open = None

    def _turn(self) -> None:
        if self._open is not None:
            self.too_late.append(self._open)
            self._open = None


async def synced(monkeypatch: pytest.MonkeyPatch) -> WatchedSync:
    """Sync a user without a contact, who changes, and one with a contact that is not on the list."""
    flight, write = WatchedSync(), TRANSPORT.write

    def watched(transport: Any, data: Any) -> None:
        flight.sees(bytes(data))
        write(transport, data)

    monkeypatch.setattr(TRANSPORT, "write", watched)
    async with Sandbox() as sandbox:
        world = sandbox.world
        world.add_user("email|new", profile={"email": "new@example.no"}, contracts=[])
        world.add_user("email|known", profile={"email": "known@example.no"}, contracts=[])
        world.add_contact("known@example.no")
        settings, metrics = load({**sandbox.environment, **HIGH}), Metrics()
        async with open_clients(settings, metrics) as clients:
            clients.set_share(1.0)
            syncer = Syncer(clients.sesamy, clients.mailmojo, clients.account_fields, rules_of(settings), metrics)
            await syncer.sync("email|new", flight)
            world.change("email|new")
            await syncer.sync("email|new", flight)
            await syncer.sync("email|known", flight)
    return flight


def selector_loop_only() -> None:
    if not isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
        pytest.skip("only asyncio's own transports can be watched")


async def test_no_turn_of_the_event_loop_lies_between_the_check_and_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    selector_loop_only()
    flight = await synced(monkeypatch)
    assert flight.too_late == []
    assert len(flight.written) == len(flight.checked)
    assert set(flight.written) == {b"POST", b"PATCH"}


async def test_a_turn_in_between_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    selector_loop_only()
    monkeypatch.setattr("consumer.clients.http.ConnectionClient.request", waiting_in_between)
    flight = await synced(monkeypatch)
    assert flight.written == []
    assert flight.too_late == flight.checked


_request = ConnectionClient.request


async def waiting_in_between(client: ConnectionClient, *args: Any, sending: Any = nullcontext, **options: Any) -> Any:
    """Check, wait for a turn of the loop, and write: what `ConnectionClient` must not do."""
    with sending():
        await asyncio.sleep(0)
        return await _request(client, *args, **options)


async def test_over_tls_the_bytes_leave_in_the_step_of_the_check_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("server", "IP:127.0.0.1"))
    arrived = threading.Event()

    def serve(listener: socket.socket) -> None:
        peer, _address = listener.accept()
        with context.wrap_socket(peer, server_side=True) as encrypted:
            if encrypted.recv(1000).startswith(b"PATCH /x HTTP/1.1\r\n"):
                arrived.set()
            encrypted.recv(1)

    in_the_same_step = []

    async def read(*_: object) -> None:
        in_the_same_step.append(arrived.wait(PATIENCE))  # the event loop stands still meanwhile
        raise aiohttp.ServerDisconnectedError

    monkeypatch.setattr(ConnectionClient, "_read", read)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve, args=(listener,))
        serving.start()
        origin = URL(f"https://127.0.0.1:{listener.getsockname()[1]}")
        trusting = ssl.create_default_context(cafile=authority.certificate)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session:
            client = ConnectionClient(origin, session, timeout=2 * PATIENCE)
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await client.request("PATCH", "/x", {}, b"{}")
        await asyncio.to_thread(serving.join)
    assert in_the_same_step == [True]
