"""What running objects tell of themselves: who waits for what, and since when."""

import asyncio

from consumer.clients.quota import QuotaGate
from consumer.ops.metrics import Metrics
from consumer.stream.flight import Again, Flight
from consumer.stream.waits import Waits
from tests.unit.stream.in_virtual_time import in_virtual_time
from tests.unit.stream.test_malformed import Bench as MalformedBench
from tests.unit.stream.test_user_queues import LINGER, Bench

NOBODY = Waits(lingering=0, retrying=0, ready=0, starting=0, reading=0, writing=0, giving_up=0, parked=0)


@in_virtual_time
async def test_every_user_with_something_to_do_is_counted_where_it_waits() -> None:
    bench = Bench(concurrency=2)

    async def sync(flight: Flight) -> None:
        await asyncio.sleep(5)
        with flight.writing():
            await asyncio.sleep(5)

    bench.sync = sync
    async with bench.running():
        assert bench.queues.waits() == NOBODY
        for user in "abc":
            bench.put(user)
        assert bench.queues.waits() == Waits(3, 0, 0, 0, 0, 0, 0, 0)
        await asyncio.sleep(LINGER + 1)
        assert bench.queues.waits() == Waits(0, 0, 1, 0, 2, 0, 0, 0)
        bench.put("d")
        await asyncio.sleep(5)
        assert bench.queues.waits() == Waits(0, 0, 2, 0, 0, 2, 0, 0)
        await asyncio.sleep(60)
        assert bench.queues.waits() == NOBODY


@in_virtual_time
async def test_a_user_that_will_be_tried_again_does_not_count_as_lingering() -> None:
    bench = Bench()

    async def fail(flight: Flight) -> None:
        flight.queue.attempts += 1

    bench.sync, bench.verdicts = fail, [Again(30)]
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(LINGER + 1)
        assert bench.queues.waits() == Waits(0, 1, 0, 0, 0, 0, 0, 0)
        await asyncio.sleep(60)
        assert bench.queues.waits() == NOBODY


@in_virtual_time
async def test_a_malformed_record_waits_until_it_is_stored() -> None:
    bench = MalformedBench()
    bench.refuses = {1}
    async with bench.running():
        assert (len(bench.records), bench.records.oldest_arrival()) == (0, None)
        bench.put(0, 1)
        bench.takes = 3
        await asyncio.sleep(1)
        assert (len(bench.records), bench.records.oldest_arrival()) == (2, 0.0)  # being stored is not stored
        await asyncio.sleep(3)
        assert len(bench.records) == 1
        bench.refuses.clear()
        await asyncio.sleep(10)
        assert (len(bench.records), bench.records.oldest_arrival()) == (0, None)


@in_virtual_time
async def test_a_gate_tells_its_share_its_line_and_its_pause() -> None:
    gate = QuotaGate("mailmojo", 10.0, 2.0, metrics=Metrics(), share=0.5)
    state = gate.state()
    assert (state.share, state.per_second, state.in_line, state.closed_for) == (0.5, 5.0, 0, 0.0)
    gate.close(30)

    async def wait() -> None:
        async with gate.turn(1):
            pass

    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(wait())
        await asyncio.sleep(10)
        state = gate.state()
        assert (state.in_line, state.closed_for) == (3, 20.0)
    assert gate.state().in_line == 0
    gate.set_share(0)
    assert gate.state().per_second == 0
