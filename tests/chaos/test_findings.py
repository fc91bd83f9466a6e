"""The judge itself: a right run passes, and each promise that is broken is found, and only that."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from consumer.sandbox import Quota, Record, RequestLog
from consumer.stream import offset_map
from tests.chaos.again import Strike, done_again
from tests.chaos.commits import Observed
from tests.chaos.events import Sent
from tests.chaos.evidence import DeadLetter, Edit, Evidence
from tests.chaos.findings import findings

ANN, BOB = "email|ann", "email|bob"
ADDRESSES = {ANN: "ann@example.no", BOB: "bob@example.no"}


def _request(operation: str, user_id: str, start: float, **more: Any) -> Record:
    on_contact = operation != "get_user"
    values: dict[str, Any] = {
        "number": 0,
        "api": "mailmojo" if on_contact else "sesamy",
        "operation": operation,
        "method": "PATCH" if operation == "patch_contact" else "GET",
        "path": "/",
        "start": start,
        "end": start + 0.1,
        "start_unix": start,
        "end_unix": start + 0.1,
        "status": 200,
        "write": operation == "patch_contact",
        "user_id": None if operation == "get_contact" else user_id,
        "address": ADDRESSES[user_id] if on_contact else None,
    }
    return Record(**values | more)


def _sync(user_id: str, start: float, version: int, change: int) -> list[Record]:
    return [
        _request("get_user", user_id, start, user_version=version),
        _request("get_contact", user_id, start + 0.2, user_version=version - 1),
        _request("patch_contact", user_id, start + 0.4, user_version=version, change=change),
    ]


def _log(*requests: Record) -> RequestLog:
    log = RequestLog()
    log.extend(replace(request, number=number) for number, request in enumerate(requests, 1))
    return log


RIGHT = Evidence(
    sent=[Sent(ANN, 2, 1.0, 0, 0), Sent(BOB, 2, 1.1, 0, 1), Sent(ANN, 3, 5.0, 0, 2)],
    addresses=ADDRESSES,
    final={ANN: 3, BOB: 2},
    log=_log(*_sync(ANN, 2.0, 2, 1), *_sync(BOB, 2.0, 2, 2), *_sync(ANN, 6.0, 3, 3)),
    observed=[Observed(3.0, 0, 2, ""), Observed(7.0, 0, 3, "")],
)


def _with_log(*more: Record) -> Evidence:
    return replace(RIGHT, log=_log(*RIGHT.log.records, *more))


def _without(keep: Callable[[Record], bool]) -> Evidence:
    return replace(RIGHT, log=_log(*(record for record in RIGHT.log.records if keep(record))))


def test_in_a_right_run_nothing_is_found() -> None:
    assert findings(RIGHT) == []


@pytest.mark.parametrize(
    ("evidence", "promise"),
    [
        pytest.param(replace(RIGHT, observed=[Observed(2.45, 0, 1, ""), *RIGHT.observed]), "P1", id="write-still-open"),
        pytest.param(replace(RIGHT, observed=[Observed(4.0, 0, 3, "")]), "P1", id="before-the-sync"),
        pytest.param(
            replace(RIGHT, observed=[Observed(1.5, 0, 0, offset_map.encode(0, [1])), *RIGHT.observed]),
            "P1",
            id="in-the-map-before-the-sync",
        ),
        pytest.param(_without(lambda record: record.operation != "get_user" or record.start < 6), "P1", id="no-read"),
        pytest.param(
            _without(lambda record: record.operation != "patch_contact" or record.start < 6), "P1", id="no-write"
        ),
        pytest.param(
            replace(RIGHT, observed=[*RIGHT.observed, Observed(8.0, 0, 1, ""), Observed(9.0, 0, 3, "")]),
            "P1",
            id="rewound",
        ),
        pytest.param(
            _with_log(_request("patch_contact", ANN, 6.45, user_version=3, change=4)), "P2", id="overlapping-writes"
        ),
        pytest.param(
            _with_log(_request("patch_contact", ANN, 8.0, user_version=2, change=4)), "P2", id="stale-write-lands"
        ),
        pytest.param(replace(RIGHT, final={ANN: 2, BOB: 2}), "P3", id="contact-is-behind"),
        pytest.param(replace(RIGHT, observed=RIGHT.observed[:1]), "P4", id="never-committed"),
        pytest.param(
            replace(RIGHT, letters=[DeadLetter(user_id=BOB, partition=0, offset=1, reason="exhausted", at=2.9)]),
            "P5",
            id="dead-letter-of-a-user-that-works",
        ),
        pytest.param(
            _with_log(_request("patch_contact", BOB, 8.0, user_version=2, change=4, damage=("tag:VIP",))),
            "foreign",
            id="foreign-tag-lost",
        ),
        pytest.param(
            _with_log(_request("patch_contact", BOB, 8.0, user_version=2, change=4, damage=("subscribed",))),
            "foreign",
            id="resubscribed",
        ),
        pytest.param(_with_log(_request("get_contact", BOB, 8.0, violations=("a rule",))), "rules", id="against-rules"),
    ],
)
def test_each_broken_promise_is_found(evidence: Evidence, promise: str) -> None:
    assert [text.split()[0] for text in findings(evidence)] == [promise]


def test_more_requests_than_the_quota_are_found() -> None:
    assert not findings(RIGHT, quotas={"sesamy": Quota(1.0, 2.0)})
    bunch = _with_log(*(_request("get_user", BOB, 20.0 + n / 1000) for n in range(5)))
    (found,) = findings(bunch, quotas={"sesamy": Quota(1.0, 2.0)})
    assert found.startswith("P6")


def test_a_user_that_always_fails_is_done_with_its_dead_letter_and_not_before() -> None:
    letter = DeadLetter(user_id=BOB, partition=0, offset=1, reason="rejected", at=2.9)
    without_writes = _without(lambda record: record.address != ADDRESSES[BOB])
    poisoned = replace(without_writes, letters=[letter], final={ANN: 3, BOB: None})
    assert not findings(poisoned, {BOB: "rejected"})
    late = replace(poisoned, letters=[replace(letter, at=3.1)])
    assert [text[:2] for text in findings(late, {BOB: "rejected"})] == ["P1"]
    assert [text[:2] for text in findings(poisoned, {BOB: "exhausted"})] == ["P5"]
    assert [text[:2] for text in findings(replace(poisoned, letters=[]), {BOB: "rejected"})] == ["P1", "P5"]


def test_an_edit_may_be_lost_while_a_write_phase_was_open_and_at_no_other_time() -> None:
    lost = _with_log(_request("patch_contact", BOB, 8.0, user_version=2, change=4, damage=("tag:manual-0",)))
    assert not findings(replace(lost, edits=[Edit(ADDRESSES[BOB], "manual-0", 7.9)]))
    assert findings(replace(lost, edits=[Edit(ADDRESSES[BOB], "manual-0", 2.0)]))


@pytest.mark.parametrize(
    ("strikes", "excused", "unexcused"),
    [((), 0, 1), ((Strike(2.6, frozenset({0})),), 1, 0), ((Strike(2.6, frozenset({1})),), 0, 1)],
)
def test_what_is_done_again_needs_a_strike_at_its_partition_that_explains_it(
    strikes: Sequence[Strike], excused: int, unexcused: int
) -> None:
    evidence = replace(
        RIGHT,
        sent=[Sent(BOB, 2, 1.1, 0, 1)],
        log=_log(*_sync(BOB, 2.0, 2, 1), *_sync(BOB, 8.0, 2, 2)),
        observed=[Observed(9.0, 0, 2, "")],
    )
    again = done_again(evidence, strikes)
    assert (again.events, again.excused, len(again.unexcused), again.after_record) == (1, excused, unexcused, [])


def test_what_a_commit_called_done_must_not_begin_again() -> None:
    evidence = replace(RIGHT, sent=[Sent(ANN, 2, 1.0, 0, 0)], observed=[Observed(3.0, 0, 1, "")])
    assert len(done_again(evidence).after_record) == 1
