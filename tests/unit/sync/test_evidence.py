"""A failure counts against a user only while the same call succeeds for others; otherwise the call is down."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.ops.metrics import Metrics
from consumer.sync.calls import CONTROL, Call, Failure
from consumer.sync.evidence import SYNC, TOKEN, CallDown, Evidence, Fault

PATCH: Call = ("mailmojo", "patch_contact")
PROFILE: Call = ("sesamy", "get_user")
CONTRACTS: Call = ("sesamy", "list_contracts")
USER, UNKNOWN, DOWN = Fault.USER, Fault.UNKNOWN, Fault.CALL


class Bench:
    """Evidence with a clock that the test moves."""

    def __init__(self) -> None:
        self.time = 100.0
        self.metrics = Metrics()
        self.released: list[str] = []
        self.frozen = False
        self.wall_time = 1_795_839_547.0
        self.evidence = Evidence(
            self.metrics,
            clock=lambda: self.time,
            wall_clock=lambda: self.wall_time,
            released=self._release,
            frozen_since=lambda _: self.frozen,
        )

    def _release(self, users: Iterable[str]) -> None:
        self.released += users

    def fail(self, user: str, call: Call = PATCH, *, took: float = 0.1, **about: object) -> Fault:
        began = self.time
        self.time += took
        about = {"status": 503, "text": f"{' '.join(call)}: HTTP 503", **about}
        return self.evidence.failed(user, call, Failure(began=began, **about))  # type: ignore[arg-type]

    def succeed(self, user: str, call: Call = PATCH, body: bytes = b"{}") -> None:
        self.time += 0.1
        self.evidence.succeeded(user, call, body)

    def may_send(self, user: str, call: Call = PATCH) -> bool:
        try:
            self.evidence.admit(user, call)
        except CallDown:
            return False
        return True

    def is_ready(self) -> bool:
        return not self.evidence.reasons()

    def reading_stops(self) -> bool:
        return self.evidence.stopped

    def gauge(self, api: str) -> float | None:
        return self.metrics.registry.get_sample_value("sesamy_mailmojo_circuit_open", {"api": api})

    def bring_down(self, *users: str, call: Call = PATCH) -> None:
        self.time += 10
        for user in users or ("one", "two"):
            self.fail(user, call)
        assert self.evidence.is_down(call)


def test_one_user_who_fails_alone_waits_and_nobody_else_does() -> None:
    bench = Bench()

    assert {bench.fail("one") for _ in range(50)} == {UNKNOWN}

    assert bench.is_ready()
    assert bench.may_send("two")


def test_a_failure_counts_when_another_user_succeeded_after_it_began() -> None:
    bench = Bench()
    began = bench.time
    bench.succeed("two")

    assert bench.evidence.failed("one", PATCH, Failure(began=began, status=500, text="")) is USER


def test_a_success_of_before_the_failure_began_is_no_evidence() -> None:
    bench = Bench()
    bench.succeed("two")

    assert bench.fail("one") is UNKNOWN


@pytest.mark.parametrize("call", [("mailmojo", "add_subscriber"), ("mailmojo", "get_contact"), PROFILE])
def test_a_success_of_another_call_is_no_evidence(call: Call) -> None:
    bench = Bench()
    began = bench.time
    bench.succeed("two", call)

    assert bench.evidence.failed("one", PATCH, Failure(began=began, status=500, text="")) is UNKNOWN


def test_a_users_own_success_is_no_evidence_against_it() -> None:
    bench = Bench()
    began = bench.time
    bench.succeed("one")

    assert bench.evidence.failed("one", PATCH, Failure(began=began, status=500, text="")) is UNKNOWN


def test_evidence_that_comes_later_makes_the_next_failure_count() -> None:
    bench = Bench()
    assert bench.fail("one") is UNKNOWN
    bench.succeed("two")

    assert bench.fail("one") is USER
    assert bench.fail("one") is UNKNOWN  # each failure needs evidence of its own


def test_a_success_of_the_user_itself_clears_what_failed_before() -> None:
    bench = Bench()
    bench.fail("one")
    bench.succeed("two")
    bench.succeed("one")

    assert bench.fail("one") is UNKNOWN


def test_several_users_who_fail_with_no_success_between_bring_the_call_down_and_blame_nobody() -> None:
    bench = Bench()

    assert [bench.fail(user) for user in ("one", "two", "three")] == [UNKNOWN, DOWN, DOWN]

    assert bench.gauge("mailmojo") == 1
    assert bench.gauge("sesamy") == 0
    (outage,) = bench.evidence.outages()
    assert (outage.api, outage.operation, outage.status) == ("mailmojo", "patch_contact", 503)
    assert outage.since == "2026-11-28T04:19:07Z"
    assert "mailmojo patch_contact: HTTP 503; down since 2026-11-28T04:19:07Z" in outage.reason
    assert bench.evidence.reasons() == {"mailmojo": outage.reason}


def test_k12_many_failing_users_beside_healthy_ones_are_no_outage() -> None:
    bench = Bench()
    verdicts = []
    for second in range(60):
        bench.succeed(f"healthy-{second % 7}")
        for number in range(10):
            verdicts.append(bench.fail(f"failing-{(second * 10 + number) % 400}", took=0.01))
            assert bench.is_ready()
        assert bench.may_send("new")
    assert DOWN not in verdicts


def test_while_healthy_users_are_seldom_failing_ones_are_an_outage_only_until_the_next_success() -> None:
    bench = Bench()
    bench.succeed("healthy")
    bench.time += 3
    assert [bench.fail(user) for user in ("one", "two")] == [UNKNOWN, DOWN]

    bench.succeed("healthy")

    assert bench.is_ready()


def test_a_control_user_who_fails_too_brings_the_call_down_at_once() -> None:
    bench = Bench()
    bench.succeed("healthy", PROFILE)
    bench.fail(CONTROL, PROFILE)

    assert bench.fail("one", PROFILE) is DOWN


def test_a_call_that_is_down_delays_only_those_who_need_it() -> None:
    bench = Bench()
    bench.bring_down()

    assert not bench.may_send("one")
    assert all(bench.may_send("one", call) for call in (PROFILE, CONTRACTS, ("mailmojo", "get_contact")))


def test_while_it_is_down_one_user_who_did_not_fail_is_tried_at_a_time() -> None:
    bench = Bench()
    bench.bring_down()

    assert bench.may_send("three")
    assert not bench.may_send("four")
    assert bench.fail("three") is DOWN
    assert not bench.may_send("three")
    assert bench.may_send("four")
    bench.evidence.ended("four")  # it was cancelled
    assert bench.may_send("five")


def test_where_a_control_user_is_read_nobody_else_is_tried() -> None:
    bench = Bench()
    bench.fail(CONTROL, PROFILE)
    bench.fail("one", PROFILE)

    assert not bench.may_send("new", PROFILE)


def test_a_success_ends_it_and_releases_all_who_wait() -> None:
    bench = Bench()
    bench.bring_down()
    assert bench.evidence.park("one", PATCH)
    assert bench.evidence.park("three", PATCH)

    bench.succeed("four")

    assert bench.released == ["one", "three"]
    assert bench.is_ready()
    assert bench.gauge("mailmojo") == 0
    assert bench.fail("one") is UNKNOWN  # the outage explains the failures of before
    assert not bench.evidence.park("one", PATCH)


def test_those_who_did_not_fail_are_tried_first() -> None:
    bench = Bench()
    bench.bring_down()
    for user in ("one", "two", "three"):
        bench.evidence.park(user, PATCH)
    state = bench.evidence.state(PATCH)

    assert state.next_trial() == "three"
    assert bench.may_send("three")
    bench.fail("three")
    bench.evidence.park("three", PATCH)
    assert [state.next_trial(), state.next_trial()] == ["one", "two"]
    assert bench.may_send("two")


def test_k13_reading_stops_while_a_call_of_everybody_is_down_and_somebody_is_left_to_try_it_with() -> None:
    bench = Bench()
    assert not bench.reading_stops()
    bench.bring_down(call=PATCH)
    bench.evidence.park("three", PATCH)
    assert not bench.reading_stops()  # those whose contact is right go on

    bench.bring_down(call=PROFILE)
    for user in ("one", "two"):
        bench.evidence.park(user, PROFILE)
    assert not bench.reading_stops()  # all of them failed: only a user who comes after them can show that it works
    bench.evidence.park("three", PROFILE)
    assert bench.reading_stops()
    bench.fail("three", PROFILE)
    assert not bench.reading_stops()
    bench.fail(CONTROL, PROFILE)
    assert bench.reading_stops()  # the control user is read again and again


def test_when_nobody_is_left_who_failed_it_counts_as_back() -> None:
    bench = Bench()
    bench.bring_down()
    bench.evidence.park("one", PATCH)
    bench.evidence.completed("one")
    bench.evidence.completed("two")

    assert bench.is_ready()


def test_a_rebalance_forgets_users_but_not_since_when_it_fails() -> None:
    bench = Bench()
    bench.bring_down()
    bench.evidence.park("one", PATCH)
    since = bench.evidence.state(PATCH).since

    bench.wall_time += 100
    bench.evidence.forget_all()

    assert bench.is_ready()
    assert bench.gauge("mailmojo") == 0
    assert bench.may_send("one")
    bench.bring_down()
    assert bench.evidence.state(PATCH).since == since


def test_a_failure_across_a_freeze_of_this_process_says_nothing() -> None:
    bench = Bench()
    bench.frozen = True

    assert {bench.fail(f"user-{number}") for number in range(10)} == {UNKNOWN}
    bench.succeed("other")
    assert bench.is_ready()


@pytest.mark.parametrize("call", [TOKEN, ("mailmojo", "list_fields"), ("mailmojo", "create_field")])
def test_a_call_that_carries_no_user_counts_against_nobody_and_is_down_when_it_fails_again(call: Call) -> None:
    bench = Bench()
    bench.succeed(CONTROL, call)

    assert bench.fail("one", call) is UNKNOWN
    assert bench.fail("one", call) is DOWN
    assert bench.may_send("new", call)
    bench.evidence.passed(call)
    assert bench.is_ready()
    began = bench.time
    bench.succeed(CONTROL, call)
    assert bench.evidence.failed("one", call, Failure(began=began, status=500, text="")) is UNKNOWN


def test_credentials_or_a_list_that_are_refused_twice_in_a_row_are_not_about_the_one_user_who_needs_them() -> None:
    bench = Bench()

    assert bench.fail("one", status=401, about_account=True) is UNKNOWN
    assert bench.fail("one", status=401, about_account=True) is DOWN
    bench.succeed("two")
    assert bench.is_ready()
    began = bench.time
    bench.succeed("two")
    failure = Failure(began=began, status=401, text="", about_account=True)
    assert bench.evidence.failed("one", PATCH, failure) is USER


def test_evidence_calls_a_user_back_who_has_waited_for_long() -> None:
    bench = Bench()
    bench.fail("one")
    bench.succeed("two")
    assert bench.released == []
    bench.fail("one")
    bench.fail("one")
    bench.time += 60
    bench.succeed("two")
    assert bench.released == ["one"]


def test_what_was_never_sent_cannot_be_a_users_fault() -> None:
    bench = Bench()
    began = bench.time
    bench.succeed("two")

    assert bench.evidence.failed("one", PATCH, Failure(began=began, status=None, text="", about_user=False)) is UNKNOWN


def throttle(bench: Bench, user: str) -> Fault:
    began, bench.time = bench.time, bench.time + 1.5
    failure = Failure(began=began, status=503, text="mailmojo patch_contact: HTTP 503", about_user=False)
    return bench.evidence.throttled(user, PATCH, failure)


def test_a4_a_call_that_asks_everybody_to_wait_again_and_again_is_down_and_nobody_is_at_fault() -> None:
    bench = Bench()
    assert [throttle(bench, user) for user in ("one", "two", "three")] == [UNKNOWN] * 3
    assert bench.is_ready()
    assert [throttle(bench, user) for user in ("one", "two")] == [UNKNOWN, DOWN]
    assert "HTTP 503" in bench.evidence.reasons()["mailmojo"]
    bench.succeed("three")
    assert bench.is_ready()


def test_a_call_that_asks_to_wait_and_succeeds_in_between_is_not_down() -> None:
    bench = Bench()
    for _ in range(5):
        assert [throttle(bench, user) for user in ("one", "two", "three")] == [UNKNOWN] * 3
        bench.succeed("four")
    assert bench.is_ready()


def refuse(bench: Bench, user: str) -> Fault:
    return bench.fail(user, status=400, refusal=True)


def test_a21_refused_users_are_given_up_once_another_write_is_accepted_and_an_unchanged_user_is_no_evidence() -> None:
    bench = Bench()
    users = [f"refused-{number}" for number in range(12)]
    for user in users:
        if refuse(bench, user) is DOWN:
            bench.evidence.park(user, PATCH)
    for number in range(60):
        bench.evidence.succeeded(f"fine-{number}", ("mailmojo", "get_contact"))
        bench.evidence.completed(f"fine-{number}")
    assert not bench.is_ready()

    bench.succeed("accepted")

    assert set(bench.released) == set(users)
    assert bench.is_ready()
    assert [refuse(bench, user) for user in users] == [USER] * 12
    assert bench.is_ready()


def test_refusals_for_everybody_give_nobody_up_even_at_their_beginning() -> None:
    bench = Bench()
    began = bench.time
    bench.succeed("last-accepted")
    first = [
        bench.evidence.failed(f"user-{number}", PATCH, Failure(began=began, status=400, text="", refusal=True))
        for number in range(3)
    ]
    assert first == [USER] * 3  # their requests were open together with the last that was accepted
    assert [refuse(bench, f"other-{number}") for number in range(2)] == [UNKNOWN] * 2

    assert [refuse(bench, f"user-{number}") for number in range(3)] == [UNKNOWN] * 3


@pytest.mark.parametrize(
    ("content", "body", "speaks"),
    [
        ("", b"[]", False),
        ("", b'{"data": []}', False),
        ("", b'{"data": [{"id": 1}]}', True),
        ("", b'{"userId": "x", "tags": []}', True),
        ("issuesRemaining", b'[{"id": 1}]', False),
        ("issuesRemaining", b'[{"id": 1, "issuesRemaining": null}]', False),
        ("issuesRemaining", b'{"data": [{"id": 1, "issuesRemaining": 3}]}', True),
        ("contract.expiresAt", b'[{"id": 1, "expiresAt": ""}]', False),
        ("contract.expiresAt", b'[{"id": 1, "expiresAt": "01.02.2026"}]', False),
        ("contract.expiresAt", b'[{"id": 1, "expiresAt": "2026-02-01"}]', True),
    ],
)
def test_a8_a_value_that_cannot_be_read_is_refuted_only_by_one_that_can(
    content: str, body: bytes, speaks: bool
) -> None:
    for evidence_first in (True, False):
        bench = Bench()
        began = bench.time
        if evidence_first:
            bench.succeed("two", CONTRACTS, body)
        verdict = bench.evidence.failed("one", CONTRACTS, Failure(began=began, status=200, text="", content=content))
        if not evidence_first:
            bench.succeed("two", CONTRACTS, body)
            verdict = bench.fail("one", CONTRACTS, content=content)
        assert verdict is (USER if speaks else UNKNOWN)


def test_a8_users_without_the_value_go_on_while_those_who_have_it_wait() -> None:
    bench = Bench()
    bad = b'[{"id": 1, "expiresAt": "01.02.2026"}]'
    for second in range(10):
        bench.time += 1
        bench.succeed(f"without-{second}", CONTRACTS, b"[]")
        for user in ("one", "two"):
            bench.succeed(user, CONTRACTS, bad)  # as a response it is fine; the value is looked at later
            verdict = bench.fail(user, CONTRACTS, content="contract.expiresAt", status=200)
    assert verdict is DOWN
    assert bench.may_send("new", CONTRACTS)
    assert bench.may_send("another", CONTRACTS), "it is no trial: no other user need wait for its end"
    assert not bench.may_send("one", CONTRACTS)

    bench.succeed("three", CONTRACTS, b'[{"id": 1, "expiresAt": "2026-02-01"}]')
    assert bench.is_ready()


def test_an_internal_error_counts_only_while_other_syncs_end_well() -> None:
    bench = Bench()
    assert bench.fail("one", SYNC) is UNKNOWN
    bench.evidence.completed("two")
    assert bench.fail("one", SYNC) is USER
    bench.time += 10
    assert [bench.fail("three", SYNC), bench.fail("four", SYNC)] == [UNKNOWN, DOWN]
    assert "service" in bench.evidence.reasons()


USERS = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fail", "refuse", "succeed", "complete", "forget", "drop"]),
        USERS,
        st.floats(0, 5),
        st.floats(0, 5),
    ),
    max_size=60,
)


@given(STEPS)
def test_no_failure_counts_without_a_success_of_another_user_after_one_of_that_user_began(
    steps: list[tuple[str, str, float, float]],
) -> None:
    """Whatever the order: when a failure counts, some failure since the user's last success has evidence."""
    bench = Bench()
    began: dict[str, list[float]] = {}
    successes: list[tuple[float, str]] = []
    for what, user, pause, took in steps:
        bench.time += pause
        if what in {"fail", "refuse"}:
            began.setdefault(user, []).append(bench.time)
            verdict = bench.fail(user, took=took, refusal=what == "refuse")
            if verdict is USER:
                assert any(at > since and other != user for since in began[user] for at, other in successes)
            elif verdict is DOWN:
                bench.evidence.park(user, PATCH)
        elif what == "succeed":
            bench.time += 0.1
            bench.evidence.succeeded(user, PATCH)
            successes.append((bench.time, user))
            began.pop(user, None)
        elif what == "complete":
            bench.evidence.completed(user)
            began.pop(user, None)
        elif what == "forget":
            bench.evidence.forget(user)
            began.pop(user, None)
        else:
            bench.evidence.forget_all()
            began.clear()
        assert_consistent(bench)


def assert_consistent(bench: Bench) -> None:
    state = bench.evidence.state(PATCH)
    assert bool(bench.evidence.outages()) == state.is_down == (bench.gauge("mailmojo") == 1)
    assert state.is_down or not state.parked
    if state.is_down:
        assert state.others("nobody") >= 1 or state.has_control
    else:
        assert not state.looks_down(lambda: bench.time)


@given(STEPS)
def test_without_a_success_nothing_ever_counts(steps: list[tuple[str, str, float, float]]) -> None:
    bench = Bench()
    for what, user, pause, took in steps:
        bench.time += pause
        if what in {"fail", "refuse"}:
            assert bench.fail(user, took=took, refusal=what == "refuse") is not USER


def test_asking_whether_a_call_can_be_made_is_no_trial_of_it() -> None:
    bench = Bench()
    bench.bring_down()
    bench.evidence.admit("asks", PATCH, sends=False)

    assert bench.may_send("new")
    assert not bench.may_send("asks")


def test_a_refusal_that_was_proven_once_needs_no_second_proof() -> None:
    bench = Bench()
    began = bench.time
    bench.succeed("two")
    refusal = Failure(began=began, status=400, text="", refusal=True)
    assert bench.evidence.failed("one", PATCH, refusal) is USER

    assert bench.fail("one", refusal=True, status=400) is USER


def test_a_large_response_is_evidence_and_is_not_kept() -> None:
    bench = Bench()
    body = b'[{"id": 1, "expiresAt": "2026-02-01", "title": "%s"}]' % (b"x" * 70_000)
    assert bench.fail("one", CONTRACTS, content="contract.expiresAt", status=200) is UNKNOWN
    bench.succeed("two", CONTRACTS, body)

    assert bench.fail("one", CONTRACTS, content="contract.expiresAt", status=200) is USER
    assert [len(success.body) for success in bench.evidence.state(CONTRACTS).recent()] == [0]


def test_a_user_that_is_forgotten_in_the_midst_of_its_trial_leaves_it_to_another() -> None:
    bench = Bench()
    bench.bring_down()
    state = bench.evidence.state(PATCH)
    assert state.next_trial() is None, "nobody waits"
    bench.evidence.park("one", PATCH)
    assert state.next_trial() == "one"
    assert bench.may_send("one")
    assert not bench.may_send("new")
    bench.evidence.forget("one")

    assert (state.trying, state.sending) == (None, None)
    assert bench.may_send("new")
