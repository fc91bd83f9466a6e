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
