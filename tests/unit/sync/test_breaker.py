import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from consumer.clients.errors import Api, ApiError, Rejected, Throttled, Unauthorized, Unavailable, UnknownList
from consumer.ops.metrics import Metrics
from consumer.sync.breaker import Breaker, Gatekeeper, RejectionStreak, way_out
from tests.unit.stream.in_virtual_time import in_virtual_time

DOWN = Unavailable("mailmojo", "get_contact", 503)


def now() -> float:
    return asyncio.get_running_loop().time()


class FakeApi:
    """An API that answers probes, or fails them."""

    def __init__(self, api: Api = "mailmojo") -> None:
        self.fails_with: Exception | None = None
        self.takes = 0.1
        self.probes = 0
        self.turns = 0
        self.metrics = Metrics()
        self.breaker = Breaker(api, self.probe, metrics=self.metrics, changed=self.changed, rng=random.Random(1))

    async def probe(self) -> None:
        self.probes += 1
        fails_with = self.fails_with
        await asyncio.sleep(self.takes)
        if fails_with:
            raise fails_with

    def changed(self) -> None:
        self.turns += 1

    @property
    def gauge(self) -> float | None:
        return self.metrics.registry.get_sample_value("sesamy_mailmojo_circuit_open", {"api": self.breaker.api})

    async def fail(self, error: ApiError = DOWN) -> bool:
        return await self.breaker.is_fault_of_user(error, self.breaker.successes)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.breaker.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@in_virtual_time
async def test_one_poisoned_user_never_opens_it_and_pays_for_every_failure() -> None:
    api = FakeApi()
    async with api.running():
        verdicts = [await api.fail() for _ in range(10)]

    assert verdicts == [True] * 10
    assert not api.breaker.is_open
    assert api.turns == 0


@in_virtual_time
async def test_a_success_of_another_user_meanwhile_needs_no_probe() -> None:
    api = FakeApi()
    before = api.breaker.successes
    api.breaker.succeeded()

    assert await api.breaker.is_fault_of_user(DOWN, before)
    assert api.probes == 0


@pytest.mark.parametrize("recovery", [0.1, 3.0, 10.0, 19.5, 33.0])
@in_virtual_time
async def test_the_end_of_a_silence_is_noticed_in_seconds_however_long_a_call_may_take(recovery: float) -> None:
    api = FakeApi()
    api.fails_with = DOWN
    await api.fail()
    api.takes = 10.0
    async with api.running():
        await asyncio.sleep(recovery)
        api.takes, api.fails_with = 0.1, None
        await asyncio.sleep(6.0)
        assert not api.breaker.is_open


@in_virtual_time
async def test_an_outage_opens_it_at_the_first_failing_sync_and_blames_nobody() -> None:
    api = FakeApi()
    api.fails_with = DOWN

    assert not await api.fail()

    assert api.breaker.is_open
    assert api.gauge == 1
    assert api.turns == 1
    assert api.breaker.reason == "mailmojo get_contact: HTTP 503"


@in_virtual_time
async def test_while_open_nobody_is_blamed_and_no_flight_probes() -> None:
    api = FakeApi()
    api.fails_with = DOWN
    await api.fail()

    assert [await api.fail() for _ in range(5)] == [False] * 5
    assert api.probes == 1
    assert api.turns == 1


@pytest.mark.parametrize("outage", [1.0, 30.0, 3600.0])
@in_virtual_time
async def test_it_closes_by_itself_within_five_seconds_of_the_recovery(outage: float) -> None:
    api = FakeApi()
    api.fails_with = DOWN
    async with api.running():
        await api.fail()
        await asyncio.sleep(outage)
        assert api.breaker.is_open
        api.fails_with = None
        await asyncio.sleep(5 + 2 * api.takes)

    assert not api.breaker.is_open
    assert api.gauge == 0  # type: ignore[unreachable] # another task turns it
    assert api.turns == 2


@in_virtual_time
async def test_it_opens_and_closes_again_and_again() -> None:
    api = FakeApi()
    async with api.running():
        for _ in range(3):
            api.fails_with = DOWN
            await api.fail()
            assert api.breaker.is_open
            api.fails_with = None
            await asyncio.sleep(6)
            assert not api.breaker.is_open


@in_virtual_time
async def test_a_long_outage_is_probed_seldom() -> None:
    api = FakeApi()
    api.fails_with = DOWN
    async with api.running():
        await api.fail()
        await asyncio.sleep(600)

    assert api.probes < 300


@in_virtual_time
async def test_being_throttled_counts_against_nobody_and_asks_nothing() -> None:
    api = FakeApi()
    api.breaker.succeeded()

    assert not await api.breaker.is_fault_of_user(Throttled("mailmojo", "get_contact", 429), 0)
    assert api.probes == 0


@pytest.mark.parametrize("answer", [None, DOWN, Throttled("mailmojo", "get_list", 429)], ids=["up", "down", "429"])
@in_virtual_time
async def test_many_failing_flights_make_one_probe(answer: ApiError | None) -> None:
    api = FakeApi()
    api.fails_with = answer

    verdicts = await asyncio.gather(*(api.fail() for _ in range(64)))

    assert api.probes == 1
    assert set(verdicts) == {answer is None}
    assert api.breaker.is_open == (answer is DOWN)


@in_virtual_time
async def test_a_throttled_probe_keeps_it_as_it_is() -> None:
    api = FakeApi()
    api.fails_with = DOWN
    async with api.running():
        await api.fail()
        api.fails_with = Throttled("mailmojo", "get_list", 429)
        await asyncio.sleep(30)
        assert api.breaker.is_open
        assert api.breaker.reason == "mailmojo get_contact: HTTP 503"


@in_virtual_time
async def test_a_flight_that_is_recalled_while_it_asks_leaves_the_turn_to_others() -> None:
    api = FakeApi()
    asking = asyncio.create_task(api.fail())
    await asyncio.sleep(0.05)
    waiting = asyncio.create_task(api.fail())
    await asyncio.sleep(0)
    asking.cancel()

    assert await waiting


@in_virtual_time
async def test_the_reason_follows_the_outage() -> None:
    api = FakeApi()
    api.fails_with = DOWN
    async with api.running():
        await api.fail()
        api.fails_with = Unauthorized("mailmojo", "get_list", 401)
        await asyncio.sleep(10)

    assert "MAILMOJO_API_TOKEN" in (api.breaker.reason or "")


@pytest.mark.parametrize(
    ("failure", "setting"),
    [
        (Unauthorized("mailmojo", "get_list", 401), "MAILMOJO_API_TOKEN"),
        (Unauthorized("sesamy", "token", 403), "SESAMY_CLIENT_ID and SESAMY_CLIENT_SECRET"),
        (UnknownList("mailmojo", "get_list", 404), "MAILMOJO_LIST_ID"),
    ],
)
def test_a_reason_names_the_setting(failure: ApiError, setting: str) -> None:
    assert way_out(failure).startswith(f"{failure} - ")
    assert way_out(failure).endswith(setting)


class Streak(RejectionStreak):
    def __init__(self) -> None:
        self.time = 0.0
        self.turns = 0
        super().__init__(lambda: self.time, self._turned)

    def _turned(self) -> None:
        self.turns += 1

    def refuse(self, *users: object) -> list[bool]:
        return [
            self.rejected(f"user-{user}", Rejected("mailmojo", "patch_contact", 400, "bad field")) for user in users
        ]


def test_ten_different_users_refused_in_a_row_hold_consumption() -> None:
    streak = Streak()

    assert streak.refuse(*range(10)) == [True] * 9 + [False]
    assert streak.is_open
    assert "mailmojo patch_contact: HTTP 400: bad field" in (streak.reason or "")
    assert streak.turns == 1


def test_one_user_refused_often_holds_nothing() -> None:
    streak = Streak()

    assert streak.refuse(*[1] * 50) == [True] * 50
    assert streak.reason is None
    assert streak.next_trial_in() is None


def test_an_accepted_write_between_starts_the_count_anew() -> None:
    streak = Streak()
    streak.refuse(*range(9))
    streak.accepted()

    assert streak.refuse(*range(9)) == [True] * 9
    assert streak.turns == 0


def test_while_it_holds_one_user_is_tried_at_a_time() -> None:
    streak = Streak()
    streak.refuse(*range(10))

    assert not streak.admits()
    assert streak.next_trial_in() == 5
    streak.time = 5
    assert [streak.admits(), streak.admits()] == [True, False]
    assert streak.refuse("trial") == [False]
    streak.time += 4.9
    assert not streak.admits()
    streak.time += 0.2
    assert streak.admits()


def test_an_accepted_trial_ends_it() -> None:
    streak = Streak()
    streak.refuse(*range(10))
    streak.accepted()

    assert streak.admits()
    assert streak.reason is None
    assert streak.turns == 2
    assert streak.refuse("one") == [True]


@in_virtual_time
async def test_the_gatekeeper_admits_nobody_while_anything_is_open_and_says_why() -> None:
    sesamy, mailmojo, streak = FakeApi("sesamy"), FakeApi(), Streak()
    gatekeeper = Gatekeeper(sesamy.breaker, mailmojo.breaker, streak)
    assert gatekeeper.admits()
    assert gatekeeper.reasons() == {}
    assert gatekeeper.wait() is None

    streak.refuse(*range(10))
    streak.time = 15
    sesamy.fails_with = Unauthorized("sesamy", "users", 401)
    await sesamy.fail()
    assert not gatekeeper.admits()
    assert set(gatekeeper.reasons()) == {"sesamy", "rejections"}

    sesamy.fails_with = None
    async with sesamy.running():
        await asyncio.sleep(6)
    assert gatekeeper.wait() == 0
    assert gatekeeper.admits()  # the trial was not spent on a closed gate
    assert not gatekeeper.admits()
