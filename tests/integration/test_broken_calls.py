"""A call that fails for everybody makes its users wait, whatever the failure looks like; one user's failure only that
user. The rows are those of the list of cases (A2 to A8, A15, A21)."""

import asyncio
import json
import os
import resource
import signal
from typing import Any, NamedTuple

from consumer.sandbox import Plan, Rule
from tests.integration.stage import NewStage, Stage, event, headers, stop
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

ATTEMPTS = {"SYNC_MAX_ATTEMPTS": "2", "SYNC_RETRY_BASE": "0.05", "SYNC_RETRY_CAP": "0.3"}
"""Few and quick: whoever counts a failure that is nobody's fault has dead letters at once."""

HTML = {"body": "<html>maintenance</html>", "content_type": "text/html"}
READS = {"get_user", "list_contracts", "list_entitlements", "list_transactions"}


class Broken(NamedTuple):
    """A call that fails for everybody, and what is told of it."""

    rules: tuple[dict[str, Any], ...]
    api: str
    operations: set[str]
    status: int
    says: str
    """What the reason and the line of `check` hold."""


BROKEN = {
    "a2_every_path_404": Broken(({"api": "sesamy", "status": 404},), "sesamy", {"get_user"}, 404, "SESAMY_API_URL"),
    "a3_sesamy_html": Broken(({"api": "sesamy", "method": "GET"} | HTML,), "sesamy", READS, 200, "SESAMY_API_URL"),
    "a3_mailmojo_html": Broken(
        ({"api": "mailmojo", "method": "GET"} | HTML,), "mailmojo", {"get_contact"}, 200, "MAILMOJO_API_URL"
    ),
    "a5_a_scope_is_missing": Broken(
        ({"api": "sesamy", "operation": "list_transactions", "status": 403},),
        "sesamy",
        {"list_transactions"},
        403,
        "SESAMY_CLIENT_ID",
    ),
    "another_call_answers_418": Broken(
        ({"api": "sesamy", "operation": "list_entitlements", "status": 418},),
        "sesamy",
        {"list_entitlements"},
        418,
        "SESAMY_API_URL",
    ),
    "lists_are_null": Broken(
        ({"api": "sesamy", "operation": "list_contracts", "body": '{"data": null, "error": {"code": "internal"}}'},),
        "sesamy",
        {"list_contracts"},
        200,
        "SESAMY_API_URL",
    ),
}


async def told(service: ServiceProcess) -> dict[str, Any]:
    """Return what `/readyz` says."""
    _, body = await service.get("/readyz")
    says: dict[str, Any] = json.loads(body)
    return says


async def names(service: ServiceProcess, api: str, operations: set[str]) -> dict[str, Any]:
    """Wait until `/readyz` names one of these calls, and return what it says of it."""
    calls: list[dict[str, Any]] = []

    async def is_named() -> bool:
        calls[:] = [it for it in (await told(service))["calls"] if it["api"] == api and it["operation"] in operations]
        return bool(calls)

    await wait_until(is_named, what=f"/readyz names {operations}")
    return calls[0]


async def in_step(stage: Stage, service: ServiceProcess, users: list[str]) -> None:
    """Sync these users, so that their contacts are right."""
    await stage.send(*(event(user_id) for user_id in users))
    await stage.all_committed()
    assert stage.stale(users) == {}
    await service.ready()


async def test_a2_a3_a5_a_call_that_fails_for_everybody_is_named_and_waited_for(new_stage: NewStage) -> None:
    # All at once, each on a deployment of its own: they are mostly waiting.
    stages = [await new_stage(2) for _ in BROKEN]
    ends = await asyncio.gather(*map(live_through, stages, BROKEN.values()), return_exceptions=True)
    assert {name: end for name, end in zip(BROKEN, ends, strict=True) if end is not None} == {}


async def live_through(stage: Stage, broken: Broken) -> None:
    users = stage.users(20)
    for rule in broken.rules:
        stage.fail(**rule)
    service = stage.start(**ATTEMPTS)
    await service.admin_port()
    await stage.send(*(event(user_id) for user_id in users))
    call = await names(service, broken.api, broken.operations)
    assert call["status"] == broken.status
    assert call["since"].endswith("Z")
    says = await told(service)
    assert says["ready"] is False
    assert broken.says in says["reasons"][broken.api]
    assert call["since"] in says["reasons"][broken.api]
    await asyncio.sleep(4)
    assert await stage.dead_letters() == []
    assert await service.metric("events_total") == 0
    assert await service.metric("circuit_open", api=broken.api) == 1
    assert len([record for record in stage.log.records if record.api == "token"]) <= 3
    check = await stage.finish("check")
    assert check.returncode == 1
    failed = [line for line in check.output().splitlines() if line.startswith("failed")]
    assert any(broken.says in line for line in failed), check.output()

    stage.heal()
    await stage.all_committed()
    await service.ready()
    assert await stage.dead_letters() == []
    assert stage.stale(users) == {}
    await stage.assert_sentinels(service)
    await stop(service)


async def test_a4_while_every_write_fails_users_whose_contact_is_right_complete_and_the_others_wait(
    stage: Stage,
) -> None:
    right, wrong = stage.users(10, "email|right"), stage.users(10, "email|wrong")
    service = await stage.service(**ATTEMPTS)
    await in_step(stage, service, right)
    for method in ("PATCH", "POST"):
        stage.fail(api="mailmojo", method=method, status=503)
    await stage.send(*(event(user_id) for user_id in wrong))
    call = await names(service, "mailmojo", {"add_subscriber"})
    assert call["status"] == 503
    before = await service.metric("events_total", outcome="unchanged")
    await stage.send(*(event(user_id) for user_id in right))

    async def completed() -> bool:
        return await service.metric("events_total", outcome="unchanged") == before + len(right)

    await wait_until(completed, what="users whose contact is right complete")
    await asyncio.sleep(4)
    assert await stage.dead_letters() == []
    assert (await service.status())["waits"]["parked"] >= len(wrong) - 2
    stage.heal()
    await stage.all_committed()
    assert await stage.dead_letters() == []
    assert stage.stale([*right, *wrong]) == {}
    await service.ready()
    await stop(service)


async def test_a6_a_403_for_one_user_is_that_users_fault_and_costs_no_tokens(stage: Stage) -> None:
    users = stage.users(60)
    stage.fail(api="sesamy", operation="list_contracts", key=users[0], status=403)
    service = await stage.service(**ATTEMPTS)
    await stage.send(*(event(user_id) for user_id in users))
    await stage.all_committed()
    (letter,) = await stage.dead_letters()
    assert (letter.key, headers(letter)["dead-letter-reason"]) == (users[0].encode(), "exhausted")
    assert "list_contracts: HTTP 403" in headers(letter)["dead-letter-error"]
    assert stage.stale(users[1:]) == {}
    assert len([record for record in stage.log.records if record.api == "token"]) <= 2
    await service.ready()
    await stop(service)


async def test_a7_a_400_of_sesamy_is_no_refusal_and_an_unchanged_user_is_evidence_for_reads(stage: Stage) -> None:
    broken, right = stage.users(12, "email|broken"), stage.users(60, "email|right")
    service = await stage.service(**ATTEMPTS)
    await in_step(stage, service, right)
    for user_id in broken:
        stage.fail(api="sesamy", operation="list_entitlements", key=user_id, status=400)
    await stage.send(*(event(user_id) for user_id in [*broken, *right]))
    await stage.all_committed()
    letters = await stage.dead_letters()
    assert {letter.key.decode() for letter in letters if letter.key} == set(broken)
    assert {headers(letter)["dead-letter-reason"] for letter in letters} == {"exhausted"}
    assert await service.metric("events_total", outcome="unchanged") >= len(right)
    await service.ready()
    await stop(service)


async def test_a8_a_date_format_that_changes_for_everybody_is_waited_for_and_others_go_on(stage: Stage) -> None:
    contract = {"id": "c", "status": "ACTIVE", "isActive": True, "contractDuration": "RENEWABLE"}
    odd = stage.users(8, "email|odd", contracts=[contract | {"expiresAt": "01.02.2026"}])
    without = stage.users(8, "email|without", contracts=[])
    service = await stage.service(**ATTEMPTS)
    await stage.send(*(event(user_id) for user_id in odd))
    call = await names(service, "sesamy", {"list_contracts"})
    assert call["status"] == 200
    assert "contract.expiresAt" in call["reason"]
    await stage.send(*(event(user_id) for user_id in without))
    await wait_until(lambda: not stage.stale(without), what="users without such a value are synced")
    await asyncio.sleep(4)
    assert await stage.dead_letters() == []
    for user_id in odd:
        stage.world.change(user_id, contracts=[contract | {"expiresAt": "2026-02-01"}])
    await stage.all_committed()
    assert await stage.dead_letters() == []
    assert stage.stale(odd) == {}
    await service.ready()
    await stop(service)


async def test_a21_rejected_users_delay_nobody_and_are_given_up_once_another_write_is_accepted(stage: Stage) -> None:
    right, refused, (other,) = stage.users(60, "email|right"), stage.users(12, "email|no"), stage.users(1, "email|new")
    service = await stage.service()
    await in_step(stage, service, right)
    for number in range(12):
        stage.fail(api="mailmojo", operation="post_subscriber", key=f"no.{number:04}@example.no", status=422)
    before = await service.metric("events_total", outcome="unchanged")
    await stage.send(*(event(user_id, "sesamy-mailmojo#sync") for user_id in [*refused, *right]))

    async def completed() -> bool:
        return await service.metric("events_total", outcome="unchanged") == before + len(right)

    await wait_until(completed, what="the 60 complete")
    await asyncio.sleep(2)
    assert await stage.dead_letters() == []
    await stage.send(event(other))
    await stage.all_committed()
    letters = await stage.dead_letters()
    assert {letter.key.decode() for letter in letters if letter.key} == set(refused)
    assert {headers(letter)["dead-letter-reason"] for letter in letters} == {"rejected"}
    await service.ready()
    await stop(service)


async def freeze(service: ServiceProcess) -> None:
    """Stop the process for longer than a request may take, and let it go on."""
    await asyncio.sleep(1)
    os.kill(service.pid, signal.SIGSTOP)
    await asyncio.sleep(12)
    os.kill(service.pid, signal.SIGCONT)


async def test_a15_a_lack_of_descriptors_is_nobodys_attempt(stage: Stage) -> None:
    users = stage.users(300)
    stage.sandbox.faults.set(Plan(latency=0.05, jitter=0.05))
    service = stage.start(SYNC_MAX_ATTEMPTS="1", KAFKA_SESSION_TIMEOUT="60")
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (56, 56))  # for all connections, of which some fit
    await service.ready()
    await stage.send(*(event(user_id) for user_id in users))
    await stage.all_committed()
    assert await service.logged("sync.failed")  # there was trouble
    assert await stage.dead_letters() == []
    assert stage.stale(users) == {}
    await stop(service)


async def test_a15_a_freeze_of_this_process_is_nobodys_attempt(stage: Stage) -> None:
    users = stage.users(60)
    stage.sandbox.faults.add(Rule(delay=1.0))
    service = await stage.service(SYNC_MAX_ATTEMPTS="1", KAFKA_SESSION_TIMEOUT="60")
    await stage.send(*(event(user_id) for user_id in users))
    await freeze(service)
    await stage.all_committed()
    assert await service.logged("sync.failed")  # there was trouble
    assert await stage.dead_letters() == []
    assert stage.stale(users) == {}
    await stop(service)
