from typing import Any

import pytest

from consumer.clients.errors import ApiError, Rejected, Unavailable, UnknownList
from consumer.clients.mailmojo import MailmojoClient
from schemas.decoding import Page
from schemas.mailmojo import Contact
from tests.unit.clients.scripted import Arrived, Bench, Reply, bench, in_turn

EMAIL = "a+b@x.no"
CONTACT = {"email": EMAIL, "tags": ["vip"], "custom": {"a": 1}, "status": "a"}


def client(it: Bench) -> MailmojoClient:
    return MailmojoClient(it.transport, "77")


async def test_a_contact_is_read_by_its_encoded_address() -> None:
    async with bench(lambda _: Reply(200, CONTACT)) as it, client(it).turn(1) as turn:
        contact = await client(it).get_contact(turn, EMAIL)
    assert contact == Contact(email=EMAIL, tags=["vip"], custom={"a": 1}, status="a")
    assert it.server.calls() == [("GET", "/v1/contacts/a%2Bb%40x.no/")]


async def test_a_contact_that_is_not_there_is_none() -> None:
    async with bench(lambda _: Reply(404)) as it, client(it).turn(1) as turn:
        assert await client(it).get_contact(turn, EMAIL) is None


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"<html>"])
async def test_an_unreadable_contact_is_unavailable(body: bytes) -> None:
    async with bench(lambda _: Reply(200, body)) as it, client(it).turn(1) as turn:
        with pytest.raises(Unavailable, match="get_contact: HTTP 200: an unreadable answer"):
            await client(it).get_contact(turn, EMAIL)


async def test_a_patch_goes_out_as_planned_and_returns_the_echo() -> None:
    async with bench(lambda _: Reply(200, CONTACT)) as it, client(it).turn(1) as turn:
        echo = await client(it).patch_contact(turn, EMAIL, {"email": EMAIL, "custom": {"x": None}})
    assert echo is not None
    assert echo.tags == ["vip"]
    assert it.server.calls() == [("PATCH", "/v1/contacts/a%2Bb%40x.no/")]
    assert it.server.arrived[0].json == {"email": EMAIL, "custom": {"x": None}}


async def test_a_contact_that_went_before_the_patch_is_rejected() -> None:
    async with bench(lambda _: Reply(404, {"detail": "gone"})) as it, client(it).turn(1) as turn:
        with pytest.raises(Rejected, match="mailmojo patch_contact: HTTP 404: gone"):
            await client(it).patch_contact(turn, EMAIL, {})


async def test_a_subscriber_is_added_to_the_list() -> None:
    async with bench(lambda _: Reply(201, CONTACT)) as it, client(it).turn(1) as turn:
        echo = await client(it).add_subscriber(turn, {"email": EMAIL, "force_subscribe": False})
    assert echo is not None
    assert echo.email == EMAIL
    assert it.server.calls() == [("POST", "/v1/lists/77/subscribers/")]
    assert it.server.arrived[0].json == {"email": EMAIL, "force_subscribe": False}


UNREADABLE: list[Any] = [
    b"",
    b"null",
    b"OK",
    {"ok": True},
    b"<html>",
    [CONTACT],
    {"error": {}, "email": ""},
    b'{"email": "a+b@x.no"',
]
FOREIGN: list[Any] = [CONTACT | {"email": "other@x.no"}, CONTACT | {"error": "internal"}]
WRITE: dict[str, Any] = {"email": EMAIL, "tags": ["vip"], "custom": {"Issues Remaining": 3}}


async def write(it: Bench, method: str) -> Contact:
    async with client(it).turn(2) as turn:
        if method == "PATCH":
            return await client(it).patch_contact(turn, EMAIL, WRITE)
        return await client(it).add_subscriber(turn, WRITE)


@pytest.mark.parametrize("method", ["PATCH", "POST"])
@pytest.mark.parametrize("echo", UNREADABLE + FOREIGN)
async def test_a9_an_unreadable_answer_of_a_write_is_answered_by_a_fresh_read(method: str, echo: Any) -> None:
    applied = CONTACT | {"custom": {"a": 1, "Issues Remaining": "3"}}
    replies = in_turn(Reply(200 if echo else 204, echo), Reply(200, applied))
    async with bench(replies) as it:
        assert (await write(it, method)).tags == ["vip"]
    assert [method for method, _ in it.server.calls()] == [method, "GET"]


@pytest.mark.parametrize("method", ["PATCH", "POST"])
@pytest.mark.parametrize(
    ("shown", "named"),
    [
        (Reply(200, CONTACT), "Issues Remaining"),
        (Reply(200, CONTACT | {"custom": {"Issues Remaining": 3}, "tags": []}), "tags"),
        (Reply(404), "the contact"),
    ],
)
async def test_a9_a_write_that_the_contact_does_not_show_is_a_failure(method: str, shown: Reply, named: str) -> None:
    operation = "patch_contact" if method == "PATCH" else "add_subscriber"
    async with bench(in_turn(Reply(200, b"<html>"), shown)) as it:
        with pytest.raises(Unavailable, match=f"{operation}: HTTP 200: accepted.* not applied: {named}"):
            await write(it, method)
    assert [method for method, _ in it.server.calls()] == [method, "GET"]


@pytest.mark.parametrize("body", [b"", b"  ", b"{}", {"detail": "Not found."}])
async def test_a1_a_404_of_the_api_itself_is_an_unknown_contact(body: Any) -> None:
    async with bench(lambda _: Reply(404, body)) as it, client(it).turn(1) as turn:
        assert await client(it).get_contact(turn, EMAIL) is None
    assert len(it.server.arrived) == 1


@pytest.mark.parametrize("body", [b"<h1>Not Found</h1>", b"null", b"[]", b"404 page not found"])
async def test_a1_any_other_404_is_an_unknown_contact_only_where_our_list_is_found(body: bytes) -> None:
    def html(request: Arrived) -> Reply:
        return Reply(200, {"id": 77}) if request.path == "/v1/lists/77/" else Reply(404, body)

    async with bench(html) as it, client(it).turn(1) as turn:
        assert await client(it).get_contact(turn, EMAIL) is None
    for list_ in (Reply(200, b"<html>"), Reply(200, {"error": "internal"}), Reply(503), Reply(404, body)):
        async with bench(in_turn(Reply(404, body), list_)) as it, client(it).turn(1) as turn:
            with pytest.raises(ApiError, match="get_list"):
                await client(it).get_contact(turn, EMAIL)


async def test_a1_a_404_in_front_of_the_api_is_no_contact_that_is_gone() -> None:
    async with bench(lambda _: Reply(404, b"<html>")) as it:
        with pytest.raises(Unavailable, match="patch_contact: HTTP 404: not an answer of the API"):
            await write(it, "PATCH")


@pytest.mark.parametrize("body", [CONTACT | {"email": "other@x.no"}, CONTACT | {"error": {"code": 1}}, b"null"])
async def test_a1_another_contact_or_an_error_is_no_contact(body: Any) -> None:
    async with bench(lambda _: Reply(200, body)) as it, client(it).turn(1) as turn:
        with pytest.raises(Unavailable, match="get_contact: HTTP 200"):
            await client(it).get_contact(turn, EMAIL)


async def test_a_contact_may_come_with_its_address_in_another_spelling() -> None:
    for asked, shown in (("kari@x.no", " Kari@X.no"), ("kari@blåbær.no", "kari@xn--blbr-roah.no")):
        async with bench(in_turn(Reply(200, {"email": shown}))) as it, client(it).turn(1) as turn:
            assert await client(it).get_contact(turn, asked) is not None


@pytest.mark.parametrize(
    "body", [{"data": None}, {"subscribers": None}, {"data": [], "meta": {"total": 3}}, {"data": [None]}, b"null"]
)
async def test_a1_a_list_of_contacts_that_contradicts_itself_is_a_failure(body: Any) -> None:
    async with bench(lambda _: Reply(200, body)) as it:
        with pytest.raises(Unavailable, match="list_subscribers: HTTP 200"):
            await client(it).listed("subscribers", 500)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b"null", {"error": "internal"}])
async def test_a1_the_probe_fails_where_the_list_cannot_be_read(body: Any) -> None:
    async with bench(lambda _: Reply(200, body)) as it:
        with pytest.raises(Unavailable, match="get_list: HTTP 200"):
            await client(it).probe()


async def test_a_list_that_mailmojo_does_not_know_is_a_fault_of_the_setting() -> None:
    async with bench(lambda _: Reply(404)) as it:
        with pytest.raises(UnknownList, match="get_list: HTTP 404"):
            await client(it).probe()
        async with client(it).turn(1) as turn:
            with pytest.raises(UnknownList, match="add_subscriber: HTTP 404"):
                await client(it).add_subscriber(turn, {})


async def test_the_probe_reads_the_list() -> None:
    async with bench(lambda _: Reply(200, {"id": 77})) as it:
        await client(it).probe()
    assert it.server.calls() == [("GET", "/v1/lists/77/")]


async def test_contacts_are_listed_bare_or_wrapped_and_the_first_call_has_no_offset() -> None:
    replies = in_turn(Reply(200, [CONTACT | {"phone": None}]), Reply(200, {"data": [CONTACT]}))
    async with bench(replies) as it:
        assert await client(it).listed("subscribers", 500) == Page([CONTACT])
        assert await client(it).listed("unsubscribed", 500, 490) == Page([CONTACT])
    assert it.server.calls() == [
        ("GET", "/v1/lists/77/subscribers/?limit=500"),
        ("GET", "/v1/lists/77/unsubscribed/?limit=500&offset=490"),
    ]


@pytest.mark.parametrize("status", [400, 404, 405, 422])
async def test_a_list_that_there_is_not_is_rejected(status: int) -> None:
    async with bench(lambda _: Reply(status)) as it:
        with pytest.raises(Rejected, match=f"list_subscribers: HTTP {status}"):
            await client(it).listed("subscribers", 500)


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"<html>"])
async def test_an_unreadable_list_is_never_an_empty_one(body: bytes) -> None:
    async with bench(lambda _: Reply(200, body)) as it:
        with pytest.raises(Unavailable, match="list_subscribers: HTTP 200: an unreadable answer"):
            await client(it).listed("subscribers", 500)
