import itertools
from typing import Any

import pytest

from consumer.sandbox import Record, RequestLog
from tests.benchmarks.counting import count, in_sequence
from tests.benchmarks.scenarios import Scenario

ADDRESSES = {"ann@example.no": "email|ann", "bob@example.no": "email|bob"}


def log_of(*requests: dict[str, Any]) -> RequestLog:
    log = RequestLog()
    log.extend(request(number, **fields) for number, fields in enumerate(requests, 1))
    return log


def request(number: int, **fields: Any) -> Record:
    usual = {"api": "sesamy", "operation": "get_user", "method": "GET", "path": "/", "status": 200}
    unix = {"start_unix": fields["start"], "end_unix": fields["end"]}
    return Record(number=number, **{**usual, **unix, **fields})


def read(user: str, start: float, end: float) -> dict[str, Any]:
    return {"user_id": f"email|{user}", "start": start, "end": end}


_changes = itertools.count(1)


def write(user: str, start: float, end: float, *, version: int = 1) -> dict[str, Any]:
    return {
        "api": "mailmojo",
        "operation": "patch_contact",
        "write": True,
        "change": next(_changes),
        "user_id": f"email|{user}",
        "address": f"{user}@example.no",
        "user_version": version,
        "start": start,
        "end": end,
    }


def test_time_runs_from_the_first_request_to_the_end_of_the_last_about_a_user() -> None:
    nobody = {"operation": "list_users", "start": 14, "end": 99}
    log = log_of(read("ann", 10, 11), write("ann", 11, 12), read("bob", 10.5, 11.5), write("bob", 12.5, 14), nobody)
    assert count(log, ADDRESSES).seconds == 4
    assert count(log, ADDRESSES).rate == 0.5


def test_a_request_that_names_only_an_address_counts_for_its_user() -> None:
    contact = {"api": "mailmojo", "operation": "get_contact", "address": "ann@example.no", "start": 1, "end": 2}
    log = log_of(read("ann", 0, 1), contact, write("ann", 2, 3), read("bob", 0, 1), write("bob", 1, 2))
    assert count(log, ADDRESSES).calls == (2, 3)
    assert count(log, ADDRESSES).round_trips == (2, 3)


def test_requests_side_by_side_are_one_round_trip() -> None:
    records = [request(1, start=0, end=1), request(2, start=1, end=2), request(3, start=1.1, end=2.5)]
    assert in_sequence([*records, request(4, start=2, end=3)]) == 3


def test_what_went_wrong_is_counted() -> None:
    log = log_of(
        read("ann", 0, 1),
        read("ann", 1, 2),
        write("ann", 2, 4, version=2),
        write("ann", 3, 5, version=1),
        {**read("bob", 0, 1), "violations": ("a rule",)},
    )
    counts = count(log, ADDRESSES)
    assert counts.order_violations == 2, "one overlap, one step back"
    assert (counts.redone, counts.lost, counts.wrong) == (1, 1, 1)


def test_events_of_a_user_count_each_and_may_share_a_sync() -> None:
    log = log_of(read("ann", 0, 1), write("ann", 1, 2), read("ann", 2, 3), read("bob", 0, 1), write("bob", 1, 4))
    counts = count(log, ADDRESSES, {"email|ann": 2, "email|bob": 10})
    assert (counts.events, counts.requests, counts.redone, counts.rate) == (12, 5, 0, 3)


def test_a_delay_runs_from_the_time_at_which_the_event_was_meant_to_be_sent() -> None:
    log = log_of(read("ann", 1, 2), write("ann", 2, 3), read("bob", 5, 6), write("bob", 6, 7))
    assert count(log, ADDRESSES).delays is None
    assert count(log, ADDRESSES, meant_at={"email|ann": 0.5, "email|bob": 5}).delays == (2.25, 2)


def test_a_log_without_a_write_is_no_result() -> None:
    with pytest.raises(ValueError, match="no write"):
        count(log_of(read("ann", 0, 1)), ADDRESSES)


def test_the_ideal_line_and_the_load_that_fills_it() -> None:
    scenario = Scenario(latency=0.1, seconds=10)
    assert scenario.ideal_rate(64) == pytest.approx(128)
    assert scenario.users_for(64) == 1280
    assert scenario.users_for(8) == 160
    assert Scenario(latency=0).ideal_rate(64) is None
    assert Scenario(latency=0.1, users=100, events=500).ideal_rate(64) is None, "one sync may answer many events"
    assert Scenario(latency=0.1, pace=50, seconds=4).users_for(64) == 200
    warm_up, measured = scenario.population(64, 1280)
    assert (len(warm_up), len(measured)) == (64, 1280)
    assert len({seed.user_id for seed in (*warm_up, *measured)}) == 1344


def test_the_sequence_of_events_is_the_same_for_every_contestant() -> None:
    _, users = Scenario(latency=0).population(0, 100)
    once = Scenario(latency=0.1)
    even = Scenario(latency=0.1, users=100, events=5_000)
    skewed = Scenario(latency=0.1, users=100, events=5_000, zipf=True)
    assert once.sequence(users) == users
    assert skewed.sequence(users) == skewed.sequence(users)
    assert 20 < even.sequence(users).count(users[0]) < 90
    assert 900 < skewed.sequence(users).count(users[0]) < 1_030, "a share of 1 / (1 + 1/2 + … + 1/100)"
