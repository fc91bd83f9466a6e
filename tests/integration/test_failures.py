"""Whose fault a failure is: one user's holds back that user only (P5), anybody else's makes consumption wait."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.integration.stage import NewStage, Stage, event, headers, stop
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

ATTEMPTS = 4
IMPATIENT = {"SYNC_MAX_ATTEMPTS": str(ATTEMPTS), "SYNC_RETRY_BASE": "0.05", "SYNC_RETRY_CAP": "0.3"}
WRITES = ("patch_contact", "post_subscriber")


async def readiness(service: ServiceProcess) -> tuple[int, str]:
    """Return the status of `/readyz` and what it says, which is JSON."""
    status, body = await service.get("/readyz")
    json.loads(body)
    return status, body


async def test_a_user_whose_contact_always_fails_delays_nobody_and_ends_as_a_dead_letter(stage: Stage) -> None:
    poisoned, *others = stage.users(100)
    stage.fail(api="mailmojo", key="user.0000@example.no", status=500)
    patient = await stage.service(SYNC_MAX_ATTEMPTS="100000")
    ((partition, first), (_, offset)) = await stage.send(event(poisoned), event(poisoned, "checkout.1#confirm"))
    await stage.send(*(event(user_id, partition=partition) for user_id in others))
    await wait_until(lambda: not stage.stale(others), what="everybody else is synced")
    assert await stage.dead_letters() == []
    assert (await stage.committed()).get(partition, 0) <= first  # P1: nothing passes what is not done
    await stop(patient)
    service = await stage.service(SYNC_MAX_ATTEMPTS="6")
    await stage.send(event(others[0]))  # which shows that only the one fails
    await stage.all_committed()

    (letter,) = await stage.dead_letters()
    about = headers(letter)
    assert letter.key == poisoned.encode()
    assert about["dead-letter-reason"] == "exhausted"
    assert about["dead-letter-attempts"] == "6"
    assert (about["dead-letter-partition"], about["dead-letter-offset"]) == (str(partition), str(offset))
    assert len(stage.log.requests("sesamy", "get_user", poisoned)) >= 6
    stage.assert_discreet(str(about))
    assert await service.metric("events_total", outcome="dead_lettered") == 1
    assert await service.metric("events_total", outcome="coalesced") >= 1
    assert (await readiness(service))[0] == 200
    await stop(service)


@pytest.mark.parametrize("status", [400, 409, 422])
async def test_a_contact_that_is_refused_again_after_a_fresh_read_is_a_rejected_dead_letter(
    stage: Stage, status: int
) -> None:
    refused, other, later = stage.users(3)
    address = "user.0000@example.no"
    stage.fail(api="mailmojo", operation="post_subscriber", key=address, status=status)
    service = await stage.service()
    await stage.send(event(refused), event(other))
    await wait_until(lambda: not stage.stale([other]), what="the other one is synced")
    await wait_until(lambda: len(stage.log.requests("mailmojo", key=address)) >= 4, what="it was refused twice")
    await stage.send(event(later))  # a write that is accepted after the refusals speaks against the refused user
    await stage.all_committed()
    (letter,) = await stage.dead_letters()
    assert (letter.key, headers(letter)["dead-letter-reason"]) == (refused.encode(), "rejected")
    operations = [record.operation for record in stage.log.requests("mailmojo", key=address)]
    assert operations == ["get_contact", "post_subscriber"] * (len(operations) // 2)
    (accepted,) = stage.log.requests("mailmojo", "post_subscriber", "user.0002@example.no")
    refusals = stage.log.requests("mailmojo", "post_subscriber", address)
    assert sum(accepted.end < record.start for record in refusals) <= 2
    assert stage.stale([other, later]) == {}
    await stop(service)


async def test_a_contact_that_appears_meanwhile_is_no_failure(stage: Stage) -> None:
    (user_id,) = stage.users(1)
    stage.fail(api="mailmojo", operation="post_subscriber", status=409, times=1)
    service = await stage.service()
    await stage.send(event(user_id))
    await stage.all_committed()
    assert await stage.dead_letters() == []
    assert stage.stale([user_id]) == {}
    await stop(service)


class Outage(NamedTuple):
    """Something that is nobody's event's fault: what begins it, what ends it, and what `/readyz` calls it."""

    begin: Callable[[Stage], object]
    end: Callable[[Stage], object]
    reason: str


def unlist(stage: Stage) -> None:
    stage.world.lists.pop(7)


def list_again(stage: Stage) -> None:
    stage.world.lists[7] = "Newsletter"


def refuse_credentials(stage: Stage) -> None:
    stage.fail(api="token", status=401)
    stage.sandbox.sesamy.revoke_tokens()


def give_no_token(stage: Stage) -> None:
    stage.fail(api="token", status=503)
    stage.sandbox.sesamy.revoke_tokens()


def failing(**rule: Any) -> Callable[[Stage], None]:
    return lambda stage: stage.fail(**rule)


OUTAGES = {
    "Mailmojo refuses the token": Outage(failing(api="mailmojo", status=401), Stage.heal, "MAILMOJO_API_TOKEN"),
    "Mailmojo forbids": Outage(failing(api="mailmojo", status=403), Stage.heal, "MAILMOJO_API_TOKEN"),
    "Mailmojo is down": Outage(failing(api="mailmojo", status=503), Stage.heal, "mailmojo"),
    "Mailmojo hangs up": Outage(failing(api="mailmojo", cut=True), Stage.heal, "mailmojo"),
    "Sesamy is down": Outage(failing(api="sesamy", status=500), Stage.heal, "sesamy"),
    "Sesamy hangs up": Outage(failing(api="sesamy", cut=True), Stage.heal, "sesamy"),
    "Sesamy refuses the credentials": Outage(refuse_credentials, Stage.heal, "SESAMY_CLIENT"),
    "no token can be had": Outage(give_no_token, Stage.heal, "sesamy"),
    "the list is unknown": Outage(unlist, list_again, "MAILMOJO_LIST_ID"),
}


async def test_every_outage_makes_consumption_wait_and_nothing_is_dead_lettered(new_stage: NewStage) -> None:
    # All at once, each on a deployment of its own: they are mostly waiting.
    stages = [await new_stage(4) for _ in OUTAGES]
    ends = await asyncio.gather(*map(live_through, stages, OUTAGES.values()), return_exceptions=True)
    assert {name: end for name, end in zip(OUTAGES, ends, strict=True) if end is not None} == {}


async def live_through(stage: Stage, outage: Outage) -> None:
    users = stage.users(60)
    service = await stage.service(**IMPATIENT, SYNC_CONCURRENCY="8")
    await stage.send(event(users[0]))
    await stage.all_committed()
    seen = stage.log.count
    outage.begin(stage)
    await stage.send(*(event(user_id) for user_id in users[1:]))
    said = ""

    async def unready() -> bool:
        nonlocal said
        status, said = await readiness(service)
        return status == 503

    await wait_until(unready, what="/readyz answers 503")
    assert outage.reason in said
    assert await service.metric("circuit_open") == 1
    during = stage.log.count
    await wait_until(lambda: stage.log.count >= during + 3, what="it probes")
    stage.assert_discreet(said)
    # Waiting costs little of the quotas: a user is read once, to see what it needs, and none is tried over and over.
    assert len(stage.requests_since(seen, "get_user")) <= len(users) + 8 * 2
    assert (await service.get("/livez"))[0] == 200
    assert await service.metric("events_pending") == len(users) - 1

    outage.end(stage)
    await service.ready()
    await stage.all_committed()
    assert await stage.dead_letters() == []
    assert stage.stale(users) == {}
    assert await service.metric("circuit_open") == 0
    await stage.assert_sentinels(service)
    await stop(service)


async def test_a_poisoned_user_keeps_no_outage_open_and_an_outage_exhausts_nobody(stage: Stage) -> None:
    poisoned, *others = stage.users(20)
    stage.fail(api="mailmojo", key="user.0000@example.no", status=500)
    stage.fail(api="mailmojo", status=503, lasts=3)
    service = stage.start(**IMPATIENT)
    await service.admin_port()
    await stage.send(*(event(user_id) for user_id in [poisoned, *others]))
    await stage.all_committed()
    assert [letter.key for letter in await stage.dead_letters()] == [poisoned.encode()]
    assert stage.stale(others) == {}
    assert (await readiness(service))[0] == 200
    await stop(service)


async def test_ten_refusals_in_a_row_are_not_the_users_fault(stage: Stage) -> None:
    users = stage.users(30)
    for operation in WRITES:
        stage.fail(api="mailmojo", operation=operation, status=422)
    service = await stage.service()
    await stage.send(*(event(user_id) for user_id in users))

    async def unready() -> bool:
        return (await readiness(service))[0] == 503

    await wait_until(unready, what="/readyz answers 503")
    assert len(await stage.dead_letters()) <= 10
    stage.heal()
    await stage.all_committed()
    rejected = {letter.key.decode() for letter in await stage.dead_letters() if letter.key}
    assert len(rejected) <= 10
    assert stage.stale(set(users) - rejected) == {}
    await service.ready()
    await stop(service)


async def test_a_quota_of_the_account_is_kept_and_a_pause_that_is_asked_for_too(stage: Stage) -> None:
    users = stage.users(40)
    rate, burst = 20.0, 5
    service = await stage.service(MAILMOJO_REQUESTS_PER_SECOND=str(rate), MAILMOJO_BURST=str(burst))
    stage.fail(api="sesamy", operation="get_user", status=429, headers={"Retry-After": "5"}, times=1)
    await stage.send(*(event(user_id) for user_id in users))
    await stage.all_committed()
    # The fake sees requests arrive; a busy machine may hold them up for a second. In virtual time the quota is exact.
    assert stage.log.excess("mailmojo", rate=rate, burst=burst) <= rate
    assert stage.stale(users) == {}
    (refused,) = [record for record in stage.log.requests("sesamy") if record.status == 429]
    # What was on the wire when the 429 came cannot be called back.
    assert [
        record for record in stage.log.requests("sesamy") if refused.end + 2 < record.start < refused.end + 4.9
    ] == []
    await stop(service)
