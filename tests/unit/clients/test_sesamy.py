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


OTHER = {"id": "c1", "userId": "email|other"}
INCONSISTENT = {
    "null": {"data": None},
    "null-with-error": {"data": None, "error": {"code": "internal"}},
    "empty-with-error": {"data": [], "error": {"code": "internal"}},
    "errors": {"data": [], "errors": ["internal"]},
    "error-in-meta": {"data": [], "meta": {"error": "internal"}},
    "no-success": {"data": [], "success": False},
    "not-ok": {"data": [], "ok": "false"},
    "status-error": {"status": "error", "data": []},
    "status-in-capitals": {"status": "FAILED", "data": []},
    "status-of-http": {"status": 500, "message": "internal", "data": []},
    "status-code": {"statusCode": "503", "data": []},
    "more-after-nothing": {"data": [], "meta": {"hasMore": True}},
    "more-after-the-total": {"data": things(1), "meta": {"total": 1}, "has_more": True},
    "no-more-before-the-total": {"data": things(1), "meta": {"total": 3, "hasMore": False}},
    "items-null": {"items": None},
    "named-null": {"contracts": None},
    "no-list": {"meta": {"total": 0}},
    "empty-before-total": {"data": [], "meta": {"total": 3, "offset": 0}},
    "empty-before-pagination-total": {"data": [], "pagination": {"total": 3}},
    "empty-before-total-at-the-top": {"data": [], "total": 3},
    "empty-before-total-as-text": {"data": [], "total": "3"},
    "short-before-total": {"data": things(2), "meta": {"total": 3}},
    "more-than-total": {"data": things(2), "meta": {"total": 1}},
    "two-totals": {"data": [], "meta": {"total": 0}, "pagination": {"total": 3}},
    "negative-total": {"data": [], "meta": {"total": -1}},
    "total-that-is-no-count": {"data": [], "meta": {"total": 0.5}},
    "total-that-is-no-number": {"data": [], "meta": {"total": "many"}},
    "meta-that-is-no-object": {"data": [], "meta": [3]},
    "two-lists": {"data": [], "items": things(1)},
    "another-two-lists": {"data": [], "contracts": things(1)},
    "another-offset": {"data": things(1), "meta": {"offset": 100}},
    "null-item": [None],
    "null-items": {"data": [None, None]},
    "text-items": ["c1"],
    "another-user": [{"id": "c0", "userId": USER}, OTHER],
    "object-list": {"data": {"id": "c1"}},
    "nothing": b"",
    "json-null": b"null",
    "html": b"<html>maintenance</html>",
    "truncated": b'{"data": [{"id": "c1"}',
    "utf-16": '{"data": []}'.encode("utf-16"),
    "not-utf-8": b'{"data": [{"id": "\xff"}]}',
}


@pytest.mark.parametrize("name", ["contracts", "entitlements", "transactions"])
@pytest.mark.parametrize("body", INCONSISTENT.values(), ids=INCONSISTENT)
async def test_a1_a_list_that_contradicts_itself_is_a_failure_of_its_call(name: str, body: Any) -> None:
    if isinstance(body, dict) and "contracts" in body:
        body = {name if key == "contracts" else key: value for key, value in body.items()}
    answers: dict[str, Any] = {"contracts": things(1)} | {name: body}
    async with bench(lists(**answers), api="sesamy") as it:
        with pytest.raises(Unavailable, match=f"sesamy list_{name}: HTTP 200: an") as raised:
            await rest(it)
    assert (raised.value.operation, raised.value.status) == (f"list_{name}", 200)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ([], {"X-Total-Count": "3"}),
        ({"data": []}, {"x-total-count": "3"}),
        ({"data": [], "meta": {"total": 0}}, {"X-Total-Count": "3"}),
        ({"data": things(3), "meta": {"total": 3}}, {"X-Total-Count": "4"}),
        ([], {"X-Total-Count": "-1"}),
        ([], {"X-Total-Count": "many"}),
    ],
)
async def test_a1_the_total_in_a_header_counts_as_the_one_in_the_body_does(body: Any, headers: dict[str, str]) -> None:
    async with bench(lists(contracts=Reply(200, body, headers)), api="sesamy") as it:
        with pytest.raises(Unavailable, match="list_contracts: HTTP 200: an answer that contradicts itself"):
            await rest(it)
    right = Reply(200, {"data": things(3), "meta": {"total": 3}}, {"X-Total-Count": "3"})
    async with bench(lists(contracts=right), api="sesamy") as it:
        assert len((await rest(it)).contracts) == 3


@pytest.mark.parametrize(
    "next_",
    [
        {"meta": {"hasMore": True}},
        {"has_more": "true"},
        {"pagination": {"next": "/management/contracts?offset=50"}},
        {"Link": '<https://x/contracts?offset=50>; rel="next", <https://x>; rel="last"'},
    ],
)
async def test_a1_a_page_that_is_said_not_to_be_the_last_is_followed_however_short(next_: dict[str, Any]) -> None:
    def page(limit: int, offset: int) -> Any:
        body = {"data": things(70)[offset : offset + 50]}
        if offset:
            return body
        return Reply(200, body, next_) if "Link" in next_ else body | next_

    async with bench(lists(contracts=page), api="sesamy") as it:
        assert len((await rest(it)).contracts) == 70


@pytest.mark.parametrize("nothing", [{"next": False}, {"next": {}}, {"nextCursor": ""}, {"next": None}])
async def test_a_page_that_names_no_next_one_is_the_last(nothing: dict[str, Any]) -> None:
    async with bench(lists(contracts=things(1), entitlements={"data": things(2), "meta": nothing}), api="sesamy") as it:
        assert len((await rest(it)).entitlements) == 2


@pytest.mark.parametrize("status", [202, 204, 206, 207])
async def test_a1_a_status_that_says_otherwise_is_no_list(status: int) -> None:
    async with bench(lists(contracts=Reply(status, b"" if status == 204 else [])), api="sesamy") as it:
        with pytest.raises(Unavailable, match=f"list_contracts: HTTP {status}"):
            await rest(it)


async def test_a1_a_part_of_a_list_is_no_list() -> None:
    async with bench(lists(contracts=Reply(206, things(1))), api="sesamy") as it:
        with pytest.raises(Unavailable, match="list_contracts: HTTP 206"):
            await rest(it)


@pytest.mark.parametrize("error", [None, {}, [], "", False, {"code": None, "details": []}])
async def test_an_error_without_content_is_none(error: Any) -> None:
    async with bench(lists(contracts={"data": things(1), "error": error}), api="sesamy") as it:
        assert len((await rest(it)).contracts) == 1


@pytest.mark.parametrize("wrapper", ["data", "items", "contracts"])
async def test_a_list_may_come_under_the_name_of_its_resource(wrapper: str) -> None:
    async with bench(lists(contracts={wrapper: things(2), "total": "2"}), api="sesamy") as it:
        assert len((await rest(it)).contracts) == 2


@pytest.mark.parametrize("second", [{"data": []}, {"data": [], "meta": {"total": 150}}, {"data": None}])
async def test_a1_an_empty_second_page_before_the_total_is_a_failure(second: Any) -> None:
    def page(limit: int, offset: int) -> Any:
        return {"data": things(100), "meta": {"total": 150}} if not offset else second

    async with bench(lists(contracts=page), api="sesamy") as it:
        with pytest.raises(Unavailable, match="list_contracts"):
            await rest(it)


async def test_a_total_that_only_one_page_says_counts_for_all() -> None:
    for silent in (0, 100):

        def page(limit: int, offset: int, silent: int = silent) -> Any:
            items = things(150)[offset : offset + limit]
            return items if offset == silent else {"data": items, "meta": {"total": 150}}

        async with bench(lists(contracts=page), api="sesamy") as it:
            assert len((await rest(it)).contracts) == 150
        assert sum("contracts" in path for _, path in it.server.calls()) == 2


async def test_a1_a_list_that_changes_while_it_is_read_is_read_from_its_beginning() -> None:
    total = 150

    def page(limit: int, offset: int) -> Any:
        nonlocal total
        answer = {"data": things(total)[offset : offset + limit], "meta": {"total": total}}
        total = 151
        return answer

    async with bench(lists(contracts=page), api="sesamy") as it:
        assert len((await rest(it)).contracts) == 151
    assert sum("contracts" in path for _, path in it.server.calls()) == 4


async def test_a1_a_list_that_never_stays_the_same_is_a_failure() -> None:
    shift = iter(range(1000))

    def page(limit: int, offset: int) -> Any:
        items = things(100, offset - 1 - next(shift) if offset else 0)  # some come again
        return {"data": items, "meta": {"total": 200}}

    async with bench(lists(contracts=page), api="sesamy") as it:
        with pytest.raises(Unavailable, match="the list changed while it was read, 3 times"):
            await rest(it)


async def test_an_entry_that_comes_again_counts_once() -> None:
    def page(limit: int, offset: int) -> Any:
        return things(100) if not offset else things(10, 95)

    async with bench(lists(contracts=page), api="sesamy") as it:
        assert [contract.id for contract in (await rest(it)).contracts] == [it["id"] for it in things(105)]


async def test_a1_all_lists_of_one_user_are_bounded_together() -> None:
    def page(limit: int, offset: int) -> Any:
        return [thing | {"note": "x" * 9000} for thing in things(100, offset)]

    async with bench(lists(contracts=page), api="sesamy") as it:
        with pytest.raises(Unavailable, match="more than 8388608 bytes for one user"):
            await rest(it)
    assert len(it.server.arrived) <= 11


@pytest.mark.parametrize(
    "body",
    [
        {"userId": "email|other", "email": "other@x.no"},
        {"id": "other", "email": "other@x.no"},
        {"userId": USER, "email": None, "error": {"code": "internal"}},
        {"userId": USER, "errors": ["internal"]},
        {"userId": USER, "success": False},
        {"userId": USER, "statusCode": 500, "message": "internal"},
        {"data": {"userId": USER}},
        [{"userId": USER}],
        b"null",
    ],
)
async def test_a1_another_user_or_an_error_is_no_profile(body: Any) -> None:
    async with bench(lambda _: Reply(200, body), api="sesamy") as it:
        with pytest.raises(Unavailable, match="get_user: HTTP 200"):
            await profile_of(it)


@pytest.mark.parametrize("body", [{"userId": USER, "id": 7}, {"userId": "other", "id": USER}])
async def test_either_id_may_be_the_one_that_was_asked_for(body: Any) -> None:
    async with bench(lambda _: Reply(200, body), api="sesamy") as it:
        assert await profile_of(it) is not None


async def test_one_failing_read_fails_the_whole_with_its_own_error() -> None:
    script = lists(entitlements=Reply(429), contracts=things(1))
    async with bench(script, api="sesamy") as it:
        with pytest.raises(Throttled, match="sesamy list_entitlements: HTTP 429"):
            await rest(it)


async def test_an_unreadable_list_is_no_empty_one() -> None:
    async with bench(lists(contracts={"message": "hello"}), api="sesamy") as it:
        with pytest.raises(Unavailable, match="list_contracts: HTTP 200: an unreadable answer"):
            await rest(it)


@pytest.mark.parametrize("body", [b"<html>", {"data": None}, {"data": [], "meta": {"total": 3}}, {}])
async def test_a1_the_probe_fails_where_the_list_of_users_cannot_be_read(body: Any) -> None:
    async with bench(lambda _: Reply(200, body), api="sesamy") as it:
        with pytest.raises(Unavailable, match="list_users: HTTP 200"):
            await SesamyClient(it.transport).probe()


async def test_the_probe_depends_on_no_user() -> None:
    async with bench(lambda _: Reply(200, []), api="sesamy") as it:
        await SesamyClient(it.transport).probe()
    assert it.server.calls() == [("GET", "/management/users?limit=1")]
