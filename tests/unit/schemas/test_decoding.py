"""The quick way and the careful one: whatever an answer is, both say the same."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import decoding, mailmojo
from schemas.mailmojo import Contact, decode_contact
from schemas.sesamy import Contract, Entitlement, Profile, Transaction
from schemas.verbatim import value_of

blank = st.none() | st.just("")
text = st.text('ab "\\å', max_size=3)
leaf = blank | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
anything = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=5,
)


def objects(kind: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects with the struct's keys, and values that often fit, are blank, or are anything at all."""
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    usual = text | st.booleans() | st.lists(text | blank, max_size=2)
    return st.dictionaries(st.sampled_from(names), blank | usual | anything) | st.builds(
        lambda some: {"id": "x", "email": "a@x.no"} | some, st.dictionaries(st.sampled_from(names), blank | usual)
    )


def verdict(decode: Callable[[], Any]) -> Any:
    try:
        return decode()
    except ValueError as error:
        return type(error)


def seen(contact: Any) -> Any:
    """Return the contact with Python's values for those that are kept as they came."""
    if not isinstance(contact, Contact):
        return contact
    custom = {name: value_of(value) for name, value in (contact.custom or {}).items()}
    return msgspec.structs.replace(contact, custom=custom)


@pytest.mark.parametrize("kind", [Profile, Contract, Entitlement, Transaction])
@given(data=st.data())
def test_an_object_and_a_list_of_any_content(kind: type[msgspec.Struct], data: st.DataObject) -> None:
    item = data.draw(objects(kind))
    body = json.dumps(item).encode()
    assert verdict(lambda: decoding.decode(body, kind)) == verdict(lambda: decoding.convert(item, kind))
    about = blank | st.fixed_dictionaries({}, optional={"total": blank | st.integers(0, 9)})
    items = [item, *data.draw(st.lists(blank | objects(kind), max_size=1))]
    page = json.dumps(
        data.draw(
            st.just(items)
            | st.fixed_dictionaries({"data": st.just(items) | blank}, optional={"meta": about, "pagination": about})
        )
    ).encode()
    with pytest.MonkeyPatch.context() as patch:
        straight = verdict(lambda: decoding.decode_page(page, kind))
        patch.setattr(decoding, "_straight_page", lambda *_: None)
        assert straight == verdict(lambda: decoding.decode_page(page, kind))


@given(objects(Contact))
@example({"email": "a@x.no", "custom": {"Theirs": None, "Deep": [None]}})
def test_a_contact_of_any_content(contact: dict[str, Any]) -> None:
    body = json.dumps(contact).encode()
    assert seen(verdict(lambda: decode_contact(body))) == seen(
        verdict(lambda: mailmojo._careful_contact(body.decode()))
    )


def test_nulls_inside_what_is_not_insisted_on_are_no_value() -> None:
    body = b'[{"id": "c", "payerUserId": {"id": null}}]'
    assert decoding.decode_page(body, Contract).items[0].payer_user_id == {}


def test_an_ordinary_answer_goes_straight_into_its_struct(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the careful way was taken")

    for module in (decoding, mailmojo):
        monkeypatch.setattr(module, "convert", never)
    about = b'"meta": {"total": 1, "limit": 100, "offset": 0}'
    assert decoding.decode_page(b'{"data": [{"id": "c", "nextBillAt": null}], ' + about + b"}", Contract).total == 1
    assert decoding.decode_page(b'[{"id": "e"}]', Entitlement).items == [Entitlement(id="e")]
    assert decoding.decode(b'{"id": "u", "tags": ["a"]}', Profile).tags == ["a"]
    assert decode_contact(b'{"email": "a@x.no", "custom": null}').custom == {}
