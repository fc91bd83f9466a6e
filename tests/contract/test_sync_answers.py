"""A sync makes the contact right whatever the answer to each unknown of the references (`Answers`)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest

from consumer.clients.build import open_clients
from consumer.clients.errors import ApiError, Unavailable
from consumer.clients.http import ConnectionClient, HttpClient, SessionClient
from consumer.ops.metrics import Metrics
from consumer.sandbox import Answers, Contact, Options, Plan, Record, Rule, Sandbox, User
from consumer.sandbox.contacts import SESAMY_FIELDS
from consumer.sandbox.world import LIST_ID
from consumer.service import rules_of
from consumer.settings import load
from consumer.sync.flight import LoneFlight
from consumer.sync.outcome import Outcome
from consumer.sync.syncer import Syncer
from schemas.verbatim import members
from tests.contract.every_answer import EVERY, HIGH
from tests.http_clients import MISSING
from tests.integration.oracle import View, address, expected, is_skipped

USERS = 51  # each kind of user three times, each kind of contact four times
MANY = 130  # more than a page


def many_of_everything() -> dict[str, Any]:
    """Return a user whose lists take several pages, and whose last page decides."""
    contracts = [
        {
            "id": f"contract_{number:03}",
            "status": "EXPIRED" if number < MANY - 1 else "ACTIVE",
            "isActive": number == MANY - 1,
            "contractDuration": "RECURRING",
            "nextBillAt": "2026-03-01T00:00:00Z",
            "createdAt": "2024-01-01T00:00:00Z",
        }
        for number in range(MANY)
    ]
    transactions = [
        {"id": f"transaction_{row}", "isRefund": False, "createdAt": f"20{number:02}-05-05T23:30:00Z"}
        for row, number in enumerate([*range(10, 25), *[9] * MANY, 25])
    ]
    profile = {"email": "mange.kontrakter@example.no", "firstName": "Mange"}
    return {"profile": profile, "contracts": contracts, "transactions": transactions}


@asynccontextmanager
async def opened(answers: Answers) -> AsyncIterator[tuple[Sandbox, Syncer]]:
    async with Sandbox(Options(answers=answers)) as sandbox:
        sandbox.world.populate(USERS)
        sandbox.world.add_user("email|many", **many_of_everything())
        clear = {"MAILMOJO_CLEAR_VALUE": "empty" if answers.clear == "blank" else "null"}
        settings = load({**sandbox.environment, **HIGH, **clear})
        metrics = Metrics()
        async with open_clients(settings, metrics) as clients:
            clients.set_share(1.0)
            yield (
                sandbox,
                Syncer(clients.sesamy, clients.mailmojo, clients.account_fields, rules_of(settings), metrics),
            )


async def sync(syncer: Syncer, user_id: str) -> Outcome:
    """Sync as the service does: what is worth another try gets one."""
    for _ in range(5):
        try:
            return await syncer.sync(user_id, LoneFlight())
        except ApiError as error:
            if not error.retryable:
                raise
    raise AssertionError(f"{user_id} failed five times")


async def test_a_write_is_given_up_when_its_time_is_over_and_a_read_of_sesamy_has_its_own() -> None:
    """Promise P2: what a process that lost its partitions may still land is bounded by this."""
    async with Sandbox() as sandbox:
        sandbox.world.add_user("email|slow", profile={"email": "slow@example.no"}, contracts=[])
        sandbox.faults.add(Rule(api="sesamy", delay=0.3))
        sandbox.faults.add(Rule(api="mailmojo", operation="post_subscriber", delay=60, stage="before"))
        settings, metrics = load({**sandbox.environment, **HIGH}), Metrics()
        async with open_clients(settings, metrics, write_timeout=0.2) as clients:
            clients.set_share(1.0)
            syncer = Syncer(clients.sesamy, clients.mailmojo, clients.account_fields, rules_of(settings), metrics)
            with pytest.raises(Unavailable, match=r"add_subscriber: no answer: no answer within 0\.2 s"):
                await asyncio.wait_for(syncer.sync("email|slow", LoneFlight()), 30)


def is_hidden(contact: Contact | None, answers: Answers) -> bool:
    """Tell whether Mailmojo denies knowing this contact, so that nobody can know what it holds."""
    return contact is not None and contact.status == "d" and answers.deleted == "hidden"


def wrong_contacts(sandbox: Sandbox, before: dict[str, Contact | None]) -> dict[str, tuple[object, object]]:
    wrong: dict[str, tuple[object, object]] = {}
    for user in users(sandbox):
        old, new = before[user.id], sandbox.world.contact(address(user)) if address(user) else None
        if is_hidden(old, sandbox.options.answers):
            if new is None or new.status != "d":
                wrong[user.id] = (new, "still deleted")
        elif View.of(new) != (right := expected(user, old, LIST_ID)):
            wrong[user.id] = (View.of(new), right)
    return wrong


def users(sandbox: Sandbox) -> list[User]:
    return [user for user_id in sandbox.world.user_ids() if (user := sandbox.world.user(user_id))]


@pytest.mark.parametrize("answers", EVERY.values(), ids=EVERY.keys())
async def test_a_sync_is_right_under_every_answer_and_a_second_one_writes_nothing(answers: Answers) -> None:
    async with opened(answers) as (sandbox, syncer):
        before = {user.id: sandbox.world.contact(address(user)) if address(user) else None for user in users(sandbox)}
        await asyncio.gather(*(sync(syncer, user_id) for user_id in before))
        assert wrong_contacts(sandbox, before) == {}
        hidden = {address(user) for user in users(sandbox) if is_hidden(before[user.id], answers)}
        assert [record for record in sandbox.log.damaged() if record.address not in hidden] == []
        if answers.fields != "none":
            assert sandbox.world.fields.items() >= SESAMY_FIELDS.items()

        sandbox.sesamy.revoke_tokens()
        seen = sandbox.log.count
        again = {
            user.id: await sync(syncer, user.id)
            for user in users(sandbox)
            if not is_skipped(user) and not is_hidden(before[user.id], answers)
        }
        assert set(again.values()) == {Outcome.UNCHANGED}
        assert {record.method for record in sandbox.log.since(seen) if record.api != "token"} == {"GET"}
        assert list(sandbox.log.violations) == []
        assert sandbox.log.overlapping_writes() == []


@pytest.mark.parametrize(
    ("mailmojo", "sesamy"),
    [("seconds", "body"), ("date", "seconds"), ("body", "date"), ("headers", "body"), ("silent", "body")],
)
async def test_a_pause_is_kept_in_whatever_way_an_api_asks_for_it(mailmojo: str, sesamy: str) -> None:
    async with opened(Answers.of([f"throttle={mailmojo}", f"sesamy_throttle={sesamy}"])) as (sandbox, syncer):
        sandbox.world.add_user("email|kari", profile={"email": "kari@example.no"})
        sandbox.faults.set(Plan(rules=tuple(Rule(api=api, status=429, times=1) for api in ("sesamy", "mailmojo"))))
        assert await sync(syncer, "email|kari") is Outcome.CREATED
        assert pause_kept(sandbox.log.requests("sesamy")) >= 0.95
        if mailmojo != "silent":
            assert pause_kept(sandbox.log.requests("mailmojo")) >= 0.95


def pause_kept(requests: list[Record]) -> float:
    """Return the seconds from the one 429 to the next request."""
    (refused,) = [number for number, record in enumerate(requests) if record.status == 429]
    return requests[refused + 1].start - requests[refused].end


@pytest.mark.parametrize("refusal", ["400", "409", "422"])
@pytest.mark.parametrize("errors", Answers.choices()["errors"])
async def test_a_refusal_is_told_apart_from_a_failure_and_says_what_mailmojo_said(refusal: str, errors: str) -> None:
    async with opened(Answers.of([f"refusal={refusal}", f"errors={errors}"])) as (sandbox, syncer):
        sandbox.world.add_user("email|odd", profile={"email": "no-address-at-all"})
        with pytest.raises(ApiError, match="not a valid address") as raised:
            await syncer.sync("email|odd", LoneFlight())
        assert not raised.value.retryable


def damaged(**body: Any) -> str:
    return json.dumps(body)


BROKEN_LISTS = {
    "null": damaged(data=None, error={"code": "internal"}),
    "ends-early": damaged(data=[], meta={"total": 3, "offset": 0}),
    "null-item": "[null]",
    "html": "<html>maintenance</html>",
    "cut": '{"data": [',
    "nothing": "",
    "json-null": "null",
}


@pytest.mark.parametrize("operation", ["list_contracts", "list_entitlements", "list_transactions"])
@pytest.mark.parametrize("body", BROKEN_LISTS.values(), ids=BROKEN_LISTS)
async def test_a1_a_broken_list_leaves_the_contact_as_it_was(operation: str, body: str) -> None:
    async with opened(Answers()) as (sandbox, syncer):
        await sync(syncer, "email|many")
        before = sandbox.world.contact("mange.kontrakter@example.no")
        assert before is not None
        assert "sesamy_active_subscriber" in before.tags
        sandbox.world.change("email|many", profile={"tags": ["fresh"]})
        sandbox.faults.add(Rule(api="sesamy", operation=operation, body=body, times=1))
        with pytest.raises(Unavailable, match=f"sesamy {operation}: HTTP 200"):
            await syncer.sync("email|many", LoneFlight())
        assert sandbox.world.contact(before.email) == before
        assert await syncer.sync("email|many", LoneFlight()) is Outcome.UPDATED


async def test_a1_a_total_in_a_header_is_heeded() -> None:
    async with opened(Answers()) as (sandbox, syncer):
        sandbox.faults.add(Rule(api="sesamy", operation="list_contracts", headers={"X-Total-Count": "131"}))
        with pytest.raises(Unavailable, match="list_contracts"):
            await syncer.sync("email|many", LoneFlight())
        assert sandbox.log.writes() == []


UNREADABLE = ["", "null", "OK", "{}", "<html>thanks</html>", '{"email": "other@example.no"}', "[]", '{"email": "']


@pytest.mark.parametrize("body", UNREADABLE)
@pytest.mark.parametrize("operation", ["post_subscriber", "patch_contact"])
@pytest.mark.parametrize("stage", ["before", "after"])
async def test_a9_an_accepted_write_counts_only_if_the_contact_shows_it(
    operation: str, body: str, stage: Literal["before", "after"]
) -> None:
    async with opened(Answers()) as (sandbox, syncer):
        if operation == "patch_contact":
            await sync(syncer, "email|many")
            sandbox.world.change("email|many", profile={"tags": ["fresh"]})
        seen, flight = sandbox.log.count, LoneFlight()
        sandbox.faults.add(Rule(api="mailmojo", operation=operation, body=body, times=1, stage=stage))
        if stage == "after":  # the write took effect
            await syncer.sync("email|many", flight)
            assert len(flight.audits) == 1
        else:
            with pytest.raises(Unavailable, match="accepted with an unreadable answer, and not applied"):
                await syncer.sync("email|many", flight)
            assert flight.audits == []
        writes = [record for record in sandbox.log.since(seen) if record.write]
        assert [record.operation for record in writes] == [operation]
        assert await sync(syncer, "email|many") is not Outcome.CREATED or stage == "before"
        user = sandbox.world.user("email|many")
        assert user is not None
        assert View.of(sandbox.world.contact(address(user))) == expected(user, None, LIST_ID)


async def test_a8_text_that_is_a_number_or_a_boolean_is_one_and_what_is_neither_names_the_field() -> None:
    async with opened(Answers()) as (sandbox, syncer):
        contract = {"contractDuration": "RENEWABLE", "isActive": "true", "issuesRemaining": "12", "id": "c"}
        sandbox.world.add_user("email|text", profile={"email": "text@example.no"}, contracts=[contract])
        assert await syncer.sync("email|text", LoneFlight()) is Outcome.CREATED
        created = sandbox.world.contact("text@example.no")
        assert created is not None
        assert (created.custom["Issues Remaining"], created.custom["Has Active Subscription"]) == (12, True)
        sandbox.world.change("email|text", contracts=[contract | {"issuesRemaining": "twelve"}])
        with pytest.raises(Unavailable, match=r"list_contracts: HTTP 200: .*at `\$\.issuesRemaining`"):
            await syncer.sync("email|text", LoneFlight())
        assert sandbox.world.contact("text@example.no") == created


async def test_a11_a_user_whose_name_holds_half_an_emoji_is_synced_without_it() -> None:
    async with opened(Answers()) as (sandbox, syncer):
        sandbox.world.add_user("email|half", profile={"email": "half@example.no"})
        profile = (
            '{"userId": "email|half", "email": "half@example.no", "firstName": "Kari \\ud83d", "tags": ["\\ud83dx"]}'
        )
        sandbox.faults.add(Rule(api="sesamy", operation="get_user", body=profile))
        assert await syncer.sync("email|half", LoneFlight()) is Outcome.CREATED
        contact = sandbox.world.contact("half@example.no")
        assert contact is not None
        assert (contact.first_name, contact.tags) == ("Kari", ("sesamy_tag_x",))
        assert await syncer.sync("email|half", LoneFlight()) is Outcome.UNCHANGED


FOREIGN = (
    r'{"Own": 20251110120000123456, "Exact": 1.10, "Far": 1e400, "Half": "\ud83d", "K\udc00": [ -0.0, {"a":1,"a":2} ],'
    r' "Deep": ' + "[" * 3000 + "]" * 3000 + r', "Bl\u00e5": "\/", "Sesamy User ID": "email|odd"}'
)


async def test_a10_foreign_values_go_back_digit_for_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: list[bytes] = []
    contact = (
        r'{"email": "odd@example.no", "tags": ["half \ud83d", "bl\u00e5", "sesamy_old"], "status": "a", "custom": '
        + FOREIGN
        + "}"
    )
    client = ConnectionClient if MISSING is None else SessionClient
    send = client.request

    async def noted(self: HttpClient, method: str, target: str, headers: Any, body: Any, **options: Any) -> Any:
        if method == "PATCH":
            bodies.append(body)
        return await send(self, method, target, headers, body, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(client, "request", noted)
    async with opened(Answers()) as (sandbox, syncer):
        sandbox.world.add_user("email|odd", profile={"email": "odd@example.no"})
        sandbox.faults.add(Rule(api="mailmojo", operation="get_contact", body=contact))
        sandbox.faults.add(Rule(api="mailmojo", operation="patch_contact", body=contact))
        await syncer.sync("email|odd", LoneFlight())
    [body] = bodies
    sent = members(body.decode())
    theirs = members(FOREIGN)
    custom = members(bytes(sent["custom"]).decode())
    assert {name: bytes(custom[name]) for name in theirs} == {name: bytes(raw) for name, raw in theirs.items()}
    assert bytes(sent["tags"]).startswith(rb'["half \ud83d","bl\u00e5","sesamy_tag_')
