"""A list of contacts is read to its end, or said to be cut, whatever the API makes of limit and offset."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.clients.errors import ApiError, Rejected, TooLarge, Unauthorized, Unavailable
from consumer.reconcile.contact_pages import ContactPages
from schemas.decoding import Page

LIMITS = (20, 10)


def named(*numbers: int) -> list[dict[str, Any]]:
    return [{"email": f"N{number}@x.no"} for number in numbers]


class Api:
    """A list of contacts as one API or another gives it. `between` changes the list after each call."""

    def __init__(
        self,
        count: int,
        *,
        cap: int = 10**9,
        offset: Literal["taken", "ignored", "refused"] = "taken",
        largest: int = 10**9,
        between: Callable[[list[dict[str, Any]]], None] = lambda _: None,
    ) -> None:
        self.contacts = named(*range(count))
        self.calls: list[tuple[int, int]] = []
        self.total = False
        self.refused_limits: set[int] = set()
        self._cap, self._offset, self._largest, self._between = cap, offset, largest, between

    async def __call__(self, limit: int, offset: int) -> Page[dict[str, Any]]:
        self.calls.append((limit, offset))
        if limit in self.refused_limits or (offset and self._offset == "refused"):
            raise Rejected("mailmojo", "list_subscribers", 400)
        start = offset if self._offset == "taken" else 0
        found = self.contacts[start : start + min(limit, self._cap)]
        if len(found) > self._largest:
            raise TooLarge("mailmojo", "list_subscribers", 200, "an answer larger than 8 bytes")
        self._between(self.contacts)
        return Page(found, len(self.contacts) if self.total else None)


async def read(api: Api, limits: Sequence[int] = LIMITS) -> tuple[list[str], str | None]:
    pages = ContactPages(api, limits)
    return [item["email"] async for page in pages.all() for item in page], pages.cut


def addresses(count: int) -> list[str]:
    return [item["email"] for item in named(*range(count))]


@pytest.mark.parametrize("cap", [10**9, 20, 13, 10, 2, 1])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 9, 10, 11, 19, 20, 21, 40, 57])
async def test_with_an_offset_everything_is_read_once_and_known_to_be_everything(count: int, cap: int) -> None:
    assert await read(Api(count, cap=cap)) == (addresses(count), None)


@given(
    count=st.integers(0, 400),
    cap=st.integers(1, 90),
    offset=st.sampled_from(["taken", "ignored", "refused"]),
    largest=st.sampled_from([10**9, 45]),
)
async def test_nothing_is_missed_without_a_word(count: int, cap: int, offset: Any, largest: int) -> None:
    api = Api(count, cap=cap * 10, offset=offset, largest=largest)
    found, cut = await read(api)
    assert found == addresses(len(found))
    assert len(found) == count or cut is not None
    assert offset != "taken" or cut is None


@pytest.mark.parametrize("offset", ["ignored", "refused"])
@pytest.mark.parametrize(
    ("count", "cap", "read_", "cut"),
    [
        (0, 10**9, 0, False),
        (7, 10**9, 7, False),
        (19, 10**9, 19, False),
        (57, 10**9, 57, False),  # a larger limit brings all
        (333, 10**9, 333, False),
        (57, 20, 20, True),
        (333, 50, 50, True),
        (10, 10**9, 10, True),  # may be a bound of the API
    ],
)
async def test_without_an_offset_the_limit_grows_and_what_may_be_missing_is_said(
    offset: Any, count: int, cap: int, read_: int, cut: bool
) -> None:
    found, why = await read(Api(count, cap=cap, offset=offset))
    assert (found, why is not None) == (addresses(read_), cut)


async def test_an_answer_that_gets_too_large_ends_the_growth() -> None:
    found, cut = await read(Api(1000, offset="ignored", largest=100))
    assert len(found) == 80
    assert cut is not None
    assert "80 at a time" in cut


async def test_a_limit_that_is_refused_or_brings_too_large_an_answer_is_lowered() -> None:
    api = Api(15)
    api.refused_limits = {20}
    assert await read(api) == (addresses(15), None)
    assert {limit for limit, _ in api.calls[1:]} == {10}
    assert await read(Api(15, largest=10)) == (addresses(15), None)
    api.refused_limits = {20, 10}
    with pytest.raises(Rejected):
        await read(api)


async def test_contacts_without_an_address_are_told_apart() -> None:
    api = Api(0)
    api.contacts = [{"email": None, "id": number} for number in range(30)]
    pages = ContactPages(api, LIMITS)
    assert [item["id"] async for page in pages.all() for item in page] == list(range(30))


@pytest.mark.parametrize("left", [1, 5, 9])
async def test_contacts_that_leave_the_list_meanwhile_hide_nobody(left: int) -> None:
    api = Api(100, between=lambda contacts: contacts.__delitem__(slice(0, left)))
    found, cut = await read(api)
    assert (set(addresses(100)) - set(found), cut) == (set(), None)


async def test_a_list_that_shrinks_by_more_than_the_overlap_is_said_to_have_changed() -> None:
    api = Api(200, between=lambda contacts: contacts.__delitem__(slice(0, 15)))
    found, cut = await read(api)
    assert len(found) < 200
    assert cut is not None
    assert "changed" in cut


async def test_contacts_that_join_the_list_meanwhile_hide_nobody() -> None:
    fresh = iter(range(1000, 2000))
    api = Api(100, between=lambda contacts: contacts.insert(0, named(next(fresh))[0]))
    found, cut = await read(api)
    assert (set(addresses(100)) - set(found), cut) == (set(), None)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("cap", [10**9, 20])
async def test_an_offset_that_is_ignored_is_noticed_although_the_list_changes(cap: int) -> None:
    api = Api(100, cap=cap, offset="ignored", between=lambda contacts: contacts.__delitem__(0))
    found, cut = await read(api)
    assert len(found) == 100 or cut is not None


async def test_an_offset_that_counts_something_else_is_noticed() -> None:
    api = Api(200)

    async def pages_instead(limit: int, offset: int) -> Page[dict[str, Any]]:
        return (await api(limit, offset * limit)) if offset else await api(limit, 0)

    pages = ContactPages(pages_instead, LIMITS)
    found = [item async for page in pages.all() for item in page]
    assert len(found) < 200
    assert pages.cut is not None


async def test_an_offset_that_is_taken_only_so_far_is_said() -> None:
    api = Api(200)

    async def bounded(limit: int, offset: int) -> Page[dict[str, Any]]:
        if offset > 60:
            raise Rejected("mailmojo", "list_subscribers", 400)
        return await api(limit, offset)

    pages = ContactPages(bounded, LIMITS)
    found = [item async for page in pages.all() for item in page]
    assert len(found) == 80
    assert pages.cut == "Mailmojo lists no more than the first 80"


@pytest.mark.parametrize("error", [Unauthorized("mailmojo", "x", 401), Unavailable("mailmojo", "x", 503)])
async def test_a_failure_on_the_way_is_no_end_of_the_list(error: ApiError) -> None:
    api = Api(100)

    async def failing(limit: int, offset: int) -> Page[dict[str, Any]]:
        if offset:
            raise error
        return await api(limit, offset)

    with pytest.raises(type(error)):
        [page async for page in ContactPages(failing, LIMITS).all()]


@pytest.mark.parametrize("body", ["null", "error"])
async def test_a1_an_unreadable_second_page_is_no_offset_that_is_ignored(body: str) -> None:
    api = Api(17)

    async def failing(limit: int, offset: int) -> Page[dict[str, Any]]:
        if offset:
            raise Unavailable("mailmojo", "list_subscribers", 200, f"an answer that contradicts itself: {body}")
        return await api(limit, offset)

    with pytest.raises(Unavailable, match="contradicts itself"):
        [page async for page in ContactPages(failing, LIMITS).all()]


async def test_a1_a_list_of_contacts_that_ends_before_its_total_is_a_failure() -> None:
    api = Api(57)

    async def ends_early(limit: int, offset: int) -> Page[dict[str, Any]]:
        return Page([] if offset else (await api(limit, offset)).items, 57)

    with pytest.raises(Unavailable, match="list_unsubscribed: HTTP 200: the list ends after 20 of 57 contacts"):
        [page async for page in ContactPages(ends_early, LIMITS, "list_unsubscribed").all()]


@pytest.mark.parametrize("offset", ["ignored", "refused"])
async def test_a_total_says_what_a_list_without_an_offset_does_not_show(offset: Any) -> None:
    api = Api(57, cap=20, offset=offset)
    api.total = True
    assert await read(api) == (addresses(20), "Mailmojo lists 20 of 57 and takes no offset")
    whole = Api(10, offset=offset)
    whole.total = True
    assert await read(whole) == (addresses(10), None)
