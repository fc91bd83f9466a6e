import json
from pathlib import Path
from typing import Any

import pytest

from consumer import cli
from consumer.cli import output
from consumer.dead_letters.resolved import Marks, Resolved
from consumer.dead_letters.retry import _obstacle
from consumer.dead_letters.stored import RETRIES_HEADER, StoredLetter, Wanted, masked
from consumer.replay.record import Header, Record
from consumer.stream.offset_map import decode, encode

EVENT = {"eventType": "contract.1#update", "vendorId": "v1", "userId": "email|1", "occured_at": "2025-11-10T12:00:00Z"}


def letter(value: bytes | None = b"", *headers: Header, **marks: str) -> StoredLetter:
    told = {"reason": "rejected", "topic": "t", "partition": "2", "offset": "10"} | marks
    own: list[Header] = [(f"dead-letter-{name}", text.encode()) for name, text in told.items()]
    value = json.dumps(EVENT).encode() if value == b"" else value
    return StoredLetter.of(
        Record(key=b"email|1", value=value, headers=[*headers, *own], topic="t.dead-letters", partition=1, offset=7)
    )


def test_a_letter_says_what_its_headers_say() -> None:
    found = letter(b"", ("trace", b"x"), (RETRIES_HEADER, b"2"), attempts="10", error="e")
    assert (found.place, found.reason, found.partition, found.offset) == ((1, 7), "rejected", 2, 10)
    assert (found.attempts, found.error, found.retries, found.user_id) == ("10", "e", 2, "email|1")
    assert found.original_headers == [("trace", b"x")]


@pytest.mark.parametrize("count", [None, b"", b"-1", b"many", "\u0663".encode()])
def test_a_count_of_retries_that_is_none_counts_as_zero(count: bytes | None) -> None:
    assert letter(b"", (RETRIES_HEADER, count)).retries == 0


def test_the_count_survives_another_dead_lettering() -> None:
    assert not RETRIES_HEADER.startswith("dead-letter-")


def test_the_user_of_a_malformed_record_is_its_key() -> None:
    assert letter(b"{").user_id == "email|1"


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (Wanted(), True),
        (Wanted(reasons=["rejected"]), True),
        (Wanted(reasons=["malformed"]), False),
        (Wanted(users=["email|1", "other"]), True),
        (Wanted(users=["other"]), False),
        (Wanted(places=[(1, 7)]), True),
        (Wanted(places=[(0, 7)]), False),
        (Wanted(places=[(1, 7)], reasons=["malformed"]), False),
    ],
)
def test_every_filter_that_is_given_must_hold(wanted: Wanted, matches: bool) -> None:
    assert wanted.matches(letter()) is matches


def test_masking_leaves_what_an_event_holds_and_nothing_of_a_person() -> None:
    value = EVENT | {"userId": "email|kari@x.no", "name": "Kari", "age": 44, "kari@x.no": [True, "Oslo"]}
    shown = masked(Record(key=b"email|kari@x.no", value=json.dumps(value).encode(), headers=[("h", b"to kari@x.no")]))
    assert shown.value is not None
    assert json.loads(shown.value) == EVENT | {"userId": "e***@x.no", "name": "***", "age": "***", "***": [True, "***"]}
    assert (shown.key, shown.headers) == (b"e***@x.no", [("h", b"to k***@x.no")])


@pytest.mark.parametrize("value", [b"Kari Nordmann", b'"Kari Nordmann"', b'["Kari Nordmann"]', b"\xff"])
def test_of_a_value_that_is_no_event_only_its_length_is_shown(value: bytes) -> None:
    assert masked(Record(value=value)).value == b"*** %d bytes that are no event" % len(value)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (letter(), None),
        (letter(b"{", reason="malformed"), None),
        (letter(b"", (RETRIES_HEADER, b"2")), None),
        (letter(b"", (RETRIES_HEADER, b"3")), "put back 3 times before (--max-retries)"),
        (letter(b"", topic="other"), "from another topic than t (KAFKA_TOPIC)"),
    ],
)
def test_what_cannot_be_put_back(found: StoredLetter, why: str | None) -> None:
    assert _obstacle(found, "t", 3) == why


def test_a_value_that_was_not_kept_cannot_be_put_back_and_the_way_out_is_said() -> None:
    assert "`sync` their users instead" in str(_obstacle(letter(None, truncated="true"), "t", 3))


def test_what_was_put_back_is_below_the_commit_or_in_its_map() -> None:
    marks = Marks({0: 5}, {0: decode(encode(5, [8]), 5)})
    assert [offset for offset in range(10) if (0, offset) in marks] == [0, 1, 2, 3, 4, 8]
    assert (1, 0) not in marks


def test_a_letter_is_resolved_when_it_was_put_back_or_dismissed() -> None:
    both = Resolved(republished=Marks({0: 1}), dismissed=Marks({}, {0: frozenset({7})}))
    assert [offset for offset in range(10) if (0, offset) in both] == [0, 7]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["burn"],
        ["show"],
        ["show", "12"],
        ["list", "--reason", "boredom"],
        ["list", "--since", "soon"],
        ["retry", "--yes", "--dry-run"],
        ["retry", "--max-retries", "0"],
        ["dismiss", "--yes", "--dry-run"],
        ["summary", "--to", "x"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dead-letters", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--help" in line


@pytest.mark.parametrize("command", ["retry", "dismiss"])
def test_nothing_is_resolved_unasked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with Path("/dev/null").open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        assert cli.main(["dead-letters", command]) == 2
    assert "--yes" in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "sure"), [("12", True), (" 12 ", True), ("y", False), ("", False), (None, False)])
def test_the_count_confirms(monkeypatch: pytest.MonkeyPatch, typed: str | None, sure: bool) -> None:
    def answer(_prompt: Any) -> str:
        if typed is None:
            raise EOFError
        return typed

    monkeypatch.setattr("builtins.input", answer)
    assert output.confirms("how many? ", "12") is sure
