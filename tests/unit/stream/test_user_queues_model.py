"""The queues against a model that remembers every event: any order of arrivals, landings, faults and rebalances."""

import asyncio
from collections import defaultdict
from contextlib import suppress
from itertools import count
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.stream.flight import Again, Flight, GiveUp, Landed, Parked, Phase, Verdict
from consumer.stream.line import SHARE
from consumer.stream.pending import Waiting
from consumer.stream.user_queues import GIVING_UP_AT_ONCE, UserQueues
from consumer.sync.flight import LeaseLost
from tests.unit import virtual_time

LINGER = 2.0
EPSILON = 1e-6

times = st.sampled_from([0.0, 0.25, 1.0, 1.5, 2.75, 9.0])
users = st.sampled_from("abcd")


class Behaviour(NamedTuple):
    """What one flight does: it waits, reads, maybe writes, maybe reads again, and ends."""

    waits: float = 0.0
    reads: float = 0.5
    writes: float | None = None
    reads_again: float = 0.0
    verdict: Verdict = Landed()
    counts: bool = False
    """Whether a failure counts against the user."""


class Letter(NamedTuple):
    """How a user is given up: its record is looked up, and its dead letter stored, or not."""

    looked_up: float
    stored: float
    verdict: Landed | Again


letters = st.builds(Letter, times, times, st.just(Landed()) | times.map(Again))
behaviours = st.builds(
    Behaviour,
    waits=times,
    reads=times,
    writes=st.none() | times | st.just(9.0),
    reads_again=times,
    verdict=st.just(Landed()) | times.map(Again) | st.sampled_from([Parked(), GiveUp("exhausted", "", 1)]),
    counts=st.booleans(),
)


class Put(NamedTuple):
    user: str
    is_request: bool


class Pass(NamedTuple):
    seconds: float


class Retry(NamedTuple):
    """What a user failed of is over."""

    user: str


class Rebalance(NamedTuple):
    budget: float
    patience: float
    away: float


arrivals = st.builds(Put, users, st.booleans()) | st.builds(Put, users, st.just(False))
passing = st.builds(Pass, times)
rebalances = st.builds(Rebalance, budget=st.sampled_from([0.25, 1, 6]), patience=times, away=times)
calm = arrivals | passing | st.builds(Retry, users)
steps = (
    st.lists(calm, min_size=15, max_size=40)
    | st.lists(calm | rebalances, min_size=15, max_size=40)
    | st.lists(calm | calm | rebalances, min_size=15, max_size=40)
)


class Model:
    """Runs a script, plays the lease, the admission and the work, and knows what must hold."""

    def __init__(
        self, concurrency: int, flights: list[Behaviour], given_up: list[Letter], *, coalesce: bool, share: int
    ) -> None:
        self.generation = 1
        self.queues = UserQueues(
            self,
            self,
            concurrency=concurrency,
            linger=LINGER,
            coalesce=coalesce,
            clock=self.now,
            dropped=self.note_drop,
        )
        self.concurrency = concurrency
        self.share = self.queues._line.share = share
        self.coalesce = coalesce
        self.behaviours = iter(flights)
        self.letters = iter(given_up)
        self.given_up: dict[str, Flight] = {}
        self.storing = 0
        self.parked: set[str] = set()
        self.failing: set[str] = set()
        self.retried: set[str] = set()
        self.hurried: set[str] = set()
        self.fresh_in_a_row = 0
        self.retry_landed_at = 0.0
        self.drops = 0
        self.unhindered = concurrency >= 4
        self.opened_at = 0.0
        self.waiting: dict[str, list[Waiting]] = defaultdict(list)
        self.open: dict[str, Flight] = {}
        self.backs_off_until: dict[str, float] = {}
        self.landed_at: dict[str, float] = {}
        self.left_line_at = 0.0
        self.answers: dict[str, list[int]] = defaultdict(list)
        self.dropped: set[int] = set()
        self._offsets = count()

    @staticmethod
    def now() -> float:
        return asyncio.get_running_loop().time()

    # The lease and the admission.

    def may_work(self, generation: int) -> bool:
        return generation == self.generation

    stopped = False

    # What must hold.

    def ready_at(self, user: str) -> float:
        return max(
            self.waiting[user][0].arrived_at + (0 if user in self.hurried else LINGER),
            self.backs_off_until.get(user, 0.0),
            self.landed_at.get(user, 0.0),
            self.opened_at,
        )

    def only_requests(self, user: str) -> bool:
        return all(event.is_request for event in self.waiting[user])

    def rank(self, user: str) -> tuple[bool, float]:
        return self.only_requests(user), self.waiting[user][0].arrived_at

    def check_start(self, user: str) -> None:
        assert user not in self.open, "two flights of one user"
        assert user not in self.given_up, "a flight beside a dead letter of its user"
        assert len(self.open) < self.concurrency
        assert self.now() >= self.ready_at(user) - EPSILON
        its_turn = self.fresh_in_a_row >= self.share - 1
        if self.only_requests(user) or (user in self.retried and not its_turn):
            assert Phase.WAITING not in {flight.phase for flight in self.open.values()}, "it lined up"
            held_until = self.left_line_at
        elif user in self.retried:
            held_until = self.now()
        else:  # requests may have been held back until an event joined them
            held_until = next(event.arrived_at for event in self.waiting[user] if not event.is_request)
        if self.unhindered:
            assert self.now() == pytest.approx(max(self.ready_at(user), held_until))
        for other in self.waiting:
            busy = other in self.open or other in self.given_up or other in self.parked
            if self.waiting[other] and not busy and self.ready_at(other) < self.now() - EPSILON:
                self.check_order(user, other)
        self.fresh_in_a_row = 0 if user in self.retried else self.fresh_in_a_row + 1

    def check_order(self, user: str, other: str) -> None:
        """Check that a user may start before one that was ready as well."""
        requests, other_requests = self.only_requests(user), self.only_requests(other)
        its_turn = self.fresh_in_a_row >= self.share - 1
        if (user in self.retried) == (other in self.retried):
            assert self.rank(user) <= self.rank(other), "somebody else was first"
        elif user in self.retried:
            assert other_requests if requests != other_requests else its_turn, "a user that fails was first"
        else:
            retries = sum(flight.retries for flight in self.open.values())
            if retries < max(1, self.concurrency // 2) and self.retry_landed_at < self.now() - EPSILON:
                assert other_requests if requests != other_requests else not its_turn, "a user that fails starves"

    async def check_count(self) -> None:
        await asyncio.sleep(1e-9)  # virtual time moves only when nothing is left to do now
        assert self.queues.pending == sum(map(len, self.waiting.values()))
        counted = sum(len(events) for user, events in self.waiting.items() if user not in self.failing)
        assert self.queues.counted == counted
        assert self.queues.waits().parked == len(self.parked)
        assert self.queues.in_flight <= self.concurrency

    # The work.

    async def work(self, flight: Flight) -> Verdict:
        user, generation = flight.user_id, flight.generation
        self.check_start(user)
        self.open[user] = flight
        verdict: Verdict = Again(0)
        try:
            behaviour = next(self.behaviours, Behaviour())
            verdict = await self.play(flight, behaviour)
            flight.queue.attempts += behaviour.counts and not isinstance(verdict, Landed)
        except LeaseLost:
            verdict = Again(0.5)
        finally:
            if flight.phase is Phase.WAITING:
                self.left_line_at = self.now()
            del self.open[user]
            self.landed_at[user] = self.now()
            self.retry_landed_at = self.now() if flight.retries else self.retry_landed_at
            if generation == self.generation:
                self.book(flight, verdict)
        return verdict

    async def play(self, flight: Flight, behaviour: Behaviour) -> Verdict:
        await asyncio.sleep(behaviour.waits)
        expected = self.waiting[flight.user_id] if self.coalesce else self.waiting[flight.user_id][:1]
        if flight.generation == self.generation:
            self.left_line_at = self.now()
            flight.reading()
            assert list(flight.events) == expected
        await asyncio.sleep(behaviour.reads)
        if behaviour.writes is not None:
            with flight.writing():
                try:
                    await asyncio.sleep(behaviour.writes)
                except asyncio.CancelledError:
                    pytest.fail("a write was cancelled")
            await asyncio.sleep(behaviour.reads_again)
        return behaviour.verdict

    async def give_up(self, flight: Flight, _: GiveUp) -> Landed | Again:
        letter = next(self.letters, Letter(0, 0, Landed()))
        assert self.given_up[flight.user_id] is flight
        self.storing += 1
        assert self.storing <= GIVING_UP_AT_ONCE
        verdict: Landed | Again = Again(0)
        try:
            await asyncio.sleep(letter.looked_up)
            with flight.writing():
                try:
                    await asyncio.sleep(letter.stored)
                except asyncio.CancelledError:
                    pytest.fail("storing was cancelled")
            verdict = letter.verdict
        except LeaseLost:
            verdict = Again(0.5)
        finally:
            self.storing -= 1
            self.landed_at[flight.user_id] = self.now()
            if flight.generation == self.generation:
                self.book(flight, verdict)
            del self.given_up[flight.user_id]
        return verdict

    def book(self, flight: Flight, verdict: Verdict) -> None:
        user, given_up = flight.user_id, flight.user_id in self.given_up
        if isinstance(verdict, GiveUp):
            self.given_up[user] = flight
        if isinstance(verdict, Parked) and not flight.retry_at_once:
            self.parked.add(user)
        if not isinstance(verdict, Landed):
            self.failing.add(user)
            self.hurried.discard(user)
            (self.retried.add if flight.queue.attempts else self.retried.discard)(user)
        if isinstance(verdict, Parked):
            self.backs_off_until[user] = self.now()
        if isinstance(verdict, GiveUp | Parked):
            return
        if isinstance(verdict, Again):
            self.backs_off_until[user] = self.now() + verdict.delay
            return
        self.backs_off_until.pop(user, None)
        self.retried.discard(user)
        self.hurried.discard(user)
        if not given_up or len(self.waiting[user]) == len(flight.events):
            self.failing.discard(user)
        self.answers[user] += [event.offset for event in flight.events]
        del self.waiting[user][: len(flight.events)]

    # The script.

    async def run(self, script: list[Put | Pass | Retry | Rebalance]) -> None:
        task = asyncio.create_task(self.queues.run(self.work, self.give_up))
        self.queues.open()
        for step in script:
            if task.done():
                break
            await self.take(step)
            await self.check_count()
        async with asyncio.timeout(100_000):
            while not task.done() and (self.queues.pending or self.open or self.given_up):
                await asyncio.sleep(1)
                for user in list(self.parked):
                    await self.take(Retry(user))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        self.check_end()

    def check_end(self) -> None:
        answered = [offset for offsets in self.answers.values() for offset in offsets]
        assert sorted([*answered, *self.dropped]) == list(range(next(self._offsets)))
        assert all(offsets == sorted(offsets) for offsets in self.answers.values())
        assert self.queues.oldest_arrival() is None

    async def take(self, step: Put | Pass | Retry | Rebalance) -> None:
        match step:
            case Put(user, is_request):
                event = Waiting(0, next(self._offsets), "contract.1#update", 0.0, self.now(), is_request)
                self.waiting[user].append(event)
                self.queues.put(user, event)
            case Pass(seconds):
                await asyncio.sleep(seconds)
            case Retry(user):
                self.retry(user)
            case Rebalance():
                await self.rebalance(step)

    def retry(self, user: str) -> None:
        self.queues.retry_now([user, "a user that has nothing to do"])
        if user not in self.failing or user in self.open or user in self.given_up:
            return
        if user in self.parked or self.ready_at(user) > self.now():
            self.parked.discard(user)
            self.hurried.add(user)
            self.backs_off_until[user] = self.now()

    def note_drop(self) -> None:
        self.drops += 1

    async def rebalance(self, step: Rebalance) -> None:
        began = self.now()
        ended = await self.queues.settle(step.budget, patience=step.patience)
        assert not (self.open or self.storing) if ended else self.now() >= began + step.budget - EPSILON
        assert self.now() <= began + step.budget + step.patience + EPSILON
        assert all(flight.phase is Phase.WRITING or flight.recalled for flight in self.open.values())
        self.queues.drop()
        self.generation += 1
        for events in self.waiting.values():
            self.dropped.update(event.offset for event in events)
        self.waiting.clear()
        self.parked.clear()
        self.failing.clear()
        self.retried.clear()
        self.hurried.clear()
        assert self.drops == self.generation - 1
        self.given_up = {user: flight for user, flight in self.given_up.items() if flight.task is not None}
        self.backs_off_until.clear()
        await asyncio.sleep(step.away)
        self.opened_at = self.now()
        self.queues.open()


@settings(max_examples=300)
@given(
    slots_and_share=st.tuples(st.sampled_from([1, 2, 64]), st.sampled_from([2, 3, SHARE])),
    coalesce=st.booleans(),
    flights=st.lists(behaviours, min_size=8, max_size=20),
    given_up=st.lists(letters, min_size=4, max_size=8),
    script=steps,
)
def test_every_event_is_answered_once_in_order_by_one_flight_at_a_time(
    slots_and_share: tuple[int, int],
    coalesce: bool,
    flights: list[Behaviour],
    given_up: list[Letter],
    script: list[Put | Pass | Retry | Rebalance],
) -> None:
    concurrency, share = slots_and_share
    virtual_time.run(Model(concurrency, flights, given_up, coalesce=coalesce, share=share).run(script))
