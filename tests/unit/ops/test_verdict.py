"""The state in one sentence."""

from typing import Any

import pytest

from consumer.ops.verdict import judge
from tests.browser.pretended import BEHIND, BROKEN, HEALTHY, HELD_UP, REFUSED, status


def test_up_to_date_is_said_of_what_was_just_read_and_of_nothing() -> None:
    assert judge(HEALTHY).headline == "Up to date"
    nothing = judge(status(lag=0, events_pending=0, oldest_pending_seconds=0.0))
    assert (nothing.state, nothing.headline) == ("good", "Up to date")
    assert "Nothing waits" in nothing.detail


def test_behind_says_how_far_how_long_and_what_it_waits_for() -> None:
    verdict = judge(BEHIND)
    assert (verdict.state, verdict.headline) == ("busy", "Catching up, 14,210 events behind")
    assert "About 4 h at this pace" in verdict.detail
    assert "Sesamy's quota" in verdict.detail


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        ({"waits": {"sesamy_quota": 0, "mailmojo_quota": 60}}, "Mailmojo's quota"),
        ({"waits": {"sesamy_quota": 0}}, "All 64 places"),
        ({"waits": {"sesamy_quota": 0, "ready": 0, "retrying": 2}}, "2 users failed and will be tried again"),
        ({"waits": {"sesamy_quota": 0, "ready": 0, "retrying": 0, "malformed": 1}}, "1 malformed record on the way"),
        ({"apis": {"mailmojo": HEALTHY["apis"]["mailmojo"] | {"closed_for_seconds": 41.0}}}, "a pause of 41 s more"),
    ],
)
def test_the_bottleneck_is_named(differences: dict[str, Any], said: str) -> None:
    waits = BEHIND["waits"] | differences.get("waits", {})
    apis = BEHIND["apis"] | differences.get("apis", {})
    waits = waits if "apis" not in differences else waits | {"sesamy_quota": 0}
    busy = {name: BEHIND[name] for name in ("lag", "users_in_flight", "oldest_pending_seconds", "events_pending")}
    assert said in judge(status(**busy, waits=waits, apis=apis)).detail


def test_few_events_that_wait_long_are_behind() -> None:
    assert judge(status(lag=1, oldest_pending_seconds=60.0)).headline == "Catching up, 1 event behind"


def test_an_unusable_api_is_named_with_the_way_out_and_that_nothing_is_lost() -> None:
    verdict = judge(HELD_UP)
    assert (verdict.state, verdict.headline) == ("bad", "Held up, waiting for Mailmojo")
    assert REFUSED in verdict.detail
    assert "nothing is lost" in verdict.detail


def test_held_up_names_each_call_its_status_and_since_when() -> None:
    call = {"api": "mailmojo", "operation": "get_contact", "status": 401, "since": "2026-11-08T09:05:00Z", "reason": ""}
    silent = call | {"operation": "patch_contact", "status": None}
    verdict = judge(status(reasons={"mailmojo": "x", "dead_letters": "y"}, calls=[call, silent]))
    assert verdict.headline == (
        "Held up, waiting for Mailmojo get_contact (HTTP 401 since 8 Nov 09:05 UTC) and "
        "Mailmojo patch_contact (no answer since 8 Nov 09:05 UTC) and dead_letters"
    )


def test_joining_is_no_alarm_and_no_partition_is_no_fault() -> None:
    assert judge(status(reasons={"kafka": "not a member"})).state == "waiting"
    assert judge(status(partitions={}, lag=0)).headline == "Standing by"


def test_a_broken_promise_comes_before_all_else() -> None:
    assert judge(BROKEN).state == "bad"
    assert judge(status(sentinels={"commit_violations": 1}, reasons={"mailmojo": "down"})).headline == (
        "A promise was broken"
    )
