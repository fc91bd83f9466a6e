import contextlib
import gc
import json
from typing import Any

import pytest

from schemas.events import STANDARD_EVENT_TYPES, MalformedEvent, decode_event, pointer_keys

DOCUMENTED = (
    b'{"eventType": "contract.1#update", "vendorId": "vendor_123", "userId": "email|84cccf985de28a2a84824786",'
    b' "contractId": "contract_789", "entitlementId": null, "checkoutId": null, "occured_at": "2025-11-10T12:00:00Z"}'
)
EVENT: dict[str, Any] = json.loads(DOCUMENTED)
REQUIRED = ("userId", "vendorId", "eventType")


def encoded(**changes: Any) -> bytes:
    return json.dumps(EVENT | changes).encode()


def test_the_documented_example_is_read_whole() -> None:
    event = decode_event(DOCUMENTED)
    assert (event.event_type, event.vendor_id, event.user_id) == (
        "contract.1#update",
        "vendor_123",
        "email|84cccf985de28a2a84824786",
    )
    assert (event.contract_id, event.entitlement_id, event.checkout_id) == ("contract_789", None, None)
    assert event.happened_at == "2025-11-10T12:00:00Z"


def test_eight_types_are_standard_and_one_has_no_version() -> None:
    assert len(set(STANDARD_EVENT_TYPES)) == 8
    assert [name for name in STANDARD_EVENT_TYPES if ".1#" not in name] == ["contract#cancelRequest"]


@pytest.mark.parametrize("blank", ["", None])
def test_the_other_spelling_of_the_time_is_taken_when_the_usual_one_is_blank(blank: str | None) -> None:
    assert decode_event(encoded(occured_at=blank, occurred_at="2025-01-01T00:00:00Z")).happened_at is not None
    assert decode_event(encoded(occured_at=blank, occurred_at=blank)).happened_at is None


def test_unknown_keys_and_types_and_blank_optional_ids_are_fine() -> None:
    event = decode_event(encoded(eventType="brand.9#new", contractId="", more={"deep": [1]}))
    assert event.event_type == "brand.9#new"
    assert not event.contract_id


def test_a_confluent_prefix_is_skipped() -> None:
    assert decode_event(b"\x00\x00\x00\x01\x02" + DOCUMENTED) == decode_event(DOCUMENTED)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (DOCUMENTED[:-1], "not JSON"),
        (DOCUMENTED + b"x", "not JSON"),
        (b'{"userId": "\xff"}', "not UTF-8"),
        (b"\x00\x00\x00", "not JSON"),
        (b'{"deep": ' + b"[" * 100_000, "nested too deeply"),
        (b"[]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b'"text"', "Expected `object`"),
        *((encoded(**{key: bad}), key) for key in REQUIRED for bad in ("", None, 5, ["x"])),
        *((encoded(**{key: bad}), key) for key in ("contractId", "entitlementId", "checkoutId") for bad in (5, ["x"])),
        (encoded(userId="."), "userId"),
        (encoded(userId=".."), "userId"),
    ],
)
def test_what_is_no_event_is_malformed_and_says_why(value: bytes, says: str) -> None:
    with pytest.raises(MalformedEvent, match=says):
        decode_event(value)


@pytest.mark.parametrize("letter", ["x", "å", "😀"])
def test_k9_a_user_id_of_more_than_512_characters_is_malformed(letter: str) -> None:
    assert decode_event(encoded(userId=letter * 512)).user_id == letter * 512
    for length in (513, 100_000):
        with pytest.raises(MalformedEvent, match=r"length <= 512 - at `\$.userId`") as raised:
            decode_event(encoded(userId=letter * length))
        assert letter * 3 not in str(raised.value)


@pytest.mark.parametrize(
    "value", [b"\0" * 1000, b"no event", b"{", b"\xff", b"[]", encoded(userId=None), encoded(userId=".")]
)
@pytest.mark.parametrize("pointer", ["", "/data"])
def test_p7_what_is_no_event_is_not_kept_in_memory_for_the_garbage_collector(value: bytes, pointer: str) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with contextlib.suppress(MalformedEvent):
                decode_event(value, pointer)
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(MalformedEvent, match=key):
        decode_event(json.dumps({name: value for name, value in EVENT.items() if name != key}).encode())


def test_the_message_quotes_no_value() -> None:
    for value in (b'{"userId": "kari@example.no"', encoded(userId="kari@example.no", contractId=["kari@example.no"])):
        with pytest.raises(MalformedEvent) as caught:
            decode_event(value)
        assert "kari" not in str(caught.value)


@pytest.mark.parametrize(
    ("envelope", "pointer"),
    [
        ({"data": EVENT}, "/data"),
        ({"data": json.dumps(EVENT)}, "/data"),
        ({"payload": {"after": [None, EVENT]}}, "/payload/after/1"),
        ({"a/b": {"m~n": EVENT}}, "/a~1b/m~0n"),
        ({"~1": EVENT}, "/~01"),
        ({"": EVENT}, "/"),
    ],
)
def test_a_pointer_leads_to_the_event_in_an_envelope(envelope: Any, pointer: str) -> None:
    value = json.dumps(envelope).encode()
    assert decode_event(value, pointer) == decode_event(DOCUMENTED)
    assert decode_event(b"\x00\x00\x00\x00\x07" + value, pointer) == decode_event(DOCUMENTED)


@pytest.mark.parametrize(
    ("envelope", "pointer"),
    [
        ({"other": EVENT}, "/data"),
        ({"data": None}, "/data"),
        ({"data": "not JSON"}, "/data"),
        ({"data": [EVENT]}, "/data/1"),
        ({"data": [EVENT]}, "/data/00"),
        ({"data": [EVENT]}, "/data/-"),
        ({"data": "text"}, "/data/0"),
        ({"data": EVENT | {"userId": ".."}}, "/data"),
        ({"data": json.dumps(EVENT | {"userId": ""})}, "/data"),
    ],
)
def test_an_envelope_without_an_event_at_the_pointer_is_malformed(envelope: Any, pointer: str) -> None:
    with pytest.raises(MalformedEvent):
        decode_event(json.dumps(envelope).encode(), pointer)


@pytest.mark.parametrize("pointer", ["data", "#/data", "/a~2", "/a~"])
def test_what_is_no_pointer_is_refused(pointer: str) -> None:
    with pytest.raises(ValueError, match="pointer"):
        pointer_keys(pointer)


def test_the_empty_pointer_is_the_whole_document() -> None:
    assert pointer_keys("") == ()


HALF = "\\ud83d"


@pytest.mark.parametrize(
    ("key", "expected"),
    [("note", None), ("contractId", "contract_789\ufffd"), ("occured_at", "2025-11-10T12:00:00Z\ufffd")],
)
def test_a11_an_event_with_half_an_emoji_is_an_event(key: str, expected: str | None) -> None:
    text = EVENT | {"note": "note"}
    value = json.dumps(text).replace(json.dumps(text[key]), json.dumps(text[key])[:-1] + HALF + '"').encode()
    assert HALF.encode() in value
    event = decode_event(value)
    assert event.user_id == EVENT["userId"]
    shown = {"contractId": event.contract_id, "occured_at": event.occured_at}
    assert shown.get(key) == expected
    for envelope, pointer in (
        (b'{"data": ' + value + b"}", "/data"),
        (b'{"data": ' + json.dumps(value.decode()).encode() + b"}", "/data"),
        (b'{"note": "\\udc00", "data": ' + json.dumps(DOCUMENTED.decode()).encode() + b"}", "/data"),
        (b'{"n": 1e400, "data": [' + value + b"]}", "/data/0"),
    ):
        assert decode_event(envelope, pointer).user_id == EVENT["userId"]
        assert decode_event(b"\0\0\0\0\1" + envelope, pointer).user_id == EVENT["userId"]


def test_a11_a_half_makes_a_type_or_a_vendor_another_one() -> None:
    for key, name in (("eventType", "event_type"), ("vendorId", "vendor_id")):
        value = DOCUMENTED.replace(EVENT[key].encode(), EVENT[key].encode() + HALF.encode())
        assert getattr(decode_event(value), name) == EVENT[key] + "\ufffd"


@pytest.mark.parametrize("half", ["\\ud83d", "\\udc00", "\\udc00\\ud83d"])
def test_a11_a_user_id_with_half_an_emoji_is_malformed(half: str) -> None:
    value = DOCUMENTED.replace(b'"email|', b'"email|' + half.encode())
    with pytest.raises(MalformedEvent, match="userId"):
        decode_event(value)
    with pytest.raises(MalformedEvent, match="userId"):
        decode_event(b'{"data": ' + value + b"}", "/data")


def test_a_whole_emoji_stays_whole() -> None:
    value = DOCUMENTED.replace(b'"contract_789"', b'"\\ud83d\\ude00"').replace(b"}", b', "note": "\\ud83d"}')
    assert decode_event(value).contract_id == "\U0001f600"
