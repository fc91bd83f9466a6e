"""The check that a caller makes, and the request that it allows, are one step."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp.connector import Connection
from multidict import CIMultiDict, CIMultiDictProxy

from consumer.clients.bounds import Progress, Sending
from consumer.clients.errors import Api, Unauthorized, Unavailable
from consumer.clients.http import Answer, ConnectionClient, HttpClient
from consumer.clients.mailmojo import MailmojoClient
from consumer.clients.quota import QuotaGate
from consumer.clients.transport import Transport
from consumer.ops.metrics import Metrics
from consumer.stream.flight import Flight, Phase, UserQueue
from consumer.stream.pending import Waiting
from consumer.sync.flight import LeaseLost
from tests.http_clients import needs_connection_client
from tests.unit.clients.scripted import Reply, Token, bench, in_turn
from tests.unit.stream.in_virtual_time import in_virtual_time


class Refusal(Exception):
    pass


class Guard:
    """Remembers what it was asked, and refuses when a test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bool]] = []
        self.answers: list[tuple[str, str, bytes]] = []
        self.open = 0
        self.refuses = False

    def sending(self, api: Api, operation: str, /, *, writes: bool) -> AbstractContextManager[None]:
        self.asked.append((api, operation, writes))
        if self.refuses:
            raise Refusal
        return self._request()

    def answered(self, api: Api, operation: str, body: bytes, /) -> None:
        self.answers.append((api, operation, body))

    @contextmanager
    def _request(self) -> Iterator[None]:
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


@pytest.mark.usefixtures("both_clients")
async def test_each_request_of_a_turn_is_allowed_by_its_guard_which_encloses_it() -> None:
    guard, seen = Guard(), []

    def script(_: object) -> Reply:
        seen.append(guard.open)
        return Reply(200, {})

    async with bench(script) as it, it.transport.turn(2, guard) as turn:
        await turn.request("GET", "/x/", operation="get_contact")
        await turn.request("PATCH", "/x/", operation="patch_contact", json={})
    assert guard.asked == [("mailmojo", "get_contact", False), ("mailmojo", "patch_contact", True)]
    assert seen == [1, 1]
    assert guard.open == 0


async def test_whoever_decodes_an_answer_can_tell_the_guard_that_it_was_as_expected() -> None:
    guard = Guard()
    async with bench(lambda _: Reply(200, b"{}")) as it, it.transport.turn(2, guard) as turn:
        answer = await turn.request("GET", "/x/", operation="get_contact")
        assert guard.answers == []
        turn.answered("get_contact", answer)
    async with bench(lambda _: Reply(200, b"{}")) as it, it.transport.turn(1) as turn:
        turn.answered("get_contact", answer)
    assert guard.answers == [("mailmojo", "get_contact", b"{}")]


@pytest.mark.usefixtures("both_clients")
async def test_a_read_that_is_sent_again_with_other_credentials_is_allowed_again() -> None:
    guard = Guard()
    async with bench(in_turn(Reply(401), Reply(401)), credentials=Token("Bearer a", "Bearer b")) as it:
        with pytest.raises(Unauthorized):
            async with it.transport.turn(1, guard) as turn:
                await turn.request("GET", "/x/", operation="get_contact")
    assert len(guard.asked) == 2


@pytest.mark.usefixtures("both_clients")
async def test_a_refused_request_is_not_sent_and_costs_no_permit() -> None:
    guard = Guard()
    guard.refuses = True
    async with bench(lambda _: Reply(), rate=0.001, burst=1) as it:
        for _ in range(5):  # the second would wait for the first one's permit for 1,000 s
            async with asyncio.timeout(60), it.transport.turn(1, guard) as turn:
                with pytest.raises(Refusal):
                    await turn.request("PATCH", "/x/", operation="patch_contact", json={})
        assert it.server.arrived == []


@pytest.mark.usefixtures("both_clients")
async def test_a_refused_request_is_not_counted_as_one() -> None:
    guard = Guard()
    guard.refuses = True
    async with bench(lambda _: Reply()) as it, it.transport.turn(1, guard) as turn:
        with pytest.raises(Refusal):
            await turn.request("PATCH", "/x/", operation="patch_contact", json={})
    assert b"sesamy_mailmojo_api_requests_total{" not in it.metrics.exposition()


@needs_connection_client
@pytest.mark.parametrize("both_clients", [ConnectionClient], indirect=True)
@pytest.mark.usefixtures("both_clients")
async def test_a19_a_write_that_waited_for_its_connection_is_allowed_after_that_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Right behind the check come the bytes: a process that is frozen while it connects does not write afterwards."""
    order: list[tuple[str, int]] = []

    class Noting(Guard):
        def sending(self, api: Api, operation: str, /, *, writes: bool) -> AbstractContextManager[None]:
            asyncio.get_running_loop().call_soon(order.append, ("the loop's next turn", 0))
            return super().sending(api, operation, writes=writes)

    guard = Noting()
    async with bench(lambda _: Reply()) as it:
        connector = it.session.connector
        assert connector is not None
        connect = connector.connect

        async def slowly(*arguments: Any) -> Connection:
            connection = await connect(*arguments)
            await asyncio.sleep(0.01)
            order.append(("connected", len(guard.asked)))
            assert connection.transport is not None
            write = connection.transport.write
            monkeypatch.setattr(
                connection.protocol, "transport", Mock(wraps=connection.transport, write=lambda data: sent(write, data))
            )
            return connection

        def sent(write: Callable[[bytes], None], data: bytes) -> None:
            order.append(("sent", guard.open))
            write(data)

        monkeypatch.setattr(connector, "connect", slowly)
        async with it.transport.turn(1, guard) as turn:
            await turn.request("PATCH", "/x/", operation="patch_contact", json={})
    assert order == [("connected", 0), ("sent", 1), ("the loop's next turn", 0)]


class FakeLease:
    generation = 1
    fresh = True

    def may_work(self, generation: int) -> bool:
        return self.fresh and generation == self.generation


class FakeClient(HttpClient):
    """Answers after a second, and remembers when each request was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, str]] = []

    async def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        sending: Sending = nullcontext,
        state: Progress | None = None,
    ) -> Answer:
        assert state is not None
        with state.allow(sending):
            self.sent.append((now(), method))
            await asyncio.sleep(1)
        return Answer(200, b'{"email": "kari@example.no"}', CIMultiDictProxy(CIMultiDict()))


class Sync:
    """The write round of a sync, in virtual time: a read, a `Retry-After` that another request got, a write."""

    def __init__(self) -> None:
        self.lease, self.http = FakeLease(), FakeClient()
        self.gate = QuotaGate("mailmojo", 100, 100, metrics=Metrics(), stored_burst=True)
        transport = Transport("mailmojo", "https://x", self.http, self.gate, Token("Bearer t"), metrics=Metrics())
        self._mailmojo = MailmojoClient(transport, "1")
        queue = UserQueue("kari")
        queue.waiting.append(Waiting(0, 0, "contract.1#update", 0.0, 0.0, is_request=False))
        self.flight = Flight(queue, self.lease, coalesce=True, wrote=lambda _flight, _audit: None)

    async def write(self, closed_for: float) -> None:
        self.flight.reading()
        async with self._mailmojo.turn(2, self.flight) as turn:
            await self._mailmojo.get_contact(turn, "kari@example.no")
            self.gate.close(closed_for)
            await self._mailmojo.patch_contact(turn, "kari@example.no", {})

    @property
    def methods(self) -> list[str]:
        return [method for _, method in self.http.sent]


def phase_of(sync: Sync) -> Phase:
    return sync.flight.phase


def now() -> float:
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_a19_a_write_that_waited_for_retry_after_is_not_sent_without_the_lease() -> None:
    sync = Sync()
    task = asyncio.create_task(sync.write(closed_for=60))
    await asyncio.sleep(10)
    sync.lease.fresh = False  # the partitions were taken away while the write waits for the gate
    with pytest.raises(LeaseLost):
        await task
    assert now() == 61
    assert sync.methods == ["GET"]


@in_virtual_time
async def test_a19_a_write_that_waits_for_the_gate_is_not_a_write_yet_and_can_be_cancelled() -> None:
    sync = Sync()
    task = asyncio.create_task(sync.write(closed_for=60))
    await asyncio.sleep(10)
    assert sync.flight.phase is Phase.READING
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sync.methods == ["GET"]


@in_virtual_time
async def test_a19_a_write_with_the_lease_is_sent_when_the_gate_opens_and_is_a_write_until_its_response() -> None:
    sync = Sync()
    task = asyncio.create_task(sync.write(closed_for=60))
    await asyncio.sleep(61.5)
    assert sync.http.sent == [(0, "GET"), (61, "PATCH")]
    assert phase_of(sync) is Phase.WRITING
    await task
    assert phase_of(sync) is Phase.READING


class SlowToken(Token):
    """Credentials that take their time, as a token that has to be fetched does."""

    def __init__(self, lease: FakeLease) -> None:
        super().__init__("Bearer t")
        self._lease = lease

    async def authorization(self) -> str:
        await asyncio.sleep(5)
        self._lease.fresh = False
        return "Bearer t"


@in_virtual_time
async def test_a19_a_write_that_waited_for_credentials_is_not_sent_without_the_lease() -> None:
    sync = Sync()
    token = SlowToken(sync.lease)
    transport = Transport("mailmojo", "https://x", sync.http, sync.gate, token, metrics=Metrics())
    sync.flight.reading()
    with pytest.raises(LeaseLost):
        async with transport.turn(1, sync.flight) as turn:
            await turn.request("PATCH", "/x/", operation="patch_contact", json={})
    assert sync.methods == []


class FailingClient(FakeClient):
    async def request(self, method: str, target: str, *arguments: Any, **options: Any) -> Answer:
        await super().request(method, target, *arguments, **options)
        raise aiohttp.ServerDisconnectedError


@in_virtual_time
async def test_a_write_that_fails_ends_the_write_phase() -> None:
    sync = Sync()
    transport = Transport("mailmojo", "https://x", FailingClient(), sync.gate, Token("Bearer t"), metrics=Metrics())
    sync.flight.reading()
    with pytest.raises(Unavailable):
        async with transport.turn(1, sync.flight) as turn:
            await turn.request("PATCH", "/x/", operation="patch_contact", json={})
    assert sync.flight.phase is Phase.READING
