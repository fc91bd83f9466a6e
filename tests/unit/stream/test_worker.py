import asyncio
import errno
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import structlog

from consumer.clients.errors import LocalFault, Rejected, Throttled, Unauthorized, Unavailable
from consumer.mapping.instants import UnreadableState
from consumer.ops.metrics import Metrics
from consumer.stream import sync_results
from consumer.stream.dead_letters import DeadLetterError, Letter, Reason
from consumer.stream.flight import Again, Flight, GiveUp, Landed, Parked, UserQueue, Verdict
from consumer.stream.giving_up import GivingUp
from consumer.stream.ledger import Ledger
from consumer.stream.pending import Waiting
from consumer.stream.worker import RetryPolicy, Worker
from consumer.sync import flight as protocol
from consumer.sync.attempt import call_of
from consumer.sync.calls import Failure
from consumer.sync.evidence import CallDown, Evidence
from consumer.sync.flight import LeaseLost
from consumer.sync.outcome import Outcome
from tests.unit.stream.in_virtual_time import in_virtual_time

REFUSED = Rejected("mailmojo", "patch_contact", 400)
DOWN = Unavailable("sesamy", "get_user", 503)
MAX_ATTEMPTS = 3
NO_CONTROLS: Any = None
"""The syncer is played, so nobody asks for a control user."""


class Bench:
    """A worker over a scripted sync, a ledger of one partition, and a dead-letter topic that may fail."""

    generation = 1
    fresh = True

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.ledger = Ledger(self.metrics, lambda: 1000.0)
        self.ledger.begin(1, {0: (0, "")})
        self.ends: list[Outcome | Exception] = []
        self.reads = True
        self.meanwhile: Callable[[protocol.Flight], object] = lambda _: None
        self.letters: list[tuple[int, Reason, str, int]] = []
        self.letters_fail: BaseException | None = None
        self.reading_fails: Exception | None = None
        self.time = 100.0
        self.others_succeed = True
        self.evidence = Evidence(self.metrics, clock=lambda: self.time)
        retry = RetryPolicy(max_attempts=MAX_ATTEMPTS, base=1, cap=60, rng=random.Random(7))
        self.give_up = GivingUp(self.ledger, self, self.read_letter, retry, self.evidence.forget)
        self.worker = Worker(
            self,  # type: ignore[arg-type] # it plays the syncer
            self.evidence,
            NO_CONTROLS,
            self.ledger,
            retry=retry,
            metrics=self.metrics,
            wall_clock=lambda: 1000.0,
        )
        self.queue = UserQueue("email|1")
        self.put(0)

    def put(self, *offsets: int) -> None:
        for offset in offsets:
            self.ledger.deliver(0, offset)
            self.queue.waiting.append(Waiting(0, offset, "contract.1#update", 990.0, 0.0, False))

    async def fly(self, *ends: Outcome | Exception) -> list[Verdict]:
        """Fly once for each of these ends of the sync, as the queues do."""
        return [await self.fly_once(end) for end in ends]

    async def fly_once(self, end: Outcome | Exception) -> Verdict:
        self.ends.append(end)
        flight = Flight(self.queue, self, coalesce=True, wrote=lambda _flight, _audit: None)
        verdict = await self.worker(flight)
        if isinstance(verdict, GiveUp):
            verdict = await self.give_up(flight, verdict)
        if isinstance(verdict, Again | Parked):
            flight.events.extend(self.queue.waiting)
            self.queue.waiting = flight.events
        return verdict

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"sesamy_mailmojo_{name}", labels) or 0

    def events(self, outcome: str) -> float:
        return self.metric("events_total", type="contract.1#update", outcome=outcome)

    @property
    def committable(self) -> int:
        return self.ledger.commit_plan({0: 100})[0][0]

    # The syncer, the lease and the dead-letter topic.

    async def sync(self, _user_id: str, flight: protocol.Flight) -> Outcome:
        if self.reads:
            flight.reading()
        self.meanwhile(flight)
        end = self.ends.pop(0)
        self.time += 0.1
        if isinstance(end, Exception):
            if self.others_succeed:
                self.others_do(end)
            raise end
        return end

    def others_do(self, error: Exception) -> None:
        """Have another user succeed in the call of this error."""
        self.evidence.succeeded("email|other", call_of(error), b'[{"id": 1, "nextBillAt": "2026-02-01"}]')

    def may_work(self, generation: int) -> bool:
        return self.fresh and generation == self.generation

    async def read_letter(self, event: Waiting) -> Letter:
        if self.reading_fails is not None:
            raise self.reading_fails
        return Letter(topic="t", partition=event.partition, offset=event.offset, key=b"k", value=b"v")

    async def store(self, letter: Letter, reason: Reason, error: str, attempts: int) -> None:
        if self.letters_fail is not None:
            raise self.letters_fail
        self.letters.append((letter.offset, reason, error, attempts))


def is_again(verdict: Verdict, longest: float) -> bool:
    return isinstance(verdict, Again) and 0 <= verdict.delay <= longest


@pytest.fixture
def bench() -> Bench:
    return Bench()


@contextmanager
def logs() -> Iterator[list[str]]:
    with structlog.testing.capture_logs() as entries:
        lines: list[str] = []
        yield lines
        lines += [repr(entry) for entry in entries]


@pytest.mark.parametrize(
    ("outcome", "event", "sync"),
    [
        (Outcome.CREATED, "synced", "created"),
        (Outcome.UPDATED, "synced", "updated"),
        (Outcome.UNCHANGED, "unchanged", "unchanged"),
        (Outcome.SKIPPED_GUEST, "skipped_guest", "skipped"),
        (Outcome.SKIPPED_NO_EMAIL, "skipped_no_email", "skipped"),
        (Outcome.SKIPPED_UNKNOWN_USER, "skipped_unknown_user", "skipped"),
    ],
)
@in_virtual_time
async def test_a_sync_that_ends_well_answers_all_its_events(outcome: Outcome, event: str, sync: str) -> None:
    bench = Bench()
    bench.put(1, 2)

    assert await bench.fly(outcome) == [Landed()]

    assert bench.events(event) == 1
    assert bench.events("coalesced") == 2
    assert bench.metric("syncs_total", outcome=sync) == 1
    assert bench.committable == 100


@in_virtual_time
async def test_refused_once_and_then_accepted_is_no_dead_letter() -> None:
    bench = Bench()

    assert await bench.fly(REFUSED, Outcome.UPDATED) == [Again(0), Landed()]

    assert bench.letters == []
    assert bench.events("synced") == 1


@in_virtual_time
async def test_refused_again_after_a_fresh_read_is_a_dead_letter() -> None:
    bench = Bench()

    assert await bench.fly(REFUSED, REFUSED) == [Again(0), Landed()]

    assert bench.letters == [(0, "rejected", "Rejected: mailmojo patch_contact: HTTP 400", 2)]
    assert bench.events("dead_lettered") == 1
    assert bench.committable == 100


@in_virtual_time
async def test_refused_again_waits_while_nobody_elses_write_is_accepted_and_is_given_up_promptly_when_one_is() -> None:
    bench = Bench()
    bench.others_succeed = False

    *_, last = await bench.fly(*[REFUSED] * 5)
    assert is_again(last, 10)
    assert bench.letters == []
    bench.others_do(REFUSED)

    assert await bench.fly(REFUSED) == [Landed()]
    assert bench.letters == [(0, "rejected", "Rejected: mailmojo patch_contact: HTTP 400", 6)]


@in_virtual_time
async def test_a7_a_400_of_sesamy_is_a_failure_like_others_and_no_refusal() -> None:
    bench = Bench()
    error = Rejected("sesamy", "get_user", 400)

    await bench.fly(*[error] * MAX_ATTEMPTS)

    assert bench.letters == [(0, "exhausted", "Rejected: sesamy get_user: HTTP 400", MAX_ATTEMPTS)]


@in_virtual_time
async def test_a6_a_403_for_one_user_while_the_call_succeeds_for_others_counts_for_that_user() -> None:
    bench = Bench()
    error = Unauthorized("sesamy", "list_contracts", 403)

    await bench.fly(*[error] * MAX_ATTEMPTS)

    assert [letter[1] for letter in bench.letters] == ["exhausted"]


@pytest.mark.parametrize("error", [DOWN, REFUSED, KeyError(), UnreadableState("contract.expiresAt is not a time")])
@in_virtual_time
async def test_a_call_that_is_down_parks_its_users_and_exhausts_nobody(error: Exception) -> None:
    bench = Bench()
    bench.others_succeed = False
    for user in ("email|2", "email|3"):
        bench.evidence.failed(user, call_of(error), Failure(began=90, status=503, text="down"))

    assert await bench.fly(error, CallDown(call_of(error))) == [Parked(), Parked()]

    assert bench.queue.attempts == 0
    assert list(bench.evidence.reasons()) == [call_of(error)[0]]
    assert not bench.letters


@in_virtual_time
async def test_a_call_that_is_back_before_its_user_is_parked_is_tried_at_once() -> None:
    bench = Bench()

    assert await bench.fly(CallDown(call_of(DOWN))) == [Again(0)]


@pytest.mark.parametrize("error", [LocalFault("mailmojo", "get_contact"), OSError(errno.EMFILE, "too many open files")])
@in_virtual_time
async def test_a15_a_lack_of_file_descriptors_is_nobodys_attempt(error: Exception) -> None:
    bench = Bench()

    verdicts = await bench.fly(*[error] * 20)

    assert all(is_again(verdict, 10) for verdict in verdicts)
    assert bench.queue.attempts == 0
    assert bench.evidence.reasons() == {}
    assert not bench.letters


@in_virtual_time
async def test_it_is_exhausted_after_its_attempts_while_the_same_call_succeeds_for_others() -> None:
    bench = Bench()
    bench.put(1, 2)

    *waits, end = await bench.fly(*[DOWN] * MAX_ATTEMPTS)

    assert all(is_again(wait, 60) for wait in waits)
    assert end == Landed()
    assert bench.letters == [(2, "exhausted", "Unavailable: sesamy get_user: HTTP 503", MAX_ATTEMPTS)]
    assert (bench.events("dead_lettered"), bench.events("coalesced")) == (1, 2)
    assert bench.metric("retries_total") == MAX_ATTEMPTS - 1
    assert bench.committable == 100


@in_virtual_time
async def test_one_user_who_fails_alone_is_tried_again_and_again_and_never_exhausted() -> None:
    bench = Bench()
    bench.others_succeed = False

    verdicts = await bench.fly(*[DOWN] * 20)

    assert all(is_again(verdict, 10) for verdict in verdicts)
    assert bench.queue.attempts == 0
    assert bench.evidence.reasons() == {}
    assert not bench.letters


@in_virtual_time
async def test_being_throttled_exhausts_nobody() -> None:
    bench = Bench()

    verdicts = await bench.fly(*[Throttled("sesamy", "get_user", 429)] * 20)

    assert all(is_again(verdict, 1) for verdict in verdicts)
    assert bench.queue.attempts == 0
    assert not bench.letters


@pytest.mark.parametrize(
    "failure_to_store",
    [DeadLetterError("down"), AssertionError(), ValueError(), OSError(), asyncio.CancelledError()],
    ids=repr,
)
@pytest.mark.parametrize("refusal", [True, False])
@in_virtual_time
async def test_while_storing_fails_for_whatever_reason_the_offset_stays(
    refusal: bool, failure_to_store: BaseException
) -> None:
    bench = Bench()
    bench.letters_fail = failure_to_store
    failure = REFUSED if refusal else DOWN

    verdicts = await bench.fly(*[failure] * (MAX_ATTEMPTS + 2))

    assert all(is_again(verdict, 60) for verdict in verdicts)
    assert bench.committable == 0
    bench.letters_fail = None
    assert await bench.fly(failure) == [Landed()]
    assert len(bench.letters) == 1
    assert bench.committable == 100


@in_virtual_time
async def test_a_user_who_recovers_while_the_dead_letter_topic_fails_is_synced() -> None:
    bench = Bench()
    bench.letters_fail = DeadLetterError("down")

    *_, end = await bench.fly(*[DOWN] * MAX_ATTEMPTS, Outcome.UPDATED)

    assert end == Landed()
    assert bench.events("synced") == 1


@in_virtual_time
async def test_a_lost_lease_postpones_and_books_nothing() -> None:
    bench = Bench()

    assert is_again(await bench.fly_once(LeaseLost()), 1)

    assert bench.queue.attempts == bench.queue.refusals == 0
    assert bench.committable == 0
    assert bench.metric("syncs_total", outcome="failed") == 0


@in_virtual_time
async def test_without_a_lease_no_dead_letter_is_stored() -> None:
    bench = Bench()
    await bench.fly(REFUSED)
    bench.fresh = False

    assert is_again(await bench.fly_once(REFUSED), 1)
    assert bench.letters == []
    assert bench.committable == 0


@in_virtual_time
async def test_a_letter_whose_record_cannot_be_read_is_not_stored() -> None:
    bench = Bench()
    bench.reading_fails = AssertionError("in the Kafka client")

    verdicts = await bench.fly(REFUSED, REFUSED)

    assert is_again(verdicts[1], 60)
    assert bench.letters == []
    assert bench.committable == 0


@in_virtual_time
async def test_a_fault_of_ours_holds_back_its_user_only_and_its_text_is_not_told() -> None:
    bench = Bench()

    with logs() as lines:
        *waits, end = await bench.fly(*[KeyError("kari@example.com")] * MAX_ATTEMPTS)

    assert all(is_again(wait, 60) for wait in waits)
    assert end == Landed()
    assert bench.letters == [(0, "exhausted", "InternalError: KeyError", MAX_ATTEMPTS)]
    assert any("sync.fault" in line and "KeyError" in line for line in lines)
    assert not any("kari" in line for line in lines)


@in_virtual_time
async def test_a_state_that_cannot_be_read_is_exhausted_in_the_end() -> None:
    bench = Bench()
    text = "contract.nextBillAt is not an ISO 8601 time"

    await bench.fly(*[UnreadableState(text)] * MAX_ATTEMPTS)

    assert bench.letters == [(0, "exhausted", f"UnreadableState: {text}", MAX_ATTEMPTS)]


@pytest.mark.parametrize("end", [Outcome.SKIPPED_GUEST, REFUSED, DOWN], ids=["ends well", "refused", "exhausted"])
@in_virtual_time
async def test_a_sync_that_ends_before_it_reads_answers_its_events_too(end: Outcome | Exception) -> None:
    bench = Bench()
    bench.reads = False
    bench.put(1)

    verdicts = await bench.fly(*[end] * (1 if isinstance(end, Outcome) else MAX_ATTEMPTS - (end is REFUSED)))

    assert verdicts[-1] == Landed()
    assert bench.committable == 100
    assert not bench.queue.waiting


@in_virtual_time
async def test_what_ends_after_its_generation_is_not_booked() -> None:
    bench = Bench()
    bench.meanwhile = lambda _: bench.ledger.close()

    await bench.fly(Outcome.UPDATED)

    assert bench.events("synced") == 0
    assert bench.committable == 0


@in_virtual_time
async def test_one_sync_of_a_user_at_a_time_is_no_violation() -> None:
    bench = Bench()
    await bench.fly(DOWN, LeaseLost(), REFUSED, KeyError(), Outcome.UPDATED)

    assert bench.metric("order_violations_total") == 0


@in_virtual_time
async def test_two_open_syncs_of_one_user_are_a_violation() -> None:
    bench = Bench()
    bench.worker._open_users.add(bench.queue.user_id)  # as a first sync would

    await bench.fly(Outcome.UPDATED)

    assert bench.metric("order_violations_total") == 1


def test_the_back_off_is_spread_and_bounded() -> None:
    retry = RetryPolicy(max_attempts=10, base=1, cap=60, rng=random.Random(3))

    first, tenth, huge = ([retry.delay(attempts) for _ in range(500)] for attempts in (1, 10, 10**9))

    assert min(first) < 0.1
    assert 1.9 < max(first) <= 2
    assert 55 < max(tenth) <= 60
    assert max(huge) <= 60


@pytest.mark.parametrize(
    ("end", "result"), [(Outcome.CREATED, "created"), (Outcome.SKIPPED_NO_EMAIL, "skipped_no_email")]
)
async def test_k16_a_request_answered_with_newer_events_has_the_result_of_their_sync(
    bench: Bench, end: Outcome, result: str
) -> None:
    bench.ledger.expect(0, 0)
    bench.put(1, 2)
    await bench.fly(end)

    offset, metadata = bench.ledger.commit_plan({0: 3})[0]

    assert offset == 3
    assert sync_results.read(metadata, offset) == {0: result}


@in_virtual_time
async def test_a_user_who_was_given_up_is_forgotten_by_the_evidence() -> None:
    bench = Bench()
    state = bench.evidence.state(call_of(REFUSED))
    await bench.fly(REFUSED)
    assert not state.is_new("email|1")
    await bench.fly(REFUSED)
    assert bench.letters
    assert state.is_new("email|1")
    assert state.is_idle


@in_virtual_time
async def test_a_trial_that_ends_without_a_result_gives_its_turn_to_another_user() -> None:
    bench = Bench()
    call = call_of(REFUSED)
    for user_id in ("email|2", "email|3"):
        bench.time += 10
        bench.evidence.failed(user_id, call, Failure(began=bench.time, status=503, text="HTTP 503"))
    assert bench.evidence.is_down(call)
    bench.meanwhile = lambda flight: flight.sending(*call, writes=True)  # type: ignore[arg-type]
    bench.others_succeed = False
    await bench.fly(LeaseLost())
    bench.evidence.admit("email|4", call)


@in_virtual_time
async def test_p3_an_event_that_arrives_after_the_read_is_not_answered_by_it() -> None:
    bench = Bench()
    bench.meanwhile = lambda _flight: bench.put(1)
    await bench.fly(Outcome.UPDATED)
    assert [event.offset for event in bench.queue.waiting] == [1]
    assert bench.committable == 1


class Spans:
    """The trace of one sync: what it was told, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def begin(self, events: Sequence[Waiting]) -> None:
        self.told.append(f"begin {len(events)}")

    def succeeded(self, outcome: str) -> None:
        self.told.append(outcome)

    def failed(self, error: Exception) -> None:
        self.told.append(type(error).__name__)

    def end(self) -> None:
        self.told.append("end")


@in_virtual_time
async def test_a_trace_hears_of_the_events_the_end_and_that_it_is_over() -> None:
    bench, spans = Bench(), Spans()
    bench.worker._new_trace = lambda _user_id: spans
    await bench.fly(DOWN, Outcome.UPDATED)
    assert spans.told == ["begin 1", "Unavailable", "end", "begin 1", "updated", "end"]


@in_virtual_time
async def test_a_letter_whose_task_is_cancelled_is_not_stored_and_the_cancellation_goes_on() -> None:
    bench = Bench()
    bench.letters_fail = asyncio.CancelledError()
    flight = Flight(bench.queue, bench, coalesce=True, wrote=lambda _flight, _audit: None)
    flight.reading()
    task = asyncio.create_task(bench.give_up(flight, GiveUp("rejected", "HTTP 400", 2)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or task.result() != Landed()
    assert bench.committable == 0
