from collections import Counter

import pytest

from consumer.clients.errors import ApiError, Rejected, Throttled, TooLarge, Unauthorized, Unavailable, UnknownList
from consumer.reconcile.patience import each, patiently
from consumer.settings import SyncSettings

RETRIES = SyncSettings(max_attempts=4, retry_base=1, retry_cap=3)
DOWN = Unavailable("mailmojo", "get_contact", 503)
UNREADABLE = Unavailable("mailmojo", "get_contact", 200, "an unreadable answer")
TOO_LARGE = TooLarge("mailmojo", "get_contact", 200)
REFUSED = Rejected("mailmojo", "patch_contact", 400)
SLOWLY = Throttled("mailmojo", "get_contact", 429)


class Walk:
    """Items whose calls fail as scripted, in turn."""

    def __init__(self, **failures: list[ApiError]) -> None:
        self.failures = failures
        self.order: list[str] = []
        self.given_up: dict[str, ApiError] = {}
        self.naps: list[float] = []

    async def __call__(self, items: str) -> None:
        await each(items, self._do, self.given_up.__setitem__, RETRIES, self._nap)

    async def _do(self, item: str) -> None:
        self.order.append(item)
        if self.failures.get(item):
            raise self.failures[item].pop(0)

    async def _nap(self, seconds: float) -> None:
        self.naps.append(seconds)


async def test_what_fails_is_tried_again_after_the_others() -> None:
    walk = Walk(a=[DOWN], b=[REFUSED])
    await walk("abcd")
    assert (walk.order, walk.given_up, walk.naps) == (list("abcdab"), {}, [1])


@pytest.mark.parametrize("error", [DOWN, REFUSED])
async def test_what_fails_three_times_is_given_up_and_holds_nobody_back(error: ApiError) -> None:
    walk = Walk(a=[error] * 9)
    await walk("abc")
    assert (Counter(walk.order), walk.given_up) == ({"a": 3, "b": 1, "c": 1}, {"a": error})


async def test_too_large_an_answer_is_not_asked_for_again_and_a_pause_costs_no_try() -> None:
    walk = Walk(a=[TOO_LARGE], b=[SLOWLY] * 8)
    await walk("ab")
    assert (Counter(walk.order), walk.given_up) == ({"a": 1, "b": 9}, {"a": TOO_LARGE})
    assert max(walk.naps) == RETRIES.retry_cap


@pytest.mark.parametrize("error", [DOWN, REFUSED, SLOWLY])
async def test_ten_failures_in_a_row_are_nobodys_fault_alone(error: ApiError) -> None:
    items = "abcdefghijklmno"
    walk = Walk(**{item: [error] * 9 for item in items})
    with pytest.raises(type(error)):
        await walk(items)
    assert (len(walk.order), walk.given_up) == (10, {})


@pytest.mark.parametrize("error", [Unauthorized("sesamy", "x", 401), UnknownList("mailmojo", "x", 404)])
async def test_a_fault_of_a_setting_ends_it_at_once(error: ApiError) -> None:
    walk = Walk(a=[error])
    with pytest.raises(type(error)):
        await walk("ab")
    assert walk.order == ["a"]


@pytest.mark.parametrize(
    ("failures", "calls", "raised"),
    [
        ([DOWN, SLOWLY, DOWN], 4, None),
        ([DOWN] * 9, 4, Unavailable),
        ([UNREADABLE] * 3, 4, None),
        ([UNREADABLE] * 9, 4, Unavailable),
        ([TOO_LARGE] * 9, 1, TooLarge),
        ([REFUSED] * 9, 1, Rejected),
        ([Unauthorized("sesamy", "x", 401)] * 9, 1, Unauthorized),
    ],
)
async def test_what_everything_needs_is_asked_for_patiently(
    failures: list[ApiError], calls: int, raised: type[ApiError] | None
) -> None:
    made, naps = list[None](), list[float]()

    async def call() -> str:
        made.append(None)
        if len(made) <= len(failures):
            raise failures[len(made) - 1]
        return "done"

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    if raised is None:
        assert await patiently(call, RETRIES, nap) == "done"
    else:
        with pytest.raises(raised):
            await patiently(call, RETRIES, nap)
    assert len(made) == calls
    assert naps == [1, 2, 3][: calls - 1]
