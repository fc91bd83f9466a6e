from pathlib import Path

from tests.chaos.running import Run, complaint, line
from tests.chaos.schedule import (
    INSTANCES,
    THROTTLES,
    BrokerDown,
    Freeze,
    Join,
    Kill,
    Leave,
    Throttle,
    TokensRevoked,
    Trouble,
    draw,
)


def test_a_seed_brings_the_same_run_back_and_another_seed_another_run() -> None:
    assert draw(7, 30, 6) == draw(7, 30, 6)
    assert draw(7, 30, 6) != draw(8, 30, 6)


def test_every_run_has_every_kind_of_fault_within_its_time() -> None:
    for seed in range(50):
        faults = draw(seed, 30, 6).faults
        assert {type(fault) for fault in faults} == {
            *(Kill, Freeze, Leave, Join, BrokerDown, Throttle, Trouble, TokensRevoked)
        }
        assert all(0 <= fault.at <= 30 for fault in faults)
        assert list(faults) == sorted(faults, key=lambda fault: fault.at)
        troubles = [fault.rule for fault in faults if isinstance(fault, Trouble)]
        assert {(rule.cut, rule.stage) for rule in troubles if rule.cut} == {(True, "before"), (True, "after")}
        assert {rule.api for rule in troubles if rule.status in {401, 403}} >= {"sesamy", "mailmojo"}
        assert all(fault.lasts > 6 for fault in faults if isinstance(fault, Freeze))


def test_over_the_seeds_each_instance_is_struck_in_each_way_and_each_api_throttles_in_each() -> None:
    faults = [fault for seed in range(50) for fault in draw(seed, 30, 6).faults]
    struck = {(type(fault), fault.instance) for fault in faults if isinstance(fault, Kill | Freeze | Leave)}
    assert struck == {(kind, name) for kind in (Kill, Freeze, Leave) for name in INSTANCES}
    throttled = {(fault.api, fault.how) for fault in faults if isinstance(fault, Throttle)}
    assert throttled == {(api, how) for api, ways in THROTTLES.items() for how in ways}


def test_a_run_that_failed_says_what_it_found_and_how_to_have_it_again() -> None:
    schedule = draw(7, 30, 6)
    failed = Run(
        schedule=schedule,
        seconds=40,
        events=1,
        requests=2,
        dead_letters=3,
        drained_after=4,
        findings=("P3 the contact does not show the last version: …",),
    )
    assert line(failed).startswith("seed 7: FAILED")
    said = complaint(failed, Path("somewhere"))
    assert "P3" in said
    assert "python -m tests.chaos --seed 7 --seconds 30\n" in said
    assert all(str(fault) in said for fault in schedule.faults)
