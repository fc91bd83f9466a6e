"""Under a quota cost follows users, and no window ever holds more than burst + rate * t (P6)."""

from itertools import pairwise
from pathlib import Path

import pytest

from consumer.sandbox import Answers, Plan
from consumer.sandbox.faults import ApiName
from tests.benchmarks.fleet import Quota, drain_few_users, share_among_three
from tests.integration.stage import Stage, event, stop
from tests.kafka_broker import KafkaBroker
from tests.waiting import wait_until

PLENTY = Quota(200, 100)
DELAY = 0.25
"""Seconds that a busy machine may hold up requests on their way: the fakes see them come all at once. That the quota is
kept exactly is shown in virtual time."""


async def test_a_backlog_of_few_users_takes_one_sync_a_user_at_the_speed_of_the_quota(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    drain = await drain_few_users(
        kafka, tmp_path, users=100, events=4_000, sesamy=Quota(20, 20), mailmojo=Quota(20, 10)
    )
    assert drain.requests <= 1.1 * drain.least_requests, drain
    assert drain.seconds <= 1.5 * drain.least_seconds + 5, drain
    assert drain.excess <= 20 * DELAY, drain


async def test_instances_share_the_quota_through_joins_and_a_leave(kafka: KafkaBroker, tmp_path: Path) -> None:
    sharing = await share_among_three(kafka, tmp_path, sesamy=Quota(60, 20), mailmojo=PLENTY, seconds=6)
    assert sharing.excess <= 60 * DELAY, sharing
    used = (sharing.used_by_one, sharing.used_by_three, sharing.used_by_two)
    assert min(used) >= 1 - 2 * DELAY / 6, sharing
    assert max(used) <= 1 + DELAY / 6, sharing


@pytest.mark.parametrize(
    ("api", "answers"),
    [
        ("mailmojo", Answers(throttle="seconds")),
        ("mailmojo", Answers(throttle="date")),
        ("mailmojo", Answers(throttle="body")),
        ("mailmojo", Answers(throttle="headers")),
        ("sesamy", Answers(sesamy_throttle="body")),
        ("sesamy", Answers(sesamy_throttle="date")),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.throttle}-{value.sesamy_throttle}",
)
async def test_whatever_asks_for_a_pause_closes_the_gate_for_all_calls_of_that_api(
    api: ApiName, answers: Answers, stage: Stage
) -> None:
    stage.sandbox.sesamy.answers = stage.sandbox.mailmojo.answers = answers
    users = stage.users(60)
    stage.sandbox.faults.set(Plan(latency=0.02))
    service = await stage.service(SYNC_CONCURRENCY="4")
    stage.fail(api=api, status=429, times=1)
    await stage.send(*(event(user_id) for user_id in users))
    await stage.all_committed()
    (refused,) = [record for record in stage.log.records if record.status == 429]
    # What was on the wire when the 429 came cannot be called back; it asked for one second, of which a busy machine may
    # take a part before these arrive.
    later = sorted(record.start for record in stage.log.requests(api) if record.start > refused.start)
    gaps = [after - before for before, after in pairwise([refused.end, *later])]
    assert max(gaps) >= 0.5
    assert gaps.index(max(gaps)) < 16
    assert await service.metric("dead_letters_total") == 0
    await stop(service)


async def test_a_fresh_event_waits_for_the_users_before_it_and_not_for_their_events(stage: Stage) -> None:
    hot, fresh, *backlog = stage.users(42)
    stage.sandbox.faults.set(Plan(latency=0.02))
    await stage.send(*(event(user_id) for _ in range(20) for user_id in (hot, *backlog)), *[event(hot)] * 2_000)
    service = await stage.service(SYNC_CONCURRENCY="2", SESAMY_REQUESTS_PER_MINUTE="2400", SESAMY_BURST="8")
    await wait_until(lambda: stage.log.requests("sesamy", "get_user"), what="the backlog is under way")
    seen = stage.log.count
    await stage.send(event(fresh))
    await wait_until(lambda: stage.log.writes(stage.user(fresh).profile["email"]), what="the fresh event is done")
    before = [record.user_id for record in stage.log.since(seen) if record.operation == "get_user"]
    assert len(before) <= len(backlog) + 4, "one sync each of who waited, and the hot user's once more"
    assert before.count(hot) <= 2
    await stage.all_committed()
    await stage.assert_sentinels(service)
    await stop(service)


async def test_a_user_with_events_all_the_time_takes_turns_with_the_others(stage: Stage) -> None:
    hot, *others = stage.users(40)
    stage.sandbox.faults.set(Plan(latency=0.02))
    service = await stage.service(SYNC_CONCURRENCY="1", SYNC_LINGER="0")
    await stage.send(*(event(user_id) for user_id in (hot, *others)))
    while not set(others) <= {write.user_id for write in stage.log.writes()}:
        await stage.send(event(hot))
    done = [record.user_id for record in stage.log.requests("sesamy", "get_user")]
    last = max(done.index(user_id) for user_id in others)
    assert done[:last].count(hot) <= 2, "it goes to the end of the line each time"
    await stage.all_committed()
    await stop(service)
