from typing import Any

import pytest

from consumer.clients.errors import Rejected, Unavailable, UnknownList
from consumer.clients.mailmojo import MailmojoClient
from schemas.mailmojo import Contact
from tests.unit.clients.scripted import Bench, Reply, bench, in_turn

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


@pytest.mark.parametrize("body", [b"", b"null", b"OK", {"ok": True}])
async def test_an_accepted_write_without_a_readable_echo_is_no_error(body: Any) -> None:
    async with bench(lambda request: Reply(204 if not body else 200, body)) as it, client(it).turn(2) as turn:
        assert await client(it).patch_contact(turn, EMAIL, {}) is None
        assert await client(it).add_subscriber(turn, {}) is None


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
        assert await client(it).listed("subscribers", 500) == [CONTACT]
        assert await client(it).listed("unsubscribed", 500, 490) == [CONTACT]
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
