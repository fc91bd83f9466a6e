"""A sync in virtual time, with an API that answers as a test says."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from consumer.clients.http import Answer, HttpClient
from consumer.clients.mailmojo import MailmojoClient
from consumer.clients.quota import QuotaGate
from consumer.clients.sesamy import SesamyClient
from consumer.clients.transport import Transport
from consumer.ops.metrics import Metrics
from consumer.service import rules_of
from consumer.settings import Settings
from consumer.stream.flight import Flight, UserQueue
from consumer.stream.pending import Waiting
from consumer.sync.attempt import Attempt
from consumer.sync.controls import Controls
from consumer.sync.evidence import Evidence
from consumer.sync.flight import LeaseLost
from consumer.sync.outcome import Outcome
from consumer.sync.syncer import Syncer
from tests.unit.clients.scripted import Token
from tests.unit.stream.in_virtual_time import in_virtual_time

EMPTY: dict[str, Any] = {"data": []}


class FakeClient(HttpClient):
    """Answers at once, and remembers when each write was sent."""

    def __init__(self) -> None:
        self.writes: list[float] = []
        self.custom: dict[str, str] = {}
        self.sent_custom: dict[str, str] = {}
        self.on_contact: Callable[[], None] = lambda: None

    async def request(self, method: str, target: str, *arguments: Any, **options: Any) -> Answer:
        _, sent = arguments
        with options["state"].allow(options["sending"]):
            return self._answer(method, target, sent)

    def _answer(self, method: str, target: str, sent: bytes) -> Answer:
        if method != "GET":
            self.writes.append(asyncio.get_running_loop().time())
            self.sent_custom = json.loads(sent)["custom"]
        body: dict[str, Any] = EMPTY
        if "/users/" in target:
            body = {"userId": "kari", "email": "kari@example.no", "firstName": "Kari"}
        elif "/contacts/" in target:
            self.on_contact()
            body = {"email": "kari@example.no", "name": "K", "tags": [], "custom": self.custom}
        return Answer(200, json.dumps(body).encode(), CIMultiDictProxy(CIMultiDict()))


class FakeFields:
    status = "complete"
    settled = True

    async def ensure(self) -> None:
        pass


class FakeLease:
    generation = 1
    fresh = True

    def may_work(self, generation: int) -> bool:
        return self.fresh and generation == self.generation


class Bench:
    """A syncer over the fake wire, and the flight of one user."""

    def __init__(self) -> None:
        self.http, self.lease, metrics, token = FakeClient(), FakeLease(), Metrics(), Token("Bearer t")
        self.gate = QuotaGate("mailmojo", 100, 100, metrics=metrics, stored_burst=True)
        reads = QuotaGate("sesamy", 100, 100, metrics=metrics, stored_burst=True)
        sesamy = SesamyClient(Transport("sesamy", "https://x", self.http, reads, token, metrics=metrics))
        mailmojo = MailmojoClient(Transport("mailmojo", "https://x", self.http, self.gate, token, metrics=metrics), "1")
        self._syncer = Syncer(sesamy, mailmojo, FakeFields(), rules_of(Settings()), metrics)  # type: ignore[arg-type]
        queue = UserQueue("kari")
        queue.waiting.append(Waiting(0, 0, "contract.1#update", 0.0, 0.0, is_request=False))
        flight = Flight(queue, self.lease, coalesce=True, wrote=lambda _flight, _audit: None)
        evidence = Evidence(metrics, clock=asyncio.get_running_loop().time)
        self._attempt = Attempt("kari", flight, evidence, Controls(sesamy, mailmojo, evidence))

    async def sync(self) -> Outcome:
        return await self._syncer.sync("kari", self._attempt)


@in_virtual_time
async def test_a19_a_gate_that_closes_just_before_a_write_does_not_separate_it_from_its_lease() -> None:
    """A response with Retry-After arrives when the write has been let through and has not been sent yet."""
    bench = Bench()

    def close_twice() -> None:
        bench.gate.close(1)
        loop = asyncio.get_running_loop()
        # When the write has its permit and its task did not run.
        loop.call_at(loop.time() + 1 + 1e-10, bench.gate.close, 60)

    bench.http.on_contact = close_twice
    task = asyncio.create_task(bench.sync())
    await asyncio.sleep(30)
    bench.lease.fresh = False
    with pytest.raises(LeaseLost):
        await task
    assert bench.http.writes == []


@in_virtual_time
@pytest.mark.parametrize(("closed_for", "theirs"), [(60, "vip"), (4, None)])
async def test_a_write_that_waited_long_is_based_on_a_second_read_of_the_contact(
    closed_for: float, theirs: str | None
) -> None:
    """Somebody else sets a field while the API asks to wait; the write replaces all fields."""
    bench = Bench()

    def close_once() -> None:
        bench.http.on_contact = lambda: None
        bench.gate.close(closed_for)
        asyncio.get_running_loop().call_later(3, bench.http.custom.update, {"Theirs": "vip"})

    bench.http.on_contact = close_once
    assert await bench.sync() is Outcome.UPDATED
    assert bench.http.writes == [closed_for]
    assert bench.http.sent_custom.get("Theirs") == theirs
