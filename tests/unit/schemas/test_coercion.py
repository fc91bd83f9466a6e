"""Values that mean the same in another JSON type are taken; what can mean something else is an error."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.coercion import as_number, as_truth
from schemas.decoding import decode_page
from schemas.sesamy import Contract, Entitlement, Identifier, Profile, Transaction, decode_profile


def contract(**values: Any) -> Contract:
    body = json.dumps([{"id": "c"} | values]).encode()
    return decode_page(body, Contract).items[0]


@pytest.mark.parametrize(
    ("sent", "meant"),
    [("12", 12), (" 12 ", 12), ("3.0", 3.0), (12, 12), (3.5, 3.5), ("1e1", 10.0), ("-1", -1), ("0", 0), ("", None)],
)
def test_a8_a_number_sent_as_text_is_that_number(sent: Any, meant: float | None) -> None:
    assert contract(issuesRemaining=sent).issues_remaining == meant


@pytest.mark.parametrize(
    "sent",
    ["many", "12 issues", "1,5", "1_000", "0x10", "nan", "Infinity", "1e999", "٣", True, [3], {"value": 3}, "--1"],
)
def test_a8_what_is_no_number_is_an_error_that_names_the_field(sent: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"at `\$\.issuesRemaining`$"):
        contract(issuesRemaining=sent)


def test_a_number_without_bound_is_an_error_where_a_number_is_needed_and_nowhere_else() -> None:
    for number in (b"1e400", b"-1e400", b"9" * 5000):
        with pytest.raises(msgspec.ValidationError, match="issuesRemaining"):
            decode_page(b'[{"id": "c", "issuesRemaining": ' + number + b"}]", Contract)
        assert decode_page(b'[{"id": "c", "title": "", "amount": ' + number + b"}]", Contract).items == [
            Contract(id="c")
        ]


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        *((spelled, True) for spelled in ("true", "True", " TRUE ", 1, "1", 1.0)),
        *((spelled, False) for spelled in ("false", "False", 0, "0")),
        ("", None),
        (None, None),
    ],
)
def test_a8_a_boolean_sent_as_text_or_number_is_that_boolean(sent: Any, meant: bool | None) -> None:
    assert contract(isActive=sent).is_active is meant
    entitlement = decode_page(json.dumps([{"id": "e", "hasAccess": sent}]).encode(), Entitlement).items[0]
    assert entitlement.has_access is meant
    transaction = decode_page(json.dumps([{"id": "t", "isRefund": sent}]).encode(), Transaction).items[0]
    assert transaction.is_refund is meant


@pytest.mark.parametrize("sent", ["yes", "active", 2, -1, 0.5, [True], {"is": True}])
def test_a8_what_is_no_boolean_is_an_error_that_names_the_field(sent: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"at `\$\.isActive`$"):
        contract(isActive=sent)


def test_a8_a_number_where_a_text_is_expected_is_its_digits() -> None:
    profile = decode_profile(b'{"id": 7, "firstName": 123, "mobilePhone": 4712345678, "tags": [2024, "vip"]}')
    assert (profile.first_name, profile.mobile_phone, profile.tags) == ("123", "4712345678", ["2024", "vip"])
    with pytest.raises(msgspec.ValidationError, match="firstName"):
        decode_profile(b'{"id": 7, "firstName": true}')


def test_a8_a_total_sent_as_text_is_that_number() -> None:
    assert decode_page(b'{"data": [{"id": 1}], "meta": {"total": "3"}}', Transaction).total == 3


@given(st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_as_text_is_the_number(number: float) -> None:
    assert as_number(json.dumps(number)) == number == as_number(number)


@given(st.text(max_size=6) | st.integers() | st.floats() | st.none() | st.lists(st.booleans()))
def test_nothing_else_is_a_boolean(value: Any) -> None:
    meant = as_truth(value)
    assert meant is None or str(value).strip().lower() in {"true", "false", "0", "1", "0.0", "1.0", "-0.0"}


def test_identifiers_keep_their_type() -> None:
    found: list[Identifier] = [decode_page(b'[{"id": %s}]' % id_, Contract).items[0].id for id_ in (b"7", b'"7"')]
    assert found == [7, "7"]
    assert decode_profile(b'{"id": "u", "isGuest": "1"}') == Profile(id="u", is_guest="1")
