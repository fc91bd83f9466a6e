"""Control users are read through the same call, once for all who ask, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from consumer.clients.build import open_clients
from consumer.clients.errors import ApiError
from consumer.ops.metrics import Metrics
from consumer.sandbox import Rule, Sandbox
from consumer.service import rules_of
from consumer.settings import load
from consumer.sync.attempt import Attempt
from consumer.sync.controls import GET_CONTACT, GET_USER, Controls
from consumer.sync.evidence import CallDown, Evidence, Fault
from consumer.sync.flight import LoneFlight
from consumer.sync.outcome import Outcome
from consumer.sync.syncer import Syncer
from tests.contract.every_answer import HIGH


class Bench(NamedTuple):
    sandbox: Sandbox
    evidence: Evidence
    controls: Controls
    syncer: Syncer

    async def sync(self, user_id: str) -> Outcome | Fault | CallDown:
        """Sync as the worker does, and return how it ended or whose fault that is."""
        attempt = Attempt(user_id, LoneFlight(), self.evidence, self.controls)
        try:
            outcome = await self.syncer.sync(user_id, attempt)
        except CallDown as held:
            return held
        except ApiError as error:
            return attempt.failed(error)
        finally:
            attempt.close()
        attempt.completed()
        return outcome

    def asked(self, operation: str) -> list[str | None]:
        """Return the users of these requests."""
        return [record.user_id for record in self.sandbox.log.records if record.operation == operation]


@asynccontextmanager
async def opened(users: int) -> AsyncIterator[Bench]:
    async with Sandbox() as sandbox:
        for number in range(users):
            sandbox.world.add_user(f"email|{number}", profile={"email": f"user.{number}@example.no"}, contracts=[])
        settings, metrics = load({**sandbox.environment, **HIGH}), Metrics()
        async with open_clients(settings, metrics) as clients:
            clients.set_share(1.0)
            evidence = Evidence(metrics, clock=asyncio.get_running_loop().time)
            controls = Controls(clients.sesamy, clients.mailmojo, evidence)
            parts = (clients.sesamy, clients.mailmojo, clients.account_fields, rules_of(settings), metrics)
            yield Bench(sandbox, evidence, controls, Syncer(*parts, controls=controls))


async def test_a2_a_404_is_an_unknown_user_only_while_the_same_call_finds_another_one() -> None:
    async with opened(3) as bench:
        assert await bench.sync("email|nobody") is Outcome.SKIPPED_UNKNOWN_USER
        bench.sandbox.faults.add(Rule(api="sesamy", operation="get_user", status=404))
        assert await bench.sync("email|nobody") is Fault.CALL
        assert "SESAMY_API_URL" in bench.evidence.reasons()["sesamy"]


async def test_a2_without_any_user_to_compare_with_nobody_is_taken_for_unknown() -> None:
    async with opened(0) as bench:
        assert await bench.sync("email|nobody") is Fault.UNKNOWN
        assert bench.evidence.reasons() == {}


async def test_many_unknown_users_share_one_control_user() -> None:
    async with opened(3) as bench:
        unknown = [f"email|nobody-{number}" for number in range(30)]
        ends = await asyncio.gather(*map(bench.sync, unknown))
        assert set(ends) == {Outcome.SKIPPED_UNKNOWN_USER}
        assert len([user for user in bench.asked("get_user") if user not in unknown]) <= 3
        assert len(bench.asked("list_users")) == 1


async def test_a_user_for_whom_the_call_succeeded_is_a_control_user_without_a_list() -> None:
    async with opened(3) as bench:
        bench.sandbox.faults.add(Rule(api="sesamy", operation="list_users", status=403))
        assert await bench.sync("email|1") is Outcome.CREATED
        assert await bench.sync("email|nobody") is Outcome.SKIPPED_UNKNOWN_USER
        assert bench.asked("get_user") == ["email|1", "email|nobody", "email|1"]


async def test_a_control_user_who_is_gone_is_replaced() -> None:
    async with opened(3) as bench:
        assert await bench.sync("email|nobody") is Outcome.SKIPPED_UNKNOWN_USER
        for gone in {user for user in bench.asked("get_user") if user != "email|nobody"}:
            bench.sandbox.world.remove_user(gone or "")
        assert await bench.sync("email|nobody") is Outcome.SKIPPED_UNKNOWN_USER


@pytest.mark.parametrize("operation", ["get_user", "list_contracts", "list_entitlements"])
async def test_a6_a_read_that_fails_for_one_user_is_made_for_another_one_and_counts(operation: str) -> None:
    async with opened(3) as bench:
        bench.sandbox.faults.add(Rule(api="sesamy", operation=operation, key="email|1", status=403))
        assert await bench.sync("email|1") is Fault.USER
        assert bench.evidence.reasons() == {}


@pytest.mark.parametrize("operation", ["get_user", "list_contracts", "list_entitlements"])
async def test_a5_a_read_that_fails_for_a_control_user_too_is_down_and_is_not_made_again(operation: str) -> None:
    async with opened(3) as bench:
        bench.sandbox.faults.add(Rule(api="sesamy", operation=operation, status=503))
        assert await bench.sync("email|1") is Fault.CALL
        seen = len(bench.asked(operation))
        assert isinstance(await bench.sync("email|2"), CallDown)
        assert len(bench.asked(operation)) == seen
        bench.sandbox.faults.clear()
        await bench.controls.try_again(("sesamy", operation))
        assert await bench.sync("email|2") is Outcome.CREATED


async def test_a_contact_that_was_written_is_the_control_of_contacts() -> None:
    async with opened(3) as bench:
        bench.sandbox.faults.add(Rule(api="mailmojo", operation="get_contact", key="user.1@example.no", status=500))
        assert await bench.sync("email|1") is Fault.UNKNOWN
        assert await bench.sync("email|2") is Outcome.CREATED
        assert await bench.sync("email|1") is Fault.USER


async def test_a2_who_is_not_found_by_a_call_that_comes_back_meanwhile_is_looked_for_again() -> None:
    async with opened(3) as bench:
        bench.sandbox.faults.add(Rule(api="sesamy", operation="get_user", status=404))
        assert await bench.sync("email|1") is Fault.CALL
        bench.sandbox.faults.clear()
        bench.sandbox.faults.add(Rule(api="sesamy", operation="get_user", status=404, times=1))
        bench.evidence.park("email|1", GET_USER)
        bench.evidence.state(GET_USER).next_trial()
        assert await bench.sync("email|1") is Outcome.CREATED


async def test_a2_a_contact_that_is_not_found_by_a_call_that_comes_back_meanwhile_is_looked_for_again() -> None:
    async with opened(3) as bench:
        for number in range(3):
            bench.sandbox.world.add_contact(f"user.{number}@example.no", tags=["vip"])
        bench.sandbox.faults.add(Rule(api="mailmojo", operation="get_contact", status=404))
        assert await bench.sync("email|1") is Fault.CALL
        bench.sandbox.faults.clear()
        bench.sandbox.faults.add(Rule(api="mailmojo", operation="get_contact", status=404, times=1))
        bench.evidence.park("email|1", GET_CONTACT)
        bench.evidence.state(GET_CONTACT).next_trial()
        assert await bench.sync("email|1") is Outcome.UPDATED


@pytest.mark.parametrize("answer", [{}, {"body": "<html>not here</html>", "content_type": "text/html"}])
async def test_a2_a_404_is_an_unknown_contact_only_while_the_same_call_finds_a_listed_one(
    answer: dict[str, str],
) -> None:
    async with opened(3) as bench:
        for number in (1, 2):
            bench.sandbox.world.add_contact(f"user.{number}@example.no", tags=["vip"])
        bench.sandbox.faults.add(Rule(api="mailmojo", operation="get_contact", status=404, **answer))  # type: ignore[arg-type]
        assert await bench.sync("email|1") is Fault.CALL
        assert isinstance(await bench.sync("email|2"), CallDown)
        assert bench.asked("post_subscriber") == []
        reason = bench.evidence.reasons()["mailmojo"]
        assert "get_contact: HTTP 404: contacts that Mailmojo lists are not found" in reason
        bench.sandbox.faults.clear()
        bench.evidence.park("email|1", GET_CONTACT)
        bench.evidence.state(GET_CONTACT).next_trial()
        assert await bench.sync("email|1") is Outcome.UPDATED
        assert await bench.sync("email|0") is Outcome.CREATED
        contact = bench.sandbox.world.contact("user.1@example.no")
        assert contact is not None
        assert "vip" in contact.tags


async def test_a_new_contact_costs_one_more_read_where_others_are_known() -> None:
    async with opened(3) as bench:
        for number in range(3):
            assert await bench.sync(f"email|{number}") is Outcome.CREATED
        assert len(bench.asked("list_subscribers")) == 1  # of an account without contacts, before the first is made
        assert len(bench.asked("get_contact")) == 3 + 2


async def test_a_list_call_that_is_down_ends_a_sync_in_whichever_task_it_was_asked() -> None:
    async with opened(4) as bench:
        bench.sandbox.faults.add(Rule(api="sesamy", operation="list_entitlements", status=503))
        assert await bench.sync("email|1") is Fault.CALL
        held = await bench.sync("email|2")
        assert isinstance(held, CallDown)
        assert held.call == ("sesamy", "list_entitlements")
