"""What a load test's figures say of evidence made by hand."""

from collections import Counter

import pytest
from msgspec import structs

from consumer.loadtest.comparison import figures
from consumer.loadtest.evidence import Ended, Evidence, Letter
from consumer.loadtest.figures import percentiles, report
from consumer.loadtest.instances import Metrics
from consumer.loadtest.samples import Sample
from consumer.loadtest.sent import Sent, UserEvents
from consumer.sandbox import Quota, Record, Rule
from tests.unit.loadtest.runs import (
    ANN,
    BOB,
    MACHINE,
    PLAN,
    RECORDS,
    contact,
    counters,
    events,
    read,
    right_run,
    sync,
    write,
)


def latency_of(user: UserEvents, *records: Record) -> list[float]:
    """Return the latencies of one user's events, in order of size."""
    found = report(right_run(users={ANN: user}, records=records)).latency
    return [] if found is None else [found.p50, found.max][-found.count :]


def test_a_right_run_holds_and_its_figures_are_those_of_the_log() -> None:
    found = report(right_run())
    assert found.failures == []
    assert (found.events.published, found.events.synced, found.events.lost, found.events.changed) == (3, 3, 0, 1)
    assert (found.syncs.written, found.syncs.unchanged, found.syncs.skipped, found.syncs.unfinished) == (3, 0, 0, 0)
    assert found.throughput.seconds == pytest.approx(2.7)
    assert found.throughput.events == pytest.approx(3 / 2.7, abs=0.01)
    assert found.latency is not None
    assert found.latency.count == 3
    assert found.latency.p50 == pytest.approx(0.7)
    assert {(one.operation, one.log, one.program) for one in found.requests} == {
        ("get_user", 3, 3),
        ("get_contact", 3, 3),
        ("patch_contact", 3, 3),
    }
    assert all(check.agrees for check in found.agreement)
    (ann_and_bob, _) = found.per_user
    assert (ann_and_bob.mean, ann_and_bob.requests.max) == (1.5, 2)
    (instance,) = found.instances
    assert (instance.process.cpu_seconds, instance.process.cores) == (1.5, 0.5)
    assert instance.process.peak_rss_mib == 65
    assert found.others[0].name == "sandbox"


def test_latency_counts_from_the_intended_time_however_late_the_event_was_sent() -> None:
    assert latency_of(events(ANN, 100, late=5), *sync(ANN, 106)) == [pytest.approx(6.5)]


def test_a_sync_that_began_before_the_event_was_sent_does_not_answer_it() -> None:
    assert latency_of(events(ANN, 100), *sync(ANN, 99.9)) == []
    assert latency_of(events(ANN, 100), *sync(ANN, 99.9), *sync(ANN, 103)) == [pytest.approx(3.5)]


def test_events_that_waited_together_are_done_by_the_one_sync_that_answered_them() -> None:
    assert latency_of(events(ANN, 100, 101, versions=[1, 2]), *sync(ANN, 102, version=2)) == [
        pytest.approx(1.5),
        pytest.approx(2.5),
    ]


def test_a_contact_that_shows_an_older_state_leaves_its_event_open() -> None:
    assert latency_of(events(ANN, 100, versions=[2]), *sync(ANN, 101, version=1)) == []


def test_a_contact_that_shows_the_state_already_ends_the_event_without_a_write() -> None:
    assert latency_of(events(ANN, 100), read(ANN, 101), contact(ANN, 101.2, 1)) == [pytest.approx(1.3)]
    assert latency_of(events(ANN, 100), read(ANN, 101), contact(ANN, 101.2, None)) == []
    assert latency_of(events(ANN, 100), read(ANN, 101), contact(ANN, 101.2, 1, status=500)) == []


def test_a_write_that_took_effect_shows_though_its_answer_was_cut() -> None:
    assert latency_of(events(ANN, 100), read(ANN, 101), write(ANN, 101.4, status=0)) == [pytest.approx(1.5)]
    assert latency_of(events(ANN, 100), read(ANN, 101), write(ANN, 101.4, change=None, status=500)) == []


def test_somebody_skipped_is_done_with_the_read_that_says_so() -> None:
    guest = events(ANN, 100, address="", skipped="skipped_guest")
    assert latency_of(guest, read(ANN, 101)) == [pytest.approx(1.1)]
    assert latency_of(guest, read(ANN, 101, status=500)) == []
    assert latency_of(events(ANN, 100), read(ANN, 101, status=404)) == [pytest.approx(1.1)]


def test_an_event_that_is_a_dead_letter_stands_for_the_older_ones_and_not_for_the_newer() -> None:
    users = {ANN: events(ANN, 100, 101, 102)}
    found = report(right_run(users=users, records=[], letters=[Letter("rejected", ANN, 1)])).events
    assert (found.dead_lettered, found.lost) == (2, 1)


def test_records_that_ask_for_no_sync_are_no_losses() -> None:
    sent = Sent(users={}, others=Counter(skipped_tombstone=2, dead_lettered=1), began=100.0)
    found = report(right_run(sent=sent, records=[]))
    assert (found.events.published, found.events.unread, found.events.dead_lettered, found.events.lost) == (3, 2, 1, 0)
    assert found.latency is None


def test_events_that_were_sent_after_the_last_answer_do_not_make_it_look_faster() -> None:
    sent = Sent(users={ANN: events(ANN, 100)}, others=Counter(skipped_tombstone=99), began=100.0)
    found = report(right_run(sent=sent, records=sync(ANN, 100.2), published_at=150.0)).throughput
    assert (found.seconds, found.events) == (50, 2)


@pytest.mark.parametrize("size", [1, 2, 99, 100, 101, 1000])
def test_percentiles_are_values_that_so_many_do_not_exceed(size: int) -> None:
    values = [float(number) for number in range(1, size + 1)]
    found = percentiles(reversed(values))
    assert found is not None
    for percent, value in ((50, found.p50), (90, found.p90), (99, found.p99), (100, found.max)):
        assert sum(one <= value for one in values) >= size * percent / 100
        assert sum(one < value for one in values) < size * percent / 100
    assert percentiles([]) is None


QUOTA = structs.replace(PLAN, sesamy=Quota(rate=1.0, burst=1.0))
DIED = Ended(name="instance 1", exit_code=-9, died=True, metrics=counters(RECORDS))
UNTIDY = Ended(name="instance 1", exit_code=1, died=False, metrics=counters(RECORDS))
OVERLAP = [*RECORDS, write(ANN, 102.65, 2)]
BACKWARD = [*RECORDS, write(ANN, 103, 1)]
HARM = [*RECORDS[:-1], write(ANN, 102.6, 2, damage=("tag:VIP",))]
RUDE = [*RECORDS[:-1], write(ANN, 102.6, 2, violations=("every path ends with a slash",))]
HASTY = [*RECORDS, *(read(BOB, 110) for _ in range(4))]


@pytest.mark.parametrize(
    ("evidence", "failure"),
    [
        (right_run(records=RECORDS[:-3]), "1 of 3 events were not answered by a sync that began after them"),
        (right_run(committed=False, lag=2), "not done in time: 2 of 3 records without a commit 300 s after"),
        (right_run(committed=False, lag=2, instances=[DIED]), "not done in time: 2 of 3 records without a commit when"),
        (right_run(letters=[Letter("exhausted", ANN, 1)]), "dead letters though no fault was asked for: 1 exhausted"),
        (right_run(records=OVERLAP), "1 pairs of writes of one contact overlap"),
        (right_run(records=BACKWARD), "1 writes carried an older state than the one before"),
        (right_run(metrics=counters(RECORDS, order_violations_total=1)), "order_violations_total is 1, must be 0"),
        (right_run(metrics=counters(RECORDS, records_lost_total=4)), "records_lost_total is 4, must be 0"),
        (right_run(records=HASTY, plan=QUOTA), "the quota of sesamy was exceeded by 3 requests"),
        (right_run(instances=[DIED]), "instance 1 ended with exit code -9 before the end"),
        (right_run(instances=[UNTIDY]), "instance 1 did not stop in order: exit code 1"),
        (right_run(records=HARM), "1 writes did damage, as tag:VIP"),
        (right_run(records=RUDE), "1 requests broke a rule of the references: every path ends with a slash"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_hold_is_said(evidence: Evidence, failure: str) -> None:
    assert any(said.startswith(failure) for said in report(evidence).failures), report(evidence).failures


def test_faults_that_were_asked_for_may_end_in_dead_letters() -> None:
    plan = structs.replace(PLAN, faults=(Rule(status=500),))
    letters = [Letter("exhausted", ANN, 1)]
    assert not any("dead letters though" in said for said in report(right_run(plan=plan, letters=letters)).failures)


def test_what_spoils_the_times_is_noted() -> None:
    assert report(right_run()).notes == []
    busy = structs.replace(MACHINE, load_average=1.5)
    assert report(right_run(machine=busy)).notes == ["the machine was busy before: load average 1.5 on 2 cores"]
    (late,) = report(right_run(lateness=2.5)).notes
    assert late.startswith("events were sent up to 2.5 s late")
    (filled,) = report(right_run(plan=structs.replace(PLAN, backlog=True))).notes
    assert filled.endswith("all was in the topic: times and rates include 2.0 s for that")
    (unheard,) = report(right_run(metrics=with_counts(error=2))).notes
    assert unheard == "2 requests got no answer in time though no fault was asked for"


def disagreements(evidence: Evidence) -> list[str]:
    return [check.what for check in report(evidence).agreement if not check.agrees]


def with_counts(**kinds: int) -> Metrics:
    """The counters of a program that says to have made so many more reads of a profile by status."""
    values = dict(counters(RECORDS)._values)
    for status, more in kinds.items():
        labels = {"api": "sesamy", "operation": "get_user", "status": status.removeprefix("_")}
        kind = ("api_requests_total", frozenset(labels.items()))
        values[kind] = values.get(kind, 0) + more
    return Metrics(values)


def test_one_request_too_many_or_too_few_on_either_side_is_a_disagreement() -> None:
    assert disagreements(right_run(metrics=with_counts(_200=1))) == ["requests: sesamy get_user 200"]
    assert disagreements(right_run(metrics=with_counts(_200=-1))) == ["requests: sesamy get_user 200"]
    assert disagreements(right_run(metrics=with_counts(_429=1))) == ["requests: sesamy get_user 429"]


def test_a_request_without_an_answer_may_have_been_answered_late_or_not_have_arrived() -> None:
    late = right_run(metrics=with_counts(_200=-1, error=1))
    assert disagreements(late) == []
    assert "requests: sesamy get_user 200, 1 of them not heard in time" in [it.what for it in report(late).agreement]
    assert disagreements(right_run(metrics=with_counts(error=1))) == []
    assert disagreements(right_run(metrics=with_counts(_200=-2, error=1))) == ["requests: sesamy get_user 200"]


@pytest.mark.parametrize(
    ("evidence", "what"),
    [
        (structs.replace(right_run(), records=4), "records in the topic: done by the program"),
        (right_run(letters=[Letter("rejected", ANN, 0)]), "dead letters: rejected"),
        (right_run(records=RECORDS[:-1], metrics=counters(RECORDS)), "syncs that wrote"),
    ],
    ids=["events", "dead letters", "syncs"],
)
def test_events_dead_letters_and_syncs_are_counted_twice_too(evidence: Evidence, what: str) -> None:
    assert what in disagreements(evidence)


def test_an_event_that_the_program_skips_for_a_reason_that_there_is_not_is_a_disagreement() -> None:
    values = dict(counters(RECORDS)._values)
    values["events_total", frozenset({"type": "x", "outcome": "skipped_no_email"}.items())] = 1
    assert "events: skipped_no_email" in disagreements(right_run(metrics=Metrics(values)))
    faulty = structs.replace(PLAN, faults=(Rule(status=404),))
    assert "events: skipped_no_email" not in disagreements(right_run(metrics=Metrics(values), plan=faulty))


def test_series_stay_small_and_add_up_to_the_totals() -> None:
    long = [round(100 + number * 3.0, 1) for number in range(1000)]
    records = [one for at in long for one in (read(ANN, at + 1), contact(ANN, at + 1.2, 1))]
    found = report(right_run(users={ANN: events(ANN, *long)}, records=records, published_at=long[-1])).series
    assert len(found.done) <= 180
    assert sum(found.done) * found.width == pytest.approx(1000, rel=1e-4)
    assert sum(found.published) * found.width == pytest.approx(1000, rel=1e-4)
    assert sum(found.requests["sesamy"]) * found.width == pytest.approx(1000, rel=1e-4)
    assert {len(found.lag), len(found.latency_p50), len(found.cores["sandbox"])} == {len(found.done)}


def test_the_largest_lag_of_a_long_run_is_that_of_a_second_and_not_of_the_end_of_a_step() -> None:
    samples = [Sample(100.0 + second, 9, 9 if second == 501 else 1, {}) for second in range(1000)]
    found = report(right_run(samples=samples))
    assert found.series.width > 2
    assert ("largest lag", "events", 9) in figures(found)
