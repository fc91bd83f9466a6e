"""A sync in virtual time, with an API that answers as a test says."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from consumer.clients.mailmojo import MailmojoClient
from consumer.clients.quota import QuotaGate
from consumer.clients.sesamy import SesamyClient
from consumer.clients.transport import Transport
from consumer.clients.wire import Answer
from consumer.ops.metrics import Metrics
from consumer.service import rules_of
from consumer.settings import Settings
from consumer.stream.flight import Flight, UserQueue
from consumer.stream.pending import Waiting
from consumer.sync.attempt import Attempt
from consumer.sync.controls import Controls
from consumer.sync.evidence import Evidence
from consumer.sync.flight import LeaseLost
from consumer.sync.syncer import Syncer
from tests.unit.clients.scripted import Token
from tests.unit.stream.in_virtual_time import in_virtual_time

EMPTY: dict[str, Any] = {"data": []}


class FakeWire:
    """Answers at once, and remembers when each write was sent."""

    def __init__(self) -> None:
        self.writes: list[float] = []
        self.on_contact: Callable[[], None] = lambda: None

    async def send(self, method: str, url: URL, **_: object) -> Answer:
        if method != "GET":
            self.writes.append(asyncio.get_running_loop().time())
        body: dict[str, Any] = EMPTY
        if "/users/" in url.path:
            body = {"userId": "kari", "email": "kari@example.no", "firstName": "Kari"}
        elif "/contacts/" in url.path:
            self.on_contact()
            body = {"email": "kari@example.no", "name": "K", "tags": [], "custom": {}}
        return Answer(200, json.dumps(body).encode(), CIMultiDictProxy(CIMultiDict()))


class FakeFields:
    status = "complete"

    async def ensure(self) -> None:
        pass


class FakeLease:
    generation = 1
    fresh = True

    def may_work(self, generation: int) -> bool:
        return self.fresh and generation == self.generation


@in_virtual_time
async def test_a19_a_gate_that_closes_just_before_a_write_does_not_separate_it_from_its_lease() -> None:
    """A response with Retry-After arrives when the write has been let through and has not been sent yet."""
    wire, metrics, lease = FakeWire(), Metrics(), FakeLease()
    gate = QuotaGate("mailmojo", 100, 100, metrics=metrics, stored_burst=True)
    token = Token("Bearer t")
    sesamy = Transport(
        "sesamy",
        "https://x",
        wire,  # type: ignore[arg-type]
        QuotaGate("sesamy", 100, 100, metrics=metrics, stored_burst=True),
        token,
    )
    mailmojo = MailmojoClient(Transport("mailmojo", "https://x", wire, gate, token), "1")  # type: ignore[arg-type]
    syncer = Syncer(SesamyClient(sesamy), mailmojo, FakeFields(), rules_of(Settings()), metrics)  # type: ignore[arg-type]
    queue = UserQueue("kari")
    queue.waiting.append(Waiting(0, 0, "contract.1#update", 0.0, 0.0, is_request=False))
    flight = Flight(queue, lease, coalesce=True, wrote=lambda _flight, _audit: None)

    evidence = Evidence(metrics, clock=asyncio.get_running_loop().time)
    attempt = Attempt("kari", flight, evidence, Controls(SesamyClient(sesamy), mailmojo, evidence))

    def close_twice() -> None:
        gate.close(1)
        loop = asyncio.get_running_loop()
        loop.call_at(loop.time() + 1 + 1e-10, gate.close, 60)  # when the write has its permit and its task did not run

    wire.on_contact = close_twice
    task = asyncio.create_task(syncer.sync("kari", attempt))
    await asyncio.sleep(30)
    lease.fresh = False
    with pytest.raises(LeaseLost):
        await task
    assert wire.writes == []
