"""A call that is down is tried again and again, by single users and control users, at little cost."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from consumer.clients.errors import Unavailable
from consumer.ops.metrics import Metrics
from consumer.sync.calls import Call, Failure
from consumer.sync.evidence import CallDown, Evidence
from consumer.sync.trials import Trials
from tests.unit.stream.in_virtual_time import in_virtual_time

PATCH: Call = ("mailmojo", "patch_contact")
PROFILE: Call = ("sesamy", "get_user")


class Bench:
    """Trials over real evidence; users and controls fail until `mended`."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.mended = False
        self.tried: list[tuple[float, str]] = []
        self.released: list[str] = []
        self.silent_users: set[str] = set()
        """Users whose trial never ends."""
        self.evidence = Evidence(Metrics(), clock=self.now, released=self.released.extend)
        self.trials = Trials(self.evidence, self, self.retry_now, random.Random(1))  # type: ignore[arg-type]

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def retry_now(self, users: Iterable[str]) -> None:
        for user in users:
            self.tried.append((self.now(), user))
            if user not in self.silent_users:
                self.send(user)

    def send(self, user: str) -> None:
        self.evidence.admit(user, self.call)
        if self.mended:
            self.evidence.succeeded(user, self.call)
        else:
            self.evidence.failed(user, self.call, Failure(began=self.now(), status=503, text="down"))
            self.evidence.park(user, self.call)
        self.evidence.ended(user)

    async def try_again(self, call: Call) -> None:
        self.tried.append((self.now(), "control"))
        if not self.mended:
            raise Unavailable("sesamy", "get_user", 503)
        self.evidence.succeeded("listed", call)

    def fail(self, *users: str) -> None:
        for user in users:
            self.evidence.failed(user, self.call, Failure(began=self.now(), status=503, text="down"))
        for user in users:
            self.evidence.park(user, self.call)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.trials.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@in_virtual_time
async def test_while_writes_fail_single_users_are_tried_at_growing_intervals() -> None:
    bench = Bench(PATCH)
    bench.fail("one", "two", "three")
    async with bench.running():
        await asyncio.sleep(300)

    assert 55 <= len(bench.tried) <= 150
    assert {user for _, user in bench.tried} == {"one", "two", "three"}
    assert bench.tried[0][0] <= 1.5
    assert bench.released == []


@in_virtual_time
async def test_the_end_is_noticed_within_seconds_and_all_are_released() -> None:
    bench = Bench(PATCH)
    bench.fail("one", "two", "three")
    async with bench.running():
        await asyncio.sleep(300)
        bench.mended = True
        await asyncio.sleep(5.5)

    assert bench.evidence.reasons() == {}
    assert len(bench.released) == 2  # the third was the trial itself


@in_virtual_time
async def test_those_who_did_not_fail_are_tried_before_those_who_did() -> None:
    bench = Bench(PATCH)
    bench.fail("one", "two")
    bench.evidence.park("new", PATCH)
    async with bench.running():
        await asyncio.sleep(1.5)

    assert bench.tried[0][1] == "new"


@in_virtual_time
async def test_a_trial_that_does_not_come_to_an_end_leaves_the_turn_to_another_user() -> None:
    bench = Bench(PATCH)
    bench.fail("one", "two")
    bench.silent_users = {"one"}
    async with bench.running():
        await asyncio.sleep(20)
        assert [user for _, user in bench.tried] == ["one"]
        await asyncio.sleep(20)

    assert {user for _, user in bench.tried} == {"one", "two"}


@in_virtual_time
async def test_reads_are_tried_by_control_users_and_by_those_who_wait_in_turn() -> None:
    bench = Bench(PROFILE)
    bench.fail("one", "two")
    async with bench.running():
        await asyncio.sleep(30)
        bench.mended = True
        await asyncio.sleep(5.5)

    assert {user for _, user in bench.tried} == {"control", "one", "two"}
    assert bench.evidence.reasons() == {}


@in_virtual_time
async def test_without_an_outage_nothing_is_tried() -> None:
    bench = Bench(PATCH)
    async with bench.running():
        await asyncio.sleep(60)
        with suppress(CallDown):
            bench.send("one")

    assert bench.tried == []
