"""The steps of a sync over fake clients: what is read, what is written, in which order, and who hears of it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from msgspec import structs

from consumer.clients.errors import ApiError, LocalFault, Rejected, Throttled, Unavailable
from consumer.mapping.instants import UnreadableState
from consumer.mapping.state import UserState
from consumer.ops.metrics import Metrics
from consumer.service import rules_of
from consumer.settings import Settings
from consumer.stream.flight import Flight, UserQueue
from consumer.stream.pending import Waiting
from consumer.sync.attempt import Attempt
from consumer.sync.controls import Controls
from consumer.sync.evidence import CallDown, Evidence, Fault
from consumer.sync.flight import LeaseLost, WriteAudit
from consumer.sync.outcome import Outcome
from consumer.sync.syncer import Syncer
from schemas.sesamy import Contract, Profile
from tests.unit.stream.in_virtual_time import in_virtual_time
from tests.unit.sync.fake_clients import Apis, FakeFields, FakeMailmojo, FakeSesamy, FakeTurn

MAIL = "kari@example.no"


class Lease:
    generation = 1
    fresh = True

    def may_work(self, generation: int) -> bool:
        return self.fresh and generation == self.generation


class Bench:
    """A syncer over fake clients, with one user, Kari, who has no contact yet."""

    def __init__(self, *, dry_run: bool = False, traced: bool = False) -> None:
        self.apis, self.fields, self.lease, self.metrics = Apis(), FakeFields(), Lease(), Metrics()
        self.apis.user("kari", email=" Kari@Example.NO ", firstName="Kari")
        self.apis.contacts["other@example.no"] = {"email": "other@example.no", "tags": [], "custom": {}}
        self.audits: list[WriteAudit] = []
        self.steps: list[str] = []
        self.queues: dict[str, UserQueue] = {}
        self.flights: list[Flight] = []
        sesamy, mailmojo = cast("Any", FakeSesamy(self.apis)), cast("Any", FakeMailmojo(self.apis))
        self.evidence = Evidence(self.metrics, clock=asyncio.get_running_loop().time)
        self.controls = Controls(sesamy, mailmojo, self.evidence)
        self.syncer = Syncer(
            sesamy,
            mailmojo,
            cast("Any", self.fields),
            structs.replace(rules_of(Settings()), list_id="1"),
            self.metrics,
            controls=self.controls,
            dry_run=dry_run,
            step=self.step if traced else None,
        )

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.steps.append(name)
        yield

    def event(self, user_id: str, offset: int) -> None:
        queue = self.queues.setdefault(user_id, UserQueue(user_id))
        queue.waiting.append(Waiting(0, offset, "contract.1#update", 0.0, 0.0, is_request=False))

    def attempt(self, user_id: str) -> Attempt:
        queue = self.queues.setdefault(user_id, UserQueue(user_id))
        flight = Flight(queue, self.lease, coalesce=True, wrote=lambda _flight, audit: self.audits.append(audit))
        self.flights.append(flight)
        return Attempt(user_id, flight, self.evidence, self.controls)

    async def sync(self, user_id: str = "kari") -> Outcome:
        return await self.syncer.sync(user_id, self.attempt(user_id))

    async def fault(self, user_id: str = "kari") -> Fault:
        """Have a sync fail, and return whose fault that is."""
        attempt = self.attempt(user_id)
        try:
            outcome = await self.syncer.sync(user_id, attempt)
        except (ApiError, UnreadableState) as error:
            return attempt.failed(error)
        finally:
            attempt.close()
        pytest.fail(f"it ended with {outcome}")

    def metric(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(f"sesamy_mailmojo_{name}") or 0


@in_virtual_time
async def test_a_contact_is_created_and_a_second_sync_finds_it_as_it_should_be() -> None:
    bench = Bench()
    assert await bench.sync() is Outcome.CREATED
    assert bench.apis.contacts[MAIL]["custom"]["Sesamy User ID"] == "kari"
    assert await bench.sync() is Outcome.UNCHANGED
    assert [audit.action for audit in bench.audits] == ["create"]
    assert bench.apis.count("add_subscriber") == 1
    assert bench.apis.count("patch_contact") == 0


@in_virtual_time
async def test_a_known_contact_that_joins_the_list_is_read_again_and_patched() -> None:
    bench = Bench()
    bench.apis.contacts[MAIL] = {"email": MAIL, "tags": ["vip"], "custom": {"Theirs": 1}, "list_associations": []}
    bench.apis.on["add_subscriber"] = lambda _: bench.apis.contacts[MAIL].update(tags=["sesamy_old", "vip"])
    assert await bench.sync() is Outcome.UPDATED
    assert [audit.action for audit in bench.audits] == ["subscribe", "patch"]
    assert bench.apis.contacts[MAIL]["tags"] == ["vip"]
    assert bench.apis.contacts[MAIL]["custom"]["Theirs"] == 1


@in_virtual_time
async def test_users_who_need_no_contact_cost_one_call_or_none() -> None:
    bench = Bench()
    bench.apis.user("guest by profile", isGuest=True)
    bench.apis.user("no address", email=None)
    assert await bench.sync("guest|1") is Outcome.SKIPPED_GUEST
    assert bench.apis.sent == []
    assert await bench.sync("guest by profile") is Outcome.SKIPPED_GUEST
    assert await bench.sync("no address") is Outcome.SKIPPED_NO_EMAIL
    assert bench.apis.operations() == ["get_user", "get_user"]


@in_virtual_time
async def test_an_unknown_user_is_skipped_while_another_user_is_found() -> None:
    bench = Bench()
    assert await bench.sync("nobody") is Outcome.SKIPPED_UNKNOWN_USER
    assert bench.apis.sent == [("get_user", "nobody"), ("list_users", ""), ("get_user", "kari")]
    bench.apis.users.clear()
    assert await bench.fault("nobody else") is Fault.CALL, "the control user is not found either"


@in_virtual_time
async def test_p3_an_event_that_arrives_during_the_read_is_left_to_the_next_sync() -> None:
    bench = Bench()
    bench.event("kari", 1)
    bench.apis.on["get_user"] = lambda _: bench.event("kari", 2)
    assert await bench.sync() is Outcome.CREATED
    assert [event.offset for event in bench.flights[0].events] == [1]
    assert [event.offset for event in bench.queues["kari"].waiting] == [2]


@in_virtual_time
async def test_p2_two_users_with_one_address_do_not_write_its_contact_at_once() -> None:
    bench = Bench()
    bench.apis.user("ola", email=MAIL)
    bench.apis.takes = {"get_contact": 1.0, "add_subscriber": 1.0, "patch_contact": 1.0}
    async with asyncio.TaskGroup() as tasks:
        first, second = tasks.create_task(bench.sync("kari")), tasks.create_task(bench.sync("ola"))
    assert [first.result(), second.result()] == [Outcome.CREATED, Outcome.UPDATED]
    assert bench.apis.operations(of=MAIL) == ["get_contact", "add_subscriber", "get_contact", "patch_contact"]
    assert bench.apis.contacts[MAIL]["custom"]["Sesamy User ID"] == "ola"
    assert bench.metric("contact_conflicts_total") == 1


@in_virtual_time
async def test_without_the_lease_the_contact_is_read_and_not_written() -> None:
    bench = Bench()
    bench.lease.fresh = False
    with pytest.raises(LeaseLost):
        await bench.sync()
    assert bench.apis.operations(of=MAIL) == ["get_contact"]
    assert MAIL not in bench.apis.contacts
    assert bench.audits == []


@in_virtual_time
async def test_a_contact_that_changed_while_the_api_asked_to_wait_is_planned_anew() -> None:
    bench = Bench()
    bench.apis.permit_waits = [0, 60.0]
    asyncio.get_running_loop().call_later(
        30, bench.apis.contacts.__setitem__, MAIL, {"email": MAIL, "tags": ["vip"], "custom": {}, "status": "u"}
    )
    assert await bench.sync() is Outcome.UPDATED
    assert bench.apis.operations(of=MAIL) == ["get_contact", "get_contact", "patch_contact"]
    assert bench.apis.contacts[MAIL]["tags"] == ["vip"]


@in_virtual_time
async def test_a_contact_that_became_right_while_the_api_asked_to_wait_is_not_written() -> None:
    bench = Bench()
    await bench.sync()
    right = dict(bench.apis.contacts[MAIL])
    bench.apis.contacts[MAIL] = {**right, "custom": {}}
    bench.apis.permit_waits = [0, 60.0]
    asyncio.get_running_loop().call_later(30, bench.apis.contacts.__setitem__, MAIL, right)
    assert await bench.sync() is Outcome.UNCHANGED
    assert bench.apis.count("patch_contact") == 0


@in_virtual_time
async def test_a_field_that_mailmojo_does_not_store_is_noticed_in_the_echo() -> None:
    bench = Bench()
    bench.apis.drops = {"Sesamy User ID"}
    await bench.sync()
    assert bench.metric("echo_mismatches_total") == 1


@in_virtual_time
async def test_a_dry_run_reads_and_tells_and_writes_nothing() -> None:
    bench = Bench(dry_run=True)
    bench.fields.settled = False
    bench.apis.contacts[MAIL] = {"email": MAIL, "tags": [], "custom": {}, "list_associations": []}
    assert await bench.sync() is Outcome.UPDATED
    assert set(bench.apis.operations()) == {"get_user", "list_contracts", "get_contact"}
    assert bench.audits == []
    assert bench.fields.ensured == 0


@in_virtual_time
async def test_the_accounts_fields_are_seen_to_before_the_first_write() -> None:
    bench = Bench()
    bench.fields.settled = False
    await bench.sync()
    await bench.sync()
    assert bench.fields.ensured == 1


@in_virtual_time
async def test_fields_that_cannot_be_seen_to_hold_back_only_users_whose_contact_differs() -> None:
    bench = Bench()
    await bench.sync()
    bench.fields.settled, bench.fields.fails = False, Unavailable("mailmojo", "list_fields", 503)
    assert await bench.sync() is Outcome.UNCHANGED
    bench.apis.contacts[MAIL]["custom"] = {}
    with pytest.raises(Unavailable, match="list_fields"):
        await bench.sync()
    assert bench.apis.count("patch_contact") == 0


@in_virtual_time
async def test_no_user_is_read_in_full_while_no_contact_can_be_read() -> None:
    bench = Bench()
    for user_id in ("one", "two"):
        bench.apis.user(user_id)
    bench.apis.fails["get_contact"] = Unavailable("mailmojo", "get_contact", 503)
    faults = [await bench.fault(user_id) for user_id in ("one", "two")]
    assert faults[-1] is Fault.CALL
    bench.apis.sent.clear()
    with pytest.raises(CallDown):
        await bench.sync("one")
    assert bench.apis.operations() == ["get_user"]


@in_virtual_time
async def test_a_read_that_fails_is_compared_with_another_user_in_the_same_turn() -> None:
    bench = Bench()
    await bench.sync()
    bench.apis.user("odd")
    rest = FakeSesamy.rest

    async def odd_rest(self: FakeSesamy, turn: FakeTurn, user_id: str, profile: Profile) -> UserState:
        state = await rest(self, turn, user_id, profile)
        if user_id == "odd":
            contract = Contract(id="1", status="ACTIVE", contract_duration="RECURRING", expires_at="garbage")
            return UserState(user_id=user_id, profile=profile, contracts=(contract,))
        return state

    bench.syncer._sesamy.rest = odd_rest.__get__(bench.syncer._sesamy)  # type: ignore[method-assign]
    bench.apis.sent.clear()
    assert await bench.fault("odd") is Fault.UNKNOWN, "nobody else has such a value"
    assert ("list_contracts", "kari") in bench.apis.sent
    error = Unavailable("sesamy", "list_contracts", 500)
    bench.apis.on["list_contracts"] = lambda whom: bench.apis.fails.clear() if whom == "odd" else None
    bench.apis.sent.clear()
    bench.apis.fails["list_contracts"] = error
    attempt = bench.attempt("odd")
    turn = cast("Any", FakeTurn(bench.apis, "sesamy", attempt))
    bench.apis.fails.clear()
    await attempt.compare(turn, error)
    assert bench.apis.operations() == ["list_contracts"]
    assert attempt.failed(error) is Fault.USER
    await attempt.compare(turn, error)
    assert bench.apis.operations() == ["list_contracts"], "what refutes it is known"


@pytest.mark.parametrize(
    "error",
    [Throttled("sesamy", "get_user", 429), LocalFault("sesamy", "get_user", None, "no file descriptor")],
)
def test_what_never_counts_is_compared_with_nobody_and_is_nobodys_fault(error: ApiError) -> None:
    @in_virtual_time
    async def test() -> None:
        bench = Bench()
        await bench.sync()
        bench.apis.sent.clear()
        bench.apis.fails["get_user"] = error
        assert await bench.fault() is Fault.UNKNOWN
        assert bench.apis.operations() == ["get_user"]

    test()


@in_virtual_time
async def test_while_a_call_is_down_nobody_is_compared_with_anybody() -> None:
    bench = Bench()
    for user_id in ("one", "three"):
        bench.apis.user(user_id)
    bench.apis.fails["get_user"] = error = Unavailable("sesamy", "get_user", 503)
    assert await bench.fault("one") is Fault.CALL, "a control user fails as well"
    bench.apis.sent.clear()
    attempt = bench.attempt("three")
    await attempt.compare(cast("Any", FakeTurn(bench.apis, "sesamy", attempt)), error)
    assert bench.apis.sent == []
    with pytest.raises(CallDown):
        await bench.sync("three")
    assert bench.apis.sent == []


@in_virtual_time
async def test_a_contact_that_cannot_be_read_is_compared_with_another_contact() -> None:
    bench = Bench()
    bench.apis.user("one")
    await bench.sync("one")
    failing = {MAIL}

    async def get_contact(self: FakeMailmojo, turn: FakeTurn, email: str) -> Any:
        if email in failing:
            bench.apis.sent.append(("get_contact", email))
            raise Unavailable("mailmojo", "get_contact", 500)
        return await original(self, turn, email)

    original = FakeMailmojo.get_contact
    mailmojo = bench.syncer._mailmojo
    mailmojo.get_contact = get_contact.__get__(mailmojo)  # type: ignore[method-assign]
    bench.apis.sent.clear()
    assert await bench.fault() is Fault.USER
    asked = [address for operation, address in bench.apis.sent if operation == "get_contact"]
    assert (asked[0], len(asked)) == (MAIL, 2)
    assert asked[1] in bench.apis.contacts


@in_virtual_time
async def test_a_refused_write_is_proved_by_an_accepted_one() -> None:
    bench = Bench()
    bench.apis.user("one")
    bench.apis.fails["add_subscriber"] = Rejected("mailmojo", "add_subscriber", 400)
    assert await bench.fault() is Fault.UNKNOWN
    bench.apis.fails.clear()
    await bench.sync("one")
    bench.apis.fails["add_subscriber"] = Rejected("mailmojo", "add_subscriber", 400)
    assert await bench.fault() is Fault.USER


@in_virtual_time
async def test_p10_a_contact_is_not_created_while_mailmojo_finds_none_of_those_it_lists() -> None:
    bench = Bench()
    contacts = dict(bench.apis.contacts)
    mailmojo = bench.syncer._mailmojo

    async def hidden(turn: FakeTurn, email: str) -> None:
        await turn.request("get_contact", email, lambda: b"null")

    mailmojo.get_contact = hidden  # type: ignore[method-assign,assignment]
    assert await bench.fault() is not Fault.USER
    assert bench.apis.contacts == contacts


@in_virtual_time
async def test_each_step_is_enclosed_where_somebody_traces() -> None:
    bench = Bench(traced=True)
    await bench.sync()
    assert bench.steps == ["read", "plan", "write"]


@in_virtual_time
async def test_a_preview_tells_what_a_sync_would_do_and_writes_nothing() -> None:
    bench = Bench()
    preview = await bench.syncer.preview("kari")
    assert (preview.outcome, preview.plan and preview.plan.action) == (Outcome.CREATED, "create")
    assert (await bench.syncer.preview("guest|1")).outcome is Outcome.SKIPPED_GUEST
    await bench.sync()
    assert (await bench.syncer.preview("kari")).outcome is Outcome.UNCHANGED
    bench.apis.contacts[MAIL]["custom"] = {}
    assert (await bench.syncer.preview("kari")).outcome is Outcome.UPDATED
    assert bench.apis.count("add_subscriber") == 1


@in_virtual_time
async def test_each_request_that_was_answered_is_evidence() -> None:
    bench = Bench()
    await bench.sync()
    for call in (
        ("sesamy", "get_user"),
        ("sesamy", "list_contracts"),
        ("mailmojo", "get_contact"),
        ("mailmojo", "add_subscriber"),
    ):
        assert "kari" in [success.user_id for success in bench.evidence.state(call).recent()]
