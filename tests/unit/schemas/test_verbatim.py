r"""Foreign parts of a contact are written back with the JSON text that they came with, whatever JSON allows (P10)."""

import json
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.mapping.contact import Wanted, clear, echo_differences, plan
from consumer.mapping.fields import ACCOUNT_FIELDS
from consumer.mapping.state import Rules
from schemas.mailmojo import decode_contact, encodable
from schemas.verbatim import _is_json, elements, members

RULES = Rules(time_zone=ZoneInfo("UTC"), list_id="7")
WANTED = Wanted(
    email="kari@x.no",
    custom=dict.fromkeys(field.name for field in ACCOUNT_FIELDS) | {"Sesamy User ID": "email|1"},
    tags=frozenset({"sesamy_a"}),
    gifted=False,
)
OURS = {field.name for field in ACCOUNT_FIELDS}

space = st.sampled_from(["", "", " ", "\n", "\t "])
number = (
    st.integers().map(str)
    | st.from_regex(
        r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?", fullmatch=True, alphabet="0123456789.eE+-"
    )
    | st.sampled_from(["1.10", "1e400", "-0.0", "1E5", "-0", "20251110120000123456", "0.1000", "1e-999999", "9" * 6000])
)
piece = st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cs", "Cc"]), max_size=3) | st.sampled_from(
    ["\\ud83d", "\\udc00", "\\uD83D\\uDE00", "\\/", "\\u00e5", "\\n", '\\"', "\\\\", "\\u0000", "å", "😀"]
)
string = st.lists(piece, max_size=4).map(lambda pieces: f'"{"".join(pieces)}"')
scalar = number | string | st.sampled_from(["true", "false", "null"])


def joined(parts: list[str], around: str, gap: str) -> str:
    return around[0] + gap + f"{gap},{gap}".join(parts) + gap + around[1]


value = st.recursive(
    scalar,
    lambda inner: (
        st.builds(joined, st.lists(inner, max_size=3), st.just("[]"), space)
        | st.builds(
            joined,
            st.lists(st.builds(lambda key, gap, item: f"{key}{gap}:{gap}{item}", string, space, inner), max_size=3),
            st.just("{}"),
            space,
        )
    ),
    max_leaves=8,
)


def text_of_key(raw: str) -> str:
    text: str = json.loads(raw)
    return text


customs = st.dictionaries(string.filter(lambda raw: text_of_key(raw) not in OURS), value, max_size=4).filter(
    lambda custom: len({text_of_key(key) for key in custom}) == len(custom)
)
tags = st.lists(string.filter(lambda raw: text_of_key(raw).strip() != ""), max_size=4)


def contact_json(custom: dict[str, str], tags: list[str], gap: str = " ") -> bytes:
    members_ = ",".join(f"{gap}{key}{gap}:{gap}{item}{gap}" for key, item in custom.items())
    return (
        f'{{"email": "kari@x.no", "first_name": "Kari", "tags": [{gap}{",".join(tags)}{gap}], "status": "a", '
        f'"list_associations": [{{"list_id": 7, "status": "a"}}], "custom": {{{members_}}}}}'
    ).encode()


def sent(body: dict[str, Any]) -> dict[str, bytes]:
    """Return the members of the request's body as they go over the wire."""
    encoded = msgspec.json.encode(encodable(body))
    return {name: bytes(raw) for name, raw in members(encoded.decode()).items()}


def is_foreign(tag: str) -> bool:
    return not text_of_key(tag).startswith("sesamy_")


@given(customs, tags, space)
@example({'"Own"': "20251110120000123456"}, [], "")
@example({'"Own\\ud83d"': '"half \\ud83d"', '"Own"': "1"}, ['"half \\ud83d"', '"sesamy_old\\ud83d"'], "")
@example({'"Own"': "[" * 5000 + "]" * 5000}, [], "")
@example({'"Own"': "1e400"}, ['"sesamy\\u005fold"', '"bl\\u00e5"'], " ")
def test_a10_what_is_foreign_goes_back_byte_for_byte(custom: dict[str, str], tags: list[str], gap: str) -> None:
    contact = decode_contact(contact_json(custom, tags, gap))
    for body in (plan(WANTED, contact, RULES).body, clear(contact, RULES).body):
        if not body:
            continue
        wire = sent(body)
        if "custom" in wire:
            written = {
                text_of_key(json.dumps(key)): bytes(raw) for key, raw in members(wire["custom"].decode()).items()
            }
            theirs = {text_of_key(key): item.encode() for key, item in custom.items()}
            assert {key: raw for key, raw in written.items() if key not in OURS} == theirs
        if "tags" in wire:
            written_tags = [bytes(raw).decode() for raw in elements(wire["tags"].decode())]
            assert [tag for tag in written_tags if is_foreign(tag)] == [tag for tag in tags if is_foreign(tag)]
        assert (
            echo_differences(
                body, decode_contact(b"{%b}" % b",".join(b'"%b":%b' % (key.encode(), raw) for key, raw in wire.items()))
            )
            == ()
        )


@given(customs, tags)
def test_foreign_parts_alone_are_no_reason_to_write(custom: dict[str, str], tags: list[str]) -> None:
    theirs = [tag for tag in tags if is_foreign(tag)]
    ours = {json.dumps(name): json.dumps(item) for name, item in WANTED.custom.items()}
    contact = decode_contact(contact_json(custom | ours, [*theirs, '"sesamy_a"']))
    assert plan(WANTED, contact, RULES).action == "none"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1 2]",
        "[1,]",
        '{"a":1,}',
        '{"a" 1}',
        "{1:2}",
        "01",
        "1.",
        ".5",
        "+1",
        "tru",
        "[}",
        "nul",
        '"\\x"',
        "'a'",
        *('"\x01"', "[1]]", "1 2", "NaN", "-", '{"a":1 "b":2}', "[,1]", "{,}", '"\\u12"', "[1],", "\ufeff[]", "//\n1"),
    ],
)
def test_what_is_no_json_is_refused_as_the_standard_library_does(text: str) -> None:
    assert not _is_json(text)
    with pytest.raises(msgspec.DecodeError):
        members(f'{{"a": {text}}}')


@given(st.builds(lambda before, text, after: before + text + after, space, value, space))
def test_what_is_json_is_taken(text: str) -> None:
    assert _is_json(text)


@given(st.text('[]{}:,1 -e."tru', max_size=8))
def test_it_is_the_same_grammar_as_that_of_the_standard_library(text: str) -> None:
    try:
        json.loads(text)
        right = True
    except ValueError:
        right = False
    assert _is_json(text) is right


@pytest.mark.parametrize(
    "text", [b'{"email": "a@x.no", "custom": {"a": "\xff"}}', '{"email": "a@x.no"}'.encode("utf-16")]
)
def test_a1_what_is_not_utf_8_is_no_contact(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_contact(text)


def test_a_tag_that_is_no_text_goes_back_as_it_came() -> None:
    contact = decode_contact(contact_json({}, ["5", "null", '""', '"vip"', '"sesamy_old"']))
    assert contact.tags == ["5", "vip", "sesamy_old"]
    assert sent(plan(WANTED, contact, RULES).body)["tags"] == b'[5,"vip","sesamy_a"]'


def test_names_of_what_changed_can_be_logged_whatever_they_hold() -> None:
    contact = decode_contact(contact_json({'"Own\\ud83d"': "1"}, ['"sesamy_old\\ud83d"']))
    planned = plan(WANTED, contact, RULES)
    assert planned.tags_removed == ("sesamy_old\\ud83d",)
    empty = decode_contact(contact_json({}, []))
    assert "Own\\ud83d" in echo_differences(planned.body, empty)


@pytest.mark.parametrize("depth", [300, 600, 900, 950, 990, 1100])
def test_a10_no_depth_is_lost_however_high_the_stack_is(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    contact = decode_contact(contact_json({'"Own"': deep}, []))

    def higher(frames: int) -> dict[str, Any]:
        return higher(frames - 1) if frames else plan(WANTED, contact, RULES).body

    body = higher(200)
    assert bytes(members(sent(body)["custom"].decode())["Own"]) == deep.encode()
    assert echo_differences(body, decode_contact(contact_json({'"Own"': deep}, []))) != ()
