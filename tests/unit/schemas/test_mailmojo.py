import json
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from schemas.mailmojo import Contact, Received, decode_contact
from schemas.verbatim import value_of


def encoded(**answer: Any) -> bytes:
    return json.dumps({"email": "a@x.no"} | answer).encode()


def test_a_contact_is_read() -> None:
    contact = decode_contact(
        encoded(
            first_name="Kari",
            tags=["b", "a"],
            custom={"Shoe size": 41},
            status="a",
            added="2020-01-01",
            list_associations=[{"email": "a@x.no", "list_id": 12, "status": "u", "added": None}],
        )
    )
    assert (contact.first_name, contact.tags, contact.custom, contact.status) == (
        "Kari",
        ["b", "a"],
        {"Shoe size": 41},
        "a",
    )
    [association] = contact.list_associations or []
    assert (association.list_id, association.status) == (12, "u")


@pytest.mark.parametrize("none", [{}, {"custom": None}, {"custom": ""}, {"custom": {}}, {"custom": []}])
def test_no_custom_is_an_empty_object_however_it_is_spelled(none: dict[str, Any]) -> None:
    assert decode_contact(encoded(**none)).custom == {}


def test_blank_values_are_absent_but_custom_stays_as_it_came() -> None:
    custom = {"Theirs": None, "Also": "", "Deep": {"x": ["", None]}}
    contact = decode_contact(encoded(first_name="", phone=None, tags="", list_associations="", custom=custom))
    assert contact.custom is not None
    shown = {name: value_of(value) for name, value in contact.custom.items()}
    assert replace(contact, custom=shown) == Contact(email="a@x.no", custom=custom)


def test_blank_texts_and_tags_are_absent_without_reading_the_contact_a_second_time() -> None:
    blank = encoded(first_name="", phone="", status="", tags=["b", "", "\u00e5"], custom={"Theirs": ""})
    contact = decode_contact(blank)
    assert type(contact.custom) is Received
    assert (contact.first_name, contact.phone, contact.status, contact.tags) == (None, None, None, ["b", "å"])


@pytest.mark.parametrize("place", [{"list_id": ""}, {"list_id": "", "status": "a"}])
def test_an_association_without_a_list_is_refused(place: dict[str, str]) -> None:
    with pytest.raises(msgspec.ValidationError, match="list_id"):
        decode_contact(encoded(list_associations=[place]))


def test_a_contact_without_an_address_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="email"):
        decode_contact(encoded(email=""))


def test_an_empty_list_of_associations_is_told_from_none() -> None:
    assert decode_contact(encoded(list_associations=[])).list_associations == []
    assert decode_contact(encoded(list_associations=None)).list_associations is None


@pytest.mark.parametrize("body", [b"[]", b"null", b"{}", encoded(custom=["x"]), encoded(custom="x"), encoded(tags="x")])
def test_what_is_no_contact_is_an_error(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_contact(body)
