import json

import pytest

from consumer import sync_requests
from consumer.cli import requests
from consumer.cli.requests import Request
from consumer.dead_letters.stored import StoredLetter
from consumer.kafka import Committed
from consumer.replay.record import Record
from consumer.settings import load
from consumer.stream import offset_map

REQUEST = Request("email|1", partition=2, offset=10)


def test_a_request_is_an_event_of_our_own_type() -> None:
    value = json.loads(sync_requests.encode(load({"SESAMY_VENDOR_ID": "v1"}, needs=()), "email|1"))
    assert value.pop("occured_at").endswith("Z")
    assert value == {"eventType": "sesamy-mailmojo#sync", "vendorId": "v1", "userId": "email|1"}
    assert json.loads(sync_requests.encode(load({}, needs=()), "u"))["vendorId"] == "sesamy-mailmojo"


def test_a_request_lies_in_the_envelope_that_the_service_opens() -> None:
    value = json.loads(sync_requests.encode(load({"KAFKA_VALUE_POINTER": "/data/a~1b"}, needs=()), "u"))
    assert value["data"]["a/b"]["userId"] == "u"


@pytest.mark.parametrize(
    ("commit", "done"),
    [
        (None, False),
        (Committed(10, ""), False),
        (Committed(11, ""), True),
        (Committed(5, offset_map.encode(5, [9])), False),
        (Committed(5, offset_map.encode(5, [10])), True),
        (Committed(6, offset_map.encode(5, [10])), False),  # a map made for another commit says nothing
    ],
)
def test_a_request_is_done_below_the_commit_or_in_its_map(commit: Committed | None, done: bool) -> None:
    assert requests._is_done(REQUEST, {2: commit} if commit else {}) is done


@pytest.mark.parametrize(
    ("key", "marks", "answers"),
    [
        (b"email|1", {}, True),
        (b"other", {}, True),
        (b"email|1", {"offset": "12"}, True),
        (b"email|1", {"offset": "12", "reason": "malformed"}, False),
        (b"other", {"offset": "12"}, False),
        (b"email|1", {"offset": "9"}, False),
        (b"email|1", {"partition": "1"}, False),
        (b"email|1", {"topic": "another"}, False),
    ],
)
def test_a_dead_letter_of_the_request_or_of_a_newer_event_answered_with_it(
    key: bytes, marks: dict[str, str], answers: bool
) -> None:
    told = {"topic": "t", "partition": "2", "offset": "10", "reason": "rejected"} | marks
    headers = [(f"dead-letter-{name}", value.encode()) for name, value in told.items()]
    letter = StoredLetter.of(Record(key=key, headers=headers))
    assert requests._answers(REQUEST, letter, "t") is answers


def test_a_dead_letter_with_headers_that_say_nothing_is_no_answer() -> None:
    headers = [("dead-letter-topic", b"t"), ("dead-letter-partition", b"2"), ("dead-letter-offset", None)]
    for offset in (None, b"ten", b"9" * 5000, b"\xff"):
        letter = StoredLetter.of(Record(key=b"email|1", headers=[*headers[:2], ("dead-letter-offset", offset)]))
        assert not requests._answers(REQUEST, letter, "t")
