import json
from typing import Any

import msgspec
import pytest

from schemas.decoding import Contradiction
from schemas.mailmojo import Contact, decode_contact
from schemas.sesamy import Contract, Entitlement, Origin, Page, Transaction, decode_page, decode_profile

CONTRACT = {"id": "c1", "status": "SOMETHING_NEW", "isActive": True, "issuesRemaining": 3, "items": [{"sku": "x"}]}


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("key", ["userId", "id"])
def test_a_profile_is_known_by_either_id(key: str) -> None:
    profile = decode_profile(encoded({key: "u1", "email": "a@x.no", "given_name": "Ola", "phone_number": "1"}))
    assert "u1" in {profile.user_id, profile.id}
    assert (profile.email, profile.given_name, profile.phone_number) == ("a@x.no", "Ola", "1")


def test_blank_values_of_any_kind_are_absent() -> None:
    profile = decode_profile(encoded({"id": "u1", "email": "", "firstName": None, "tags": "", "isGuest": ""}))
    assert (profile.email, profile.first_name, profile.tags, profile.is_guest) == (None, None, None, None)
    assert decode_profile(encoded({"id": "u1", "tags": ["a", None, "", "b"]})).tags == ["a", "b"]
    [contract] = decode_page(
        encoded([{"id": "c1", "isActive": "", "issuesRemaining": "", "nextBillAt": ""}]), Contract
    ).items
    assert contract == Contract(id="c1")
    [entitlement] = decode_page(encoded([{"id": "e1", "hasAccess": "", "origin": {"type": ""}}]), Entitlement).items
    assert entitlement == Entitlement(id="e1", origin=Origin())


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"null", b'{"id": ""}', b'{"error": {"code": "x"}}', b'{"id": "u", "tags": 5}']
)
def test_what_is_no_profile_is_an_error(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_profile(body)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"id": "\xff"}', b'{"id": ' + b"[" * 100_000])
def test_what_is_no_json_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_profile(body)
    with pytest.raises(msgspec.DecodeError):
        decode_page(body, Contract)


@pytest.mark.parametrize(
    ("answer", "total"),
    [
        ([CONTRACT], None),
        ({"data": [CONTRACT]}, None),
        ({"data": [CONTRACT], "meta": {"total": 7, "limit": 1, "offset": 0}}, 7),
        ({"data": [CONTRACT], "pagination": {"total": 7, "limit": 1, "offset": 0}}, 7),
        ({"data": [CONTRACT], "meta": None, "pagination": {"total": 7}}, 7),
        ({"data": [CONTRACT], "meta": {"total": ""}}, None),
    ],
)
def test_a_list_comes_bare_or_wrapped(answer: Any, total: int | None) -> None:
    assert decode_page(encoded(answer), Contract) == Page(
        items=[Contract(id="c1", status="SOMETHING_NEW", is_active=True, issues_remaining=3)], total=total
    )


@pytest.mark.parametrize("answer", [[], {"data": []}, {"data": [], "meta": {"total": 0}}])
def test_an_empty_list_is_empty(answer: Any) -> None:
    assert decode_page(encoded(answer), Transaction).items == []


@pytest.mark.parametrize(
    "answer", [{}, {"error": {}}, {"data": None}, {"data": {"id": 1}}, 5, None, [None], [[]], [{}], [{"id": ""}]]
)
def test_garbage_never_passes_for_an_empty_list(answer: Any) -> None:
    with pytest.raises((msgspec.ValidationError, Contradiction)):
        decode_page(encoded(answer), Transaction)


HALF = b"\\ud83d"


def test_a11_half_an_emoji_is_left_out_of_whatever_text_it_stands_in() -> None:
    profile = decode_profile(
        b'{"id": "u1", "firstName": "Kari %b", "tags": ["%bvip"], "isGuest": false, "note": {"%b": ["%b"]}}'
        % (HALF, HALF, HALF, HALF)
    )
    assert (profile.first_name, profile.tags, profile.is_guest) == ("Kari ", ["vip"], False)
    items = b'[{"id": "e1", "title": "Avis\\udc00", "sku": "\\ud83d\\ude00%b", "other": "%b"}]' % (HALF, HALF)
    for body in (items, b'{"data": %b, "meta": {"total": 1}, "note": "%b"}' % (items, HALF)):
        assert decode_page(body, Entitlement).items == [Entitlement(id="e1", title="Avis", sku="\U0001f600")]


def test_a11_an_address_or_an_id_with_half_an_emoji_is_no_other_one() -> None:
    with pytest.raises(msgspec.ValidationError, match="`email` holds half a character"):
        decode_profile(b'{"id": "u1", "email": "kari%b@x.no"}' % HALF)
    with pytest.raises(Contradiction, match="another id"):
        decode_profile(b'{"id": "u1%b"}' % HALF, "u1")
    assert len({item.id for item in decode_page(b'[{"id": "e1"}, {"id": "e1%b"}]' % HALF, Entitlement).items}) == 2
    assert decode_contact(b'{"email": "kari%b@x.no", "first_name": "Kari%b"}' % (HALF, HALF)) == Contact(
        email="kari\ufffd@x.no", first_name="Kari", custom={}
    )


def test_a11_a_key_with_half_an_emoji_is_no_other_key() -> None:
    profile = decode_profile(b'{"id": "u1", "email": "a@x.no", "email%b": "b@x.no", "isGuest%b": true}' % (HALF, HALF))
    assert (profile.email, profile.is_guest) == ("a@x.no", None)


def test_a11_what_is_no_json_stays_none_beside_half_an_emoji() -> None:
    for body in (b'{"id": "%b"', b'{"id": "%b", NaN: 1}', b'{"id": "%b", "n": NaN}', b'{"id": "%b" "x"}'):
        with pytest.raises(msgspec.DecodeError):
            decode_profile(body % HALF)
