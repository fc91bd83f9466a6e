import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiokafka import ConsumerRecord

from consumer.ops.metrics import Metrics
from consumer.stream.dead_letters import DeadLetterError, Letter, Reason
from consumer.stream.ledger import Ledger
from consumer.stream.malformed import MalformedRecords
from consumer.stream.pending import Waiting
from tests.unit.stream.in_virtual_time import in_virtual_time


class Bench:
    def __init__(self) -> None:
        self.ledger = Ledger(Metrics(), lambda: 0.0)
        self.ledger.begin(1, {0: (0, "")})
        self.records = MalformedRecords(self, self.ledger)
        self.stored: list[int] = []
        self.refuses: set[int] = set()
        self.takes = 0.0

    def put(self, *offsets: int, generation: int = 1) -> None:
        for offset in offsets:
            self.ledger.deliver(0, offset)
            record = ConsumerRecord("t", 0, offset, 0, 0, b"k", b"{}", 0, 1, 2, ())
            self.records.put(record, Waiting(0, offset, "none", 0.0, 0.0, False), generation, "not an event")

    async def store(self, letter: Letter, reason: Reason, error: str, attempts: int) -> None:
        await asyncio.sleep(self.takes)
        if letter.offset in self.refuses:
            raise DeadLetterError("down")
        assert (letter.key, letter.value, reason, error, attempts) == (b"k", b"{}", "malformed", "not an event", 0)
        self.stored.append(letter.offset)

    @property
    def committable(self) -> int:
        return self.ledger.commit_plan({0: 1000})[0][0]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.records.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@in_virtual_time
async def test_all_are_stored_and_only_then_is_the_offset_free() -> None:
    bench = Bench()
    bench.takes = 1
    async with bench.running():
        bench.put(*range(250))
        await asyncio.sleep(1.5)
        assert bench.committable == 100
        await asyncio.sleep(10)

    assert sorted(bench.stored) == list(range(250))
    assert bench.committable == 1000
    assert len(bench.records) == bench.records.bytes_waiting == 0


@in_virtual_time
async def test_what_is_refused_is_tried_again_until_stored() -> None:
    bench = Bench()
    bench.refuses = {1}
    async with bench.running():
        bench.put(0, 1, 2)
        await asyncio.sleep(60)
        assert bench.stored == [0, 2]
        assert bench.committable == 1
        assert len(bench.records) == 1
        assert bench.records.bytes_waiting == 3  # key and value
        bench.refuses = set()
        await asyncio.sleep(3)

    assert bench.stored == [0, 2, 1]
    assert bench.committable == 1000


@in_virtual_time
async def test_what_was_dropped_is_not_tried_again() -> None:
    bench = Bench()
    bench.refuses = {0}
    bench.takes = 1
    async with bench.running():
        bench.put(0)
        await asyncio.sleep(0.5)
        bench.records.drop()
        bench.put(7, generation=2)
        await asyncio.sleep(60)

    assert bench.stored == [7]
    assert len(bench.records) == 0


@in_virtual_time
async def test_settling_waits_for_what_is_on_its_way() -> None:
    bench = Bench()
    bench.takes = 3
    async with bench.running():
        bench.put(0)
        await asyncio.sleep(1)
        await bench.records.settle(10)
        assert asyncio.get_running_loop().time() == 3
        assert bench.committable == 1000


@in_virtual_time
async def test_settling_ends_with_its_budget() -> None:
    bench = Bench()
    bench.takes = 30
    async with bench.running():
        bench.put(0)
        await asyncio.sleep(1)
        await bench.records.settle(2)
        assert asyncio.get_running_loop().time() == 3


@in_virtual_time
async def test_nothing_more_is_stored_once_settled() -> None:
    bench = Bench()
    bench.takes = 1
    async with bench.running():
        bench.put(*range(150))
        await asyncio.sleep(0.5)
        await bench.records.settle(10)
        await asyncio.sleep(5)  # the commit, in which a letter stored now would not be
        assert sorted(bench.stored) == list(range(100))
        bench.records.drop()
        bench.put(200, generation=2)
        await asyncio.sleep(5)

    assert bench.stored[100:] == [200]


@in_virtual_time
async def test_p5_records_that_are_refused_hold_back_none_that_come_later() -> None:
    bench = Bench()
    bench.refuses = set(range(150))
    async with bench.running():
        bench.put(*range(150))
        await asyncio.sleep(1)
        bench.put(*range(150, 400))
        await asyncio.sleep(0.5)
        assert sorted(bench.stored) == list(range(150, 400))
        assert len(bench.records) == 150
        assert bench.records.oldest_arrival() == 0.0
        bench.refuses = set()
        await asyncio.sleep(4)

    assert sorted(bench.stored) == list(range(400))
    assert len(bench.records) == bench.records.bytes_waiting == 0


@in_virtual_time
async def test_k2_any_exception_means_not_stored_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    failures: list[Exception] = [AssertionError("Need at least one: key or value"), RuntimeError(), OSError()]
    store = bench.store

    async def failing(letter: Letter, reason: Reason, error: str, attempts: int) -> None:
        if failures:
            raise failures.pop()
        await store(letter, reason, error, attempts)

    monkeypatch.setattr(bench, "store", failing)
    async with bench.running():
        bench.put(0)
        await asyncio.sleep(1)
        assert bench.committable == 0
        await asyncio.sleep(20)

    assert bench.stored == [0]
    assert bench.committable == 1000


@in_virtual_time
async def test_a_drop_forgets_what_the_topic_refused_and_what_it_refuses_later() -> None:
    bench = Bench()
    bench.takes, bench.refuses = 1.0, {1, 2}
    async with bench.running():
        bench.put(1)
        await asyncio.sleep(1.5)
        assert len(bench.records) == 1, "it waits to be tried again"
        bench.records.drop()
        assert len(bench.records) == 0
        bench.put(2)
        await asyncio.sleep(0.5)
        bench.records.drop()  # while it is being stored
        await asyncio.sleep(1)
        assert len(bench.records) == 0
        bench.refuses.clear()
        bench.put(3, generation=2)
        await asyncio.sleep(10)
    assert bench.stored == [3]
