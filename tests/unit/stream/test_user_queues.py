"""What the queues promise, one sentence at a time; `test_user_queues_model.py` has them in any order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from consumer.stream.aside import Aside
from consumer.stream.flight import Again, Flight, GiveUp, Landed, Parked, UserQueue, Verdict
from consumer.stream.line import SHARE
from consumer.stream.pending import Waiting
from consumer.stream.user_queues import GIVING_UP_AT_ONCE, UserQueues
from consumer.sync.flight import LeaseLost
from tests.unit.stream.in_virtual_time import in_virtual_time

LINGER = 2.0
REFUSED = GiveUp("rejected", "HTTP 400", 2)


def now() -> float:
    return asyncio.get_running_loop().time()


class FakeLease:
    generation = 1
    fresh = True

    def may_work(self, generation: int) -> bool:
        return self.fresh and generation == self.generation


class FakeAdmission:
    stopped = False


class Bench:
    """Queues over a scripted work, and what flew when."""

    def __init__(self, concurrency: int = 64, *, coalesce: bool = True) -> None:
        self.lease = FakeLease()
        self.admission = FakeAdmission()
        self.queues = UserQueues(
            self.lease, self.admission, concurrency=concurrency, linger=LINGER, coalesce=coalesce, clock=now
        )
        self.flown: list[tuple[float, str, list[int]]] = []
        self.verdicts: list[Verdict] = []
        self.given_up: list[tuple[float, str, list[int]]] = []
        self.store: Callable[[Flight], Awaitable[None]] | None = None
        self.letters: list[Landed | Again] = []
        self.sync: Callable[[Flight], Awaitable[None]] | None = None
        self._offsets = iter(range(10_000))

    def put(self, user: str, *, is_request: bool = False) -> int:
        offset = next(self._offsets)
        self.queues.put(user, Waiting(0, offset, "contract.1#update", 0.0, now(), is_request))
        return offset

    async def work(self, flight: Flight) -> Verdict:
        flight.reading()
        self.flown.append((now(), flight.user_id, [event.offset for event in flight.events]))
        if self.sync:
            await self.sync(flight)
        return self.verdicts.pop(0) if self.verdicts else Landed()

    async def give_up(self, flight: Flight, _: GiveUp) -> Landed | Again:
        self.given_up.append((now(), flight.user_id, [event.offset for event in flight.events]))
        if self.store:
            await self.store(flight)
        return self.letters.pop(0) if self.letters else Landed()

    def flights_of(self, user: str) -> list[list[int]]:
        return [offsets for _, name, offsets in self.flown if name == user]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.queues.run(self.work, self.give_up))
        self.queues.open()
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@in_virtual_time
async def test_a_sync_starts_a_linger_after_the_oldest_event_which_later_ones_do_not_extend() -> None:
    bench = Bench()
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(1.5)
        bench.put("a")
        await asyncio.sleep(10)

    assert bench.flown == [(LINGER, "a", [0, 1])]
    assert bench.queues.pending == 0


@in_virtual_time
async def test_what_arrives_during_a_sync_waits_for_the_next_which_lingers_from_its_arrival() -> None:
    bench = Bench()
    bench.sync = lambda _: asyncio.sleep(5)
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(6.5)
        bench.put("a")
        assert bench.queues.pending == 2
        await asyncio.sleep(10)

    assert bench.flown == [(2.0, "a", [0]), (8.5, "a", [1])]


@in_virtual_time
async def test_without_coalescing_each_event_has_a_sync_of_its_own() -> None:
    bench = Bench(coalesce=False)
    bench.verdicts = [Landed(), Again(1)]
    async with bench.running():
        for _ in range(3):
            bench.put("a")
        await asyncio.sleep(10)

    assert bench.flights_of("a") == [[0], [1], [1], [2]]


@in_virtual_time
async def test_users_fly_oldest_event_first_and_requests_after_events() -> None:
    bench = Bench(concurrency=1)
    bench.sync = lambda _: asyncio.sleep(10)
    async with bench.running():
        bench.put("first")
        await asyncio.sleep(1)
        bench.put("request", is_request=True)
        await asyncio.sleep(1)
        bench.put("late")
        await asyncio.sleep(50)

    assert [user for _, user, _ in bench.flown] == ["first", "late", "request"]


@in_virtual_time
async def test_an_event_waits_in_no_line_for_permits_behind_more_than_one_request() -> None:
    bench = Bench(concurrency=8)
    permits = asyncio.Semaphore(0)  # in the order of the line, as at the quota's gate

    async def one_permit_each(flight: Flight) -> Verdict:
        async with permits:
            return await bench.work(flight)

    queues = bench.queues
    task = asyncio.create_task(queues.run(one_permit_each, bench.give_up))
    queues.open()
    for number in range(6):
        bench.put(f"asked-{number}", is_request=True)
    await asyncio.sleep(3)
    bench.put("asked-5")
    bench.put("eager")
    await asyncio.sleep(3)
    permits.release()
    await asyncio.sleep(10)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert [user for _, user, _ in bench.flown] == ["asked-0", "asked-5", "eager", *(f"asked-{n}" for n in range(1, 5))]


@in_virtual_time
async def test_requests_use_all_slots_where_no_permit_has_to_be_waited_for() -> None:
    bench = Bench(concurrency=8)
    bench.sync = lambda _: asyncio.sleep(5)
    async with bench.running():
        for number in range(20):
            bench.put(f"asked-{number}", is_request=True)
        await asyncio.sleep(3)
        assert (len(bench.flown), {at for at, _, _ in bench.flown}) == (8, {LINGER})
        await asyncio.sleep(60)
    assert len(bench.flown) == 20


@in_virtual_time
async def test_a_request_that_fails_in_the_line_for_permits_holds_back_no_other() -> None:
    bench = Bench()

    failed: list[str] = []

    async def fails_at_first(flight: Flight) -> Verdict:
        if failed:
            return await bench.work(flight)
        failed.append(flight.user_id)
        return Again(100)

    task = asyncio.create_task(bench.queues.run(fails_at_first, bench.give_up))
    bench.queues.open()
    for number in range(3):
        bench.put(f"asked-{number}", is_request=True)
    await asyncio.sleep(3)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert [user for _, user, _ in bench.flown] == ["asked-1", "asked-2"]


@pytest.mark.parametrize("joins_after", [1, 5], ids=["while it lingers", "while it is ready"])
@in_virtual_time
async def test_an_event_that_joins_requests_makes_them_an_event(joins_after: float) -> None:
    bench = Bench(concurrency=1)
    bench.sync = lambda _: asyncio.sleep(10)
    async with bench.running():
        bench.put("first")
        await asyncio.sleep(0.5)
        bench.put("joined", is_request=True)
        await asyncio.sleep(0.1)
        bench.put("request", is_request=True)
        await asyncio.sleep(joins_after)
        bench.put("joined")
        bench.put("event")
        await asyncio.sleep(60)

    assert [user for _, user, _ in bench.flown] == ["first", "joined", "event", "request"]
    assert bench.flights_of("joined") == [[1, 3]]


@in_virtual_time
async def test_a_user_in_back_off_holds_no_slot() -> None:
    bench = Bench(concurrency=1)
    bench.verdicts = [Again(30)]
    async with bench.running():
        bench.put("failing")
        await asyncio.sleep(0.1)
        bench.put("other")
        await asyncio.sleep(100)

    assert bench.flown == [(2.0, "failing", [0]), (2.1, "other", [1]), (32.0, "failing", [0])]


@in_virtual_time
async def test_events_that_arrive_in_a_back_off_ride_along_and_do_not_shorten_it() -> None:
    bench = Bench()
    bench.verdicts = [Again(30)]
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(10)
        bench.put("a")
        await asyncio.sleep(100)

    assert bench.flown == [(2.0, "a", [0]), (32.0, "a", [0, 1])]


@in_virtual_time
async def test_an_event_does_not_shorten_the_back_off_of_requests() -> None:
    bench = Bench()
    bench.verdicts = [Again(30)]
    async with bench.running():
        bench.put("a", is_request=True)
        await asyncio.sleep(10)
        bench.put("a")
        await asyncio.sleep(100)

    assert bench.flown == [(2.0, "a", [0]), (32.0, "a", [0, 1])]


@in_virtual_time
async def test_settling_cancels_what_waits_and_reads_and_keeps_its_events() -> None:
    bench = Bench()
    bench.sync = lambda _: asyncio.sleep(1000)
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(3)
        assert bench.queues.in_flight == 1

        assert await bench.queues.settle(5)
        assert now() < 3.1
        assert bench.queues.pending == 1
        await asyncio.sleep(100)
        assert len(bench.flown) == 1


@in_virtual_time
async def test_settling_awaits_writes() -> None:
    landed: list[float] = []

    async def write(flight: Flight) -> None:
        with flight.writing():
            await asyncio.sleep(4)
        landed.append(now())

    bench = Bench()
    bench.sync = write
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(3)

        assert await bench.queues.settle(5)

    assert landed == [pytest.approx(6)]
    assert bench.queues.pending == 0


@in_virtual_time
async def test_settling_gives_writes_up_after_its_budget_without_cancelling_them() -> None:
    landed: list[float] = []

    async def write(flight: Flight) -> None:
        with flight.writing():
            await asyncio.sleep(20)
        landed.append(now())

    bench = Bench()
    bench.sync = write
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(3)
        assert not await bench.queues.settle(5)
        assert now() == pytest.approx(8, abs=0.1)
        await asyncio.sleep(100)

    assert landed == [22.0]


@in_virtual_time
async def test_a_sync_that_reads_again_after_its_write_is_cancelled_then() -> None:
    async def write_then_read(flight: Flight) -> None:
        with flight.writing():
            await asyncio.sleep(2)
        await asyncio.sleep(1000)

    bench = Bench()
    bench.sync = write_then_read
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(3)
        assert await bench.queues.settle(5)

    assert now() == pytest.approx(4, abs=0.1)


@in_virtual_time
async def test_with_patience_reads_may_end_and_only_what_waits_is_cancelled_at_once() -> None:
    bench = Bench()
    cancelled: list[str] = []

    async def work(flight: Flight) -> Landed | Again:
        try:
            if flight.user_id == "reading":
                flight.reading()
            await asyncio.sleep(6)
        except asyncio.CancelledError:
            cancelled.append(flight.user_id)
            raise
        return Landed()

    bench.work = work  # type: ignore[method-assign] # it is scripted
    async with bench.running():
        bench.put("reading")
        bench.put("waiting")
        await asyncio.sleep(3)
        assert await bench.queues.settle(5, patience=10)

    assert cancelled == ["waiting"]
    assert now() == pytest.approx(8, abs=0.1)


@in_virtual_time
async def test_a_flight_recalled_before_its_first_step_lands_too() -> None:
    bench = Bench()
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(LINGER)
        while not bench.queues.in_flight:  # noqa: ASYNC110 - the very step matters
            await asyncio.sleep(0)
        assert bench.flown == []  # it has a task, which did not run yet

        assert await bench.queues.settle(5)
        assert now() < LINGER + 0.1
        bench.queues.drop()
        bench.lease.generation += 1
        bench.queues.open()
        bench.put("a")
        await asyncio.sleep(10)

    assert bench.flights_of("a") == [[1]]


@in_virtual_time
async def test_a_write_of_an_old_generation_blocks_its_user_and_nobody_else() -> None:
    async def write(flight: Flight) -> None:
        with flight.writing():
            await asyncio.sleep(20)

    bench = Bench()
    bench.sync = write
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(3)
        await bench.queues.settle(1)
        bench.queues.drop()
        bench.lease.generation += 1
        bench.queues.open()
        bench.put("a")
        bench.put("b")
        await asyncio.sleep(100)

    assert [(at, user) for at, user, _ in bench.flown] == [(2.0, "a"), (6.0, "b"), (22.0, "a")]
    assert bench.queues.pending == 0


@in_virtual_time
async def test_a_user_who_was_blocked_by_an_old_generation_still_lingers() -> None:
    async def write(flight: Flight) -> None:
        with flight.writing():
            await asyncio.sleep(20)

    bench = Bench()
    bench.sync = write
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(3)
        await bench.queues.settle(1)
        bench.queues.drop()
        bench.lease.generation += 1
        bench.queues.open()
        await asyncio.sleep(17)
        bench.put("a")  # at 21, a second before the old write lands
        await asyncio.sleep(100)

    assert [at for at, _, _ in bench.flown] == [2.0, 23.0]


@in_virtual_time
async def test_the_landing_of_an_old_generation_touches_no_count_of_the_new_one() -> None:
    async def write(flight: Flight) -> None:
        with flight.writing():
            await asyncio.sleep(20)

    bench = Bench()
    bench.sync = write
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(3)
        await bench.queues.settle(1)
        bench.queues.drop()
        bench.put("b")
        assert bench.queues.pending == 1
        await asyncio.sleep(30)

    assert bench.queues.pending == 1


@in_virtual_time
async def test_a_write_may_not_begin_without_a_lease() -> None:
    refused: list[str] = []

    async def write(flight: Flight) -> None:
        bench.lease.fresh = False
        with suppress(LeaseLost), flight.writing():
            pytest.fail("the phase began")
        refused.append(flight.user_id)

    bench = Bench()
    bench.sync = write
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(3)

    assert refused == ["a"]


@in_virtual_time
async def test_a_fault_of_the_work_ends_the_run() -> None:
    async def fail(_: Flight) -> None:
        raise ZeroDivisionError

    bench = Bench()
    bench.sync = fail
    bench.put("a")
    bench.queues.open()

    with pytest.raises(ExceptionGroup) as failure:
        await bench.queues.run(bench.work, bench.give_up)

    assert failure.group_contains(ZeroDivisionError)


@in_virtual_time
async def test_the_oldest_arrival_counts_what_flies() -> None:
    bench = Bench()
    bench.sync = lambda _: asyncio.sleep(10)
    async with bench.running():
        assert bench.queues.oldest_arrival() is None
        await asyncio.sleep(1)
        bench.put("a")
        await asyncio.sleep(3)
        bench.put("a")
        bench.put("b")
        assert bench.queues.oldest_arrival() == 1
        await asyncio.sleep(20)
        assert bench.queues.oldest_arrival() is None


@in_virtual_time
async def test_k12_a_dead_letter_that_takes_long_to_store_holds_no_slot() -> None:
    bench = Bench(concurrency=1)
    bench.verdicts = [REFUSED]
    bench.store = lambda _: asyncio.sleep(50)
    async with bench.running():
        bench.put("refused")
        await asyncio.sleep(0.1)
        bench.put("other")
        await asyncio.sleep(10)
        assert bench.queues.waits().giving_up == 1
        assert bench.queues.in_flight == 0
        assert bench.queues.pending == 1
        assert bench.queues.oldest_arrival() == 0
        await asyncio.sleep(50)

    assert [(at, user) for at, user, _ in bench.flown] == [(2.0, "refused"), (2.1, "other")]
    assert bench.given_up == [(2.0, "refused", [0])]
    assert bench.queues.pending == 0


@in_virtual_time
async def test_k12_only_so_many_dead_letters_are_stored_at_once() -> None:
    bench = Bench()
    users = [f"user-{number}" for number in range(3 * GIVING_UP_AT_ONCE)]
    bench.verdicts = [REFUSED] * len(users)
    bench.store = lambda _: asyncio.sleep(10)
    async with bench.running():
        for user in users:
            bench.put(user)
        await asyncio.sleep(100)

    assert [at for at, _, _ in bench.given_up] == [at for at in (2.0, 12.0, 22.0) for _ in range(GIVING_UP_AT_ONCE)]
    assert [user for _, user, _ in bench.given_up] == users


@in_virtual_time
async def test_events_of_a_user_whose_dead_letter_is_being_stored_wait_for_it() -> None:
    bench = Bench()
    bench.verdicts = [REFUSED]
    bench.store = lambda _: asyncio.sleep(10)
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(3)
        bench.put("a")
        assert bench.queues.pending == 2
        await asyncio.sleep(50)

    assert bench.flown == [(2.0, "a", [0]), (12.0, "a", [1])]


@in_virtual_time
async def test_a_user_whose_dead_letter_was_not_stored_is_synced_again_later_with_all_its_events() -> None:
    bench = Bench()
    bench.verdicts = [REFUSED]
    bench.letters = [Again(30)]
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(3)
        bench.put("a")
        await asyncio.sleep(50)

    assert bench.flown == [(2.0, "a", [0]), (32.0, "a", [0, 1])]
    assert bench.queues.pending == 0


@in_virtual_time
async def test_settling_awaits_a_dead_letter_that_is_being_stored_and_begins_no_other() -> None:
    async def look_up_or_store(flight: Flight) -> None:
        if flight.user_id == "looked up":
            await asyncio.sleep(1000)
        with flight.writing():
            await asyncio.sleep(4)

    bench = Bench()
    bench.store = look_up_or_store
    users = ["looked up", *(f"user-{number}" for number in range(GIVING_UP_AT_ONCE))]
    bench.verdicts = [REFUSED] * len(users)
    async with bench.running():
        for user in users:
            bench.put(user)
        await asyncio.sleep(3)
        assert await bench.queues.settle(5)
        assert now() == pytest.approx(6, abs=0.1)
        assert bench.queues.pending == 2
        bench.queues.drop()
        bench.lease.generation += 1
        bench.queues.open()
        bench.put("looked up")
        await asyncio.sleep(60)

    assert [user for _, user, _ in bench.given_up] == users[:GIVING_UP_AT_ONCE]
    assert bench.flights_of("looked up") == [[0], [len(users)]]
    assert bench.queues.pending == 0


@in_virtual_time
async def test_a_dead_letter_of_an_old_generation_blocks_its_user_and_nobody_else() -> None:
    async def store(flight: Flight) -> None:
        with flight.writing():
            await asyncio.sleep(20)

    bench = Bench()
    bench.verdicts = [REFUSED]
    bench.store = store
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(3)
        assert not await bench.queues.settle(1)
        bench.queues.drop()
        bench.lease.generation += 1
        bench.queues.open()
        bench.put("a")
        bench.put("b")
        await asyncio.sleep(100)

    assert [(at, user) for at, user, _ in bench.flown] == [(2.0, "a"), (6.0, "b"), (22.0, "a")]
    assert bench.queues.pending == 0


def failing_users(bench: Bench, names: set[str], *, seconds: float = 0.0, delay: float = 1.0) -> None:
    """Let these users fail, each time after so many seconds, and try again soon; everybody else takes a second."""

    async def work(flight: Flight) -> Verdict:
        await Bench.work(bench, flight)
        await asyncio.sleep(seconds if flight.user_id in names else 1.0)
        if flight.user_id not in names:
            return Landed()
        flight.queue.attempts += 1
        return Again(delay)

    bench.work = work  # type: ignore[method-assign] # it is scripted


@in_virtual_time
async def test_k12_users_that_fail_start_behind_others_and_do_not_starve() -> None:
    bench = Bench(concurrency=1)
    failing_users(bench, {f"failing-{number}" for number in range(20)})
    async with bench.running():
        for number in range(20):
            bench.put(f"failing-{number}")
        await asyncio.sleep(LINGER + 0.5)
        begun = len(bench.flown)
        for number in range(40):
            bench.put(f"fresh-{number}")
        await asyncio.sleep(120)

    kinds = ["failing" in user for _, user, _ in bench.flown[begun:]]
    last = [user for _, user, _ in bench.flown].index("fresh-39")
    beside = kinds[kinds.index(False) : last - begun + 1]
    assert beside.count(False) == 40
    assert beside.count(True) == len(beside) // SHARE


@in_virtual_time
async def test_k12_users_that_fail_slowly_leave_half_of_the_slots_to_others() -> None:
    bench = Bench(concurrency=8)
    failing = {f"failing-{number}" for number in range(40)}
    failing_users(bench, failing, seconds=10)
    async with bench.running():
        for user in failing:
            bench.put(user)
        await asyncio.sleep(100)
        delays = []
        for number in range(30):
            bench.put(f"fresh-{number}")
            delays.append((f"fresh-{number}", now() + LINGER))
            await asyncio.sleep(1.0)
        await asyncio.sleep(10)

    started = {user: at for at, user, _ in bench.flown}
    assert all(started[user] == pytest.approx(due) for user, due in delays)


@in_virtual_time
async def test_k12_users_that_fail_do_not_line_up_for_permits_before_others() -> None:
    bench = Bench(concurrency=64)
    permits = asyncio.Semaphore(0)
    failing_users(bench, {f"failing-{number}" for number in range(30)})
    free = True

    async def one_permit_each(flight: Flight) -> Verdict:
        if free:
            return await bench.work(flight)
        async with permits:
            return await bench.work(flight)

    task = asyncio.create_task(bench.queues.run(one_permit_each, bench.give_up))
    bench.queues.open()
    for number in range(30):
        bench.put(f"failing-{number}")
    await asyncio.sleep(LINGER + 0.5)
    free = False
    await asyncio.sleep(2)
    assert bench.queues.in_flight == 1
    bench.put("fresh")
    await asyncio.sleep(3)
    bench.flown.clear()
    permits.release()
    permits.release()
    await asyncio.sleep(0)
    assert bench.queues.in_flight <= 2
    await asyncio.sleep(10)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert "fresh" in [user for _, user, _ in bench.flown[:2]]


@in_virtual_time
async def test_k13_events_of_a_user_that_fails_do_not_count_against_the_window() -> None:
    bench = Bench()
    bench.verdicts = [Again(30), Again(30)]
    async with bench.running():
        for _ in range(200):
            bench.put("failing")
        bench.put("other")
        assert bench.queues.counted == 201
        await asyncio.sleep(3)
        assert (bench.queues.pending, bench.queues.counted) == (201, 0)
        bench.put("failing")
        bench.put("new")
        assert (bench.queues.pending, bench.queues.counted) == (203, 1)
        bench.admission.stopped = True
        assert bench.queues.counted == 203  # nobody could go on, so nothing more is read
        bench.admission.stopped = False
        await asyncio.sleep(100)
    assert (bench.queues.pending, bench.queues.counted) == (0, 0)


@in_virtual_time
async def test_k13_events_of_a_user_whose_dead_letter_waits_do_not_count_either() -> None:
    bench = Bench(coalesce=False)
    bench.verdicts = [REFUSED, REFUSED, Landed(), Landed()]
    bench.store = lambda _: asyncio.sleep(10)
    counted = []
    async with bench.running():
        for _ in range(4):
            bench.put("a")
        await asyncio.sleep(3)
        for _ in range(3):
            counted.append((bench.queues.pending, bench.queues.counted))
            await asyncio.sleep(10)
    # Its dead letters are stored one by one; only a sync that ends well makes it a user like others.
    assert counted == [(4, 0), (3, 0), (0, 0)]


def test_k13_what_waits_for_users_that_fail_is_bounded_in_bytes() -> None:
    aside = Aside(most_bytes=10_000)
    queues = [UserQueue(f"user-{number}") for number in range(100)]
    for number, queue in enumerate(queues):
        queue.size = 1 + number
        aside.add(queue)
        if aside.is_full:
            break
    assert 5 < number < 15
    while aside.is_full:
        aside.remove(queues[number])
        number -= 1
    assert number > 5
    assert aside.events == sum(range(2 + number))
    aside.clear()
    assert (aside.events, aside.is_full) == (0, False)


@in_virtual_time
async def test_a_parked_user_waits_without_a_slot_or_a_time_until_it_is_called() -> None:
    bench = Bench(concurrency=1)
    bench.verdicts = [Parked()]
    async with bench.running():
        bench.put("parked")
        await asyncio.sleep(3)
        bench.put("parked")
        bench.put("other")
        await asyncio.sleep(97)
        assert bench.queues.waits().parked == 1
        assert (bench.queues.pending, bench.queues.counted) == (2, 0)
        bench.queues.retry_now(["parked", "other", "nobody"])
        await asyncio.sleep(1)

    assert bench.flown == [(2.0, "parked", [0]), (5.0, "other", [2]), (100.0, "parked", [0, 1])]
    assert bench.queues.waits().parked == 0


@in_virtual_time
async def test_a_user_that_is_called_while_it_flies_is_not_parked() -> None:
    bench = Bench()
    bench.verdicts = [Parked()]
    bench.sync = lambda _: asyncio.sleep(5)
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(3)
        bench.queues.retry_now(["a"])
        await asyncio.sleep(20)

    assert [at for at, _, _ in bench.flown] == [2.0, 7.0]


@in_virtual_time
async def test_a_call_shortens_a_back_off_and_no_coalescing_window() -> None:
    bench = Bench()
    bench.verdicts = [Again(500)]
    async with bench.running():
        bench.put("failing")
        await asyncio.sleep(10)
        bench.put("new")
        bench.queues.retry_now(["failing", "new"])
        await asyncio.sleep(20)

    assert bench.flown == [(2.0, "failing", [0]), (10.0, "failing", [0]), (12.0, "new", [1])]


@in_virtual_time
async def test_p7_nothing_is_kept_of_a_user_with_nothing_to_do() -> None:
    bench = Bench()
    async with bench.running():
        bench.put("a")
        await asyncio.sleep(LINGER + 1)
        assert bench.flights_of("a") == [[0]]
        assert not bench.queues._queues
