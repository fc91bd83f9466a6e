"""A write that took longer than the session allows has its user synced again, whatever became of the write (K7)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import structlog

from consumer.clients.errors import Unavailable
from consumer.ops.metrics import Metrics
from consumer.stream.flight import Flight, UserQueue
from consumer.stream.late_writes import LateWrites
from consumer.stream.membership import Membership
from consumer.stream.pending import Waiting
from consumer.sync.flight import LeaseLost
from tests.unit.stream.in_virtual_time import in_virtual_time

SESSION = 6.0
WRITE_TIMEOUT = 3.0
LATE = 3.6


def now() -> float:
    return asyncio.get_running_loop().time()


class Bench:
    """Late writes over a topic that may fail; freezing is a jump of the clock that counts suspended time."""

    def __init__(self) -> None:
        self.frozen = 0.0
        self.metrics = Metrics()
        self.membership = Membership(SESSION, self.clock)
        self.membership.join()
        self.membership.start(frozenset({3}))
        self.membership.renew(self.clock())
        self.late = LateWrites(self.request_sync, self.membership, clock=self.clock, metrics=self.metrics)
        self.stored: list[tuple[float, str, int]] = []
        self.failures: list[BaseException] = []
        self.takes = 0.0

    def clock(self) -> float:
        return now() + self.frozen

    async def request_sync(self, user_id: str, partition: int) -> None:
        await asyncio.sleep(self.takes)
        if self.failures:
            raise self.failures.pop(0)
        self.stored.append((now(), user_id, partition))

    def flight(self, user_id: str = "email|1") -> Flight:
        queue = UserQueue(user_id)
        queue.waiting.append(Waiting(3, 17, "contract.1#update", 0.0, 0.0, False))
        flight = Flight(queue, self.membership, coalesce=True, wrote=lambda _flight, _audit: None, watch=self.late)
        flight.reading()
        return flight

    def write(self, user_id: str = "email|1", *, frozen: float = 0.0, error: BaseException | None = None) -> None:
        """Write, frozen for so long in the midst of it."""
        sending = self.flight(user_id).sending("mailmojo", "patch_contact", writes=True)
        with suppress(Unavailable, asyncio.CancelledError), sending:
            self.frozen += frozen
            if error is not None:
                raise error

    @property
    def counted(self) -> float:
        return self.metrics.registry.get_sample_value("sesamy_mailmojo_late_writes_total") or 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.late.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@in_virtual_time
async def test_k7_a_write_that_was_answered_too_late_has_its_user_synced_again_at_once() -> None:
    bench = Bench()
    with structlog.testing.capture_logs() as lines:
        async with bench.running():
            bench.write(frozen=12.5)
            await asyncio.sleep(1)

    assert bench.stored == [(0.0, "email|1", 3)]
    assert bench.counted == 1
    (line,) = [line for line in lines if line["event"] == "write.late"]
    assert (line["log_level"], line["user_id"], line["seconds"], line["answered"]) == ("error", "email|1", 12.5, True)
    assert len(bench.late) == 0


@pytest.mark.parametrize(
    "error", [Unavailable("mailmojo", "patch_contact", None, "no answer"), asyncio.CancelledError()], ids=repr
)
@in_virtual_time
async def test_k7_without_a_response_the_request_waits_until_the_write_can_no_longer_take_effect(
    error: BaseException,
) -> None:
    bench = Bench()
    async with bench.running():
        bench.write(frozen=12.5, error=error)
        await asyncio.sleep(20)

    assert bench.stored == [(WRITE_TIMEOUT, "email|1", 3)]


@in_virtual_time
async def test_k7_it_is_requested_though_the_partitions_are_lost() -> None:
    bench = Bench()
    async with bench.running():
        with bench.flight().sending("mailmojo", "patch_contact", writes=True):
            bench.frozen = 12.5
            bench.membership.leave()
        await asyncio.sleep(1)

    assert [user for _, user, _ in bench.stored] == ["email|1"]


@pytest.mark.parametrize(("seconds", "late"), [(0.0, 0), (WRITE_TIMEOUT + 0.1, 0), (LATE + 0.1, 1)])
@in_virtual_time
async def test_k7_a_write_that_ends_while_the_session_lasts_is_not_late(seconds: float, late: int) -> None:
    bench = Bench()
    async with bench.running():
        bench.write(frozen=seconds)
        await asyncio.sleep(30)

    assert (bench.counted, len(bench.stored)) == (late, late)


@in_virtual_time
async def test_k7_a_write_that_was_frozen_before_the_check_is_not_sent_and_a_read_is_never_late() -> None:
    bench = Bench()
    flight = bench.flight()
    with flight.sending("sesamy", "get_user", writes=False):
        bench.frozen = 12.5
    with pytest.raises(LeaseLost):
        flight.sending("mailmojo", "patch_contact", writes=True)
    assert bench.counted == 0


@in_virtual_time
async def test_k7_a_request_is_retried_until_it_is_stored_whatever_fails() -> None:
    bench = Bench()
    bench.failures = [OSError(), AssertionError(), asyncio.CancelledError(), *[ValueError() for _ in range(5)]]
    async with bench.running():
        bench.write("a", frozen=12.5)
        bench.membership.renew(bench.clock())
        bench.write("b", frozen=12.5)
        await asyncio.sleep(60)

    assert [user for _, user, _ in bench.stored] == ["a", "b"]
    assert bench.counted == 2
    assert bench.failures == []


@in_virtual_time
async def test_k7_a_write_that_is_late_while_the_users_request_is_being_stored_has_a_request_of_its_own() -> None:
    bench = Bench()
    bench.takes = 2.0
    async with bench.running():
        bench.write(frozen=12.5)
        await asyncio.sleep(1)
        bench.membership.renew(bench.clock())
        bench.write(frozen=12.5)
        await asyncio.sleep(10)

    assert [at for at, _, _ in bench.stored] == [2.0, 4.0]


@in_virtual_time
async def test_k7_a_service_that_ends_stores_what_is_left_in_bounded_time() -> None:
    bench = Bench()
    async with bench.running():
        bench.write(frozen=12.5, error=Unavailable("mailmojo", "patch_contact", None, "no answer"))
        await asyncio.sleep(0.1)
    await bench.late.finish(1.5)
    assert [user for _, user, _ in bench.stored] == ["email|1"]

    bench.membership.renew(bench.clock())
    bench.failures = [OSError() for _ in range(100)]
    bench.write("email|2", frozen=12.5)
    began = now()
    with structlog.testing.capture_logs() as lines:
        await bench.late.finish(1.5)
    assert now() == began + 1.5
    assert [line["user_ids"] for line in lines if line["event"] == "sync_request.not_stored"] == [["email|2"]]


@in_virtual_time
async def test_k7_there_is_a_bound_to_what_waits_and_more_is_said_in_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consumer.stream.late_writes._MOST", 2)
    bench = Bench()
    with structlog.testing.capture_logs() as lines:
        for user_id in ("a", "b", "b", "c"):
            bench.membership.renew(bench.clock())
            bench.write(user_id, frozen=12.5)

    assert (bench.counted, len(bench.late)) == (4, 2)
    assert [line["user_id"] for line in lines if line["event"] == "sync_request.dropped"] == ["c"]


@in_virtual_time
async def test_one_request_that_is_due_does_not_take_along_one_that_is_not() -> None:
    bench = Bench()
    async with bench.running():
        bench.write("email|1", frozen=LATE + 1)
        bench.membership.renew(bench.clock())
        bench.write("email|2", frozen=LATE + 1, error=Unavailable("mailmojo", "patch_contact", None))
        await asyncio.sleep(WRITE_TIMEOUT - 0.5)
        assert [user_id for _, user_id, _ in bench.stored] == ["email|1"]
        await asyncio.sleep(1)
        assert [user_id for _, user_id, _ in bench.stored] == ["email|1", "email|2"]
