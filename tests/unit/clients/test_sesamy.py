from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from consumer.clients.errors import Throttled, Unavailable
from consumer.clients.sesamy import SesamyClient
from consumer.mapping.state import UserState
from schemas.sesamy import Profile
from tests.unit.clients.scripted import Arrived, Bench, Reply, Script, bench

USER = "email|84c"


def things(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"thing_{n}"} for n in range(start, start + count)]


def lists(**pages: Any) -> Script:
    """Answer each list with what is given: a body, or a function of limit and offset."""

    def answer(request: Arrived) -> Reply:
        parts = urlsplit(request.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        assert query.pop("userId") == USER
        page = pages.get(parts.path.rsplit("/", 1)[-1], [])
        if callable(page):
            page = page(*(int(query[key]) if key in query else None for key in ("limit", "offset")))
        return page if isinstance(page, Reply) else Reply(200, page)

    return answer


async def profile_of(it: Bench) -> Profile | None:
    client = SesamyClient(it.transport)
    async with client.turn() as turn:
        return await client.profile(turn, USER)


async def rest(it: Bench) -> UserState:
    client = SesamyClient(it.transport)
    async with client.turn() as turn:
        return await client.rest(turn, USER, Profile(id=USER))


async def test_a_profile_is_read_by_its_encoded_id() -> None:
    async with bench(lambda _: Reply(200, {"userId": USER, "email": "a@x.no"}), api="sesamy") as it:
        assert await profile_of(it) == Profile(user_id=USER, email="a@x.no")
    assert it.server.calls() == [("GET", "/management/users/email%7C84c")]


async def test_a_user_that_sesamy_does_not_know_is_none() -> None:
    async with bench(lambda _: Reply(404), api="sesamy") as it:
        assert await profile_of(it) is None


@pytest.mark.parametrize("body", [b"", b"[]", {}, b"<html>", {"userId": {}}])
async def test_an_unreadable_profile_is_unavailable(body: Any) -> None:
    async with bench(lambda _: Reply(200, body), api="sesamy") as it:
        with pytest.raises(Unavailable, match="get_user: HTTP 200: an unreadable answer"):
            await profile_of(it)


async def test_the_rest_is_three_calls_with_contracts() -> None:
    script = lists(contracts=things(1), entitlements={"data": things(2)}, transactions=things(3))
    async with bench(script, api="sesamy") as it:
        state = await rest(it)
    assert state.user_id == USER
    assert (len(state.contracts), len(state.entitlements), len(state.transactions)) == (1, 2, 3)
    assert sorted(path for _, path in it.server.calls()) == [
        "/management/contracts?userId=email%7C84c&limit=100&offset=0",
        "/management/entitlements?userId=email%7C84c",
        "/management/transactions?userId=email%7C84c&limit=100&offset=0",
    ]


async def test_without_contracts_no_transactions_are_asked_for() -> None:
    async with bench(lists(entitlements=things(1)), api="sesamy") as it:
        state = await rest(it)
    assert (state.contracts, len(state.entitlements), state.transactions) == ((), 1, ())
    assert len(it.server.arrived) == 2


async def test_an_unspent_permit_goes_back_to_the_quota() -> None:
    async with bench(lists(), api="sesamy", burst=4) as it:
        await rest(it)
        await rest(it)  # four permits in all, two left after the first


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("total", [0, 1, 99, 100, 101, 250])
async def test_pages_are_followed_to_the_end(total: int, *, wrapped: bool) -> None:
    def page(limit: int, offset: int) -> Any:
        items = things(total)[offset : offset + limit]
        return {"data": items, "meta": {"total": total}} if wrapped else items

    async with bench(lists(contracts=page), api="sesamy") as it:
        state = await rest(it)
    assert [contract.id for contract in state.contracts] == [thing["id"] for thing in things(total)]


async def test_an_api_that_cuts_pages_short_is_followed_to_its_total() -> None:
    def page(limit: int, offset: int) -> Any:
        return {"data": things(120)[offset : offset + 50], "pagination": {"total": 120}}

    async with bench(lists(contracts=page), api="sesamy") as it:
        assert len((await rest(it)).contracts) == 120


async def test_an_api_that_does_not_page_is_asked_once() -> None:
    async with bench(lists(contracts=things(130)), api="sesamy") as it:
        assert len((await rest(it)).contracts) == 130
    assert sum("contracts" in path for _, path in it.server.calls()) == 1


async def test_entitlements_are_followed_only_when_the_api_says_that_there_are_more() -> None:
    def page(limit: int | None, offset: int | None) -> Any:
        return {"data": things(120)[offset or 0 :][: limit or 100], "meta": {"total": 120}}

    async with bench(lists(entitlements=page), api="sesamy") as it:
        assert len((await rest(it)).entitlements) == 120
    async with bench(lists(entitlements=things(100)), api="sesamy") as it:
        assert len((await rest(it)).entitlements) == 100
    assert sum("entitlements" in path for _, path in it.server.calls()) == 1


async def test_an_ignored_offset_is_noticed() -> None:
    async with bench(lists(contracts=things(100)), api="sesamy") as it:
        with pytest.raises(Unavailable, match="list_contracts: HTTP 200: pages repeat: the API ignores the offset"):
            await rest(it)


async def test_pages_without_end_are_left() -> None:
    async with bench(lists(contracts=things), api="sesamy") as it:
        with pytest.raises(Unavailable, match="more than 100 pages"):
            await rest(it)
    assert len(it.server.arrived) <= 101


async def test_a_total_that_is_too_high_ends_with_an_empty_page() -> None:
    def page(limit: int, offset: int) -> Any:
        return {"data": things(3)[offset:], "meta": {"total": 9}}

    async with bench(lists(contracts=page), api="sesamy") as it:
        assert len((await rest(it)).contracts) == 3


async def test_one_failing_read_fails_the_whole_with_its_own_error() -> None:
    script = lists(entitlements=Reply(429), contracts=things(1))
    async with bench(script, api="sesamy") as it:
        with pytest.raises(Throttled, match="sesamy list_entitlements: HTTP 429"):
            await rest(it)


async def test_an_unreadable_list_is_no_empty_one() -> None:
    async with bench(lists(contracts={"message": "hello"}), api="sesamy") as it:
        with pytest.raises(Unavailable, match="list_contracts: HTTP 200: an unreadable answer"):
            await rest(it)


async def test_the_probe_depends_on_no_user() -> None:
    async with bench(lambda _: Reply(200, []), api="sesamy") as it:
        await SesamyClient(it.transport).probe()
    assert it.server.calls() == [("GET", "/management/users?limit=1")]
