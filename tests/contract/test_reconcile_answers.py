"""What is cleared is right, and what is not is untouched, whatever the answer to each unknown of the references."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from consumer.clients.build import Clients, open_clients
from consumer.clients.errors import ApiError, Rejected, Unauthorized, Unavailable
from consumer.failure import Failure
from consumer.ops.metrics import Metrics
from consumer.reconcile.clearing import Cleared, Clearing
from consumer.reconcile.search import Search
from consumer.sandbox import Answers, Contact, Options, Rule, Sandbox
from consumer.sandbox.contacts import SESAMY_FIELDS
from consumer.service import rules_of
from consumer.settings import Settings, load
from tests.contract.every_answer import EVERY, HIGH

FOREIGN = {"Shoe size": 41, "City": "Bergen"}
OURS: dict[str, Any] = {"Has Active Subscription": True, "Active Subscriptions": 1, "Will Cancel At": "2026-02-03"}
TAGS = ("vip", "sesamy_active_subscriber", "from-fair", "sesamy_made_single_purchase")
EVERYBODY = 137
"""More than a page of an API that gives a hundred at a time."""


class Cast:
    """Contacts of users, and what became of those users since."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.world = sandbox.world
        self.world.fields |= SESAMY_FIELDS | {"Shoe size": "number", "City": "text"}
        self.wrong: set[str] = set()
        self._add("moved.away", status="u")
        for number in range(EVERYBODY):
            self._add(f"Reader.{number:03}")
        for number in (3, 50, 99, 100, 120, 136):
            self._leave(f"Reader.{number:03}")
        for number in (7, 135):
            self._change(f"Reader.{number:03}", email=f"elsewhere.{number}@example.no")
        self._change("moved.away", email="elsewhere@example.no")
        self._change("Reader.008", email="")
        self.wrong |= {"reader.007@example.no", "reader.135@example.no", "reader.008@example.no"}
        self.wrong.add("moved.away@example.no")
        # Right, however odd: the address in another case, a user who counts as a guest, an id with a space behind it.
        self._change("Reader.009", email=" READER.009@example.no ")
        self._change("Reader.010", isGuest=True)
        spaced = OURS | FOREIGN | {"Sesamy User ID": "email|Reader.011 "}
        self.world.edit_contact("reader.011@example.no", custom=spaced)
        # Not ours, whatever else they hold.
        self.world.add_contact("tool@example.no", tags=TAGS, custom=FOREIGN)
        self.world.add_contact("dots@example.no", tags=TAGS, custom=OURS | {"Sesamy User ID": ".."})
        self.world.add_contact("left@example.no", tags=["vip"], custom=FOREIGN, status="u")
        self.before = self.contacts()

    def contacts(self) -> dict[str, Contact]:
        return {contact.email.lower(): contact for contact in self.world.contacts()}

    def changed(self) -> set[str]:
        return {address for address, contact in self.contacts().items() if contact != self.before[address]}

    def right(self, address: str) -> Contact:
        """Return the contact as it must be once it is cleared."""
        before = self.before[address]
        return replace(before, tags=("vip", "from-fair"), custom=FOREIGN, version=before.version + 1)

    def _add(self, name: str, status: Any = "a") -> None:
        self.world.add_user(f"email|{name}", profile={"email": f"{name}@example.no"})
        custom = OURS | FOREIGN | {"Sesamy User ID": f"email|{name}"}
        self.world.add_contact(f"{name}@example.no", phone="1", tags=TAGS, custom=custom, status=status)

    def _leave(self, name: str) -> None:
        self.world.remove_user(f"email|{name}")
        self.wrong.add(f"{name.lower()}@example.no")

    def _change(self, name: str, **profile: Any) -> None:
        self.world.change(f"email|{name}", profile=profile)


class Run:
    """A search, and what it finds cleared."""

    def __init__(self, sandbox: Sandbox, clients: Clients, settings: Settings) -> None:
        self.sandbox, self.cast = sandbox, Cast(sandbox)
        self._clients, self._settings = clients, settings
        self.cleared: list[str] = []
        self.unanswered: dict[str, str] = {}

    async def search(self, addresses: list[str] | None = None) -> Search:
        search = Search(self._clients.sesamy, self._clients.mailmojo, self._settings.sync, addresses=addresses)
        await search.run()
        return search

    async def clear(self, search: Search, *, dry_run: bool = False) -> Clearing:
        clearing = Clearing(
            self._clients.sesamy,
            self._clients.mailmojo,
            rules_of(self._settings),
            self._settings.sync,
            self._told,
            known=search.found.known,
            dry_run=dry_run,
        )
        await clearing.run(search.found.suspects)
        return clearing

    def _told(self, cleared: Cleared) -> None:
        if cleared.unanswered is None:
            self.cleared.append(cleared.suspect.address)
        else:
            self.unanswered[cleared.suspect.address] = cleared.unanswered


@asynccontextmanager
async def run_under(answers: Answers) -> AsyncIterator[Run]:
    async with Sandbox(Options(answers=answers)) as sandbox:
        clear = {"MAILMOJO_CLEAR_VALUE": "empty" if answers.clear == "blank" else "null"}
        quick = {"SYNC_RETRY_BASE": "0.01", "SYNC_RETRY_CAP": "0.01"}
        settings = load({**sandbox.environment, **HIGH, **clear, **quick})
        async with open_clients(settings, Metrics()) as clients:
            clients.set_share(1.0)
            yield Run(sandbox, clients, settings)


@pytest.mark.parametrize("answers", EVERY.values(), ids=EVERY.keys())
async def test_what_is_cleared_is_right_and_nothing_else_changes_and_again_there_is_nothing(answers: Answers) -> None:
    async with run_under(answers) as run:
        cast = run.cast
        search = await run.search()
        short = answers.contacts_cap == "100" and answers.contacts_offset != "taken"
        unseen = {"moved.away@example.no"} if answers.unsubscribed == "404" else set()
        if short:
            unseen |= {f"reader.{number}@example.no" for number in (100, 120, 135, 136)}
        assert len(search.found.cut) == short + (answers.unsubscribed == "404")
        assert {suspect.address for suspect in search.found.suspects} == cast.wrong - unseen

        clearing = await run.clear(search)
        assert (clearing.failed, clearing.tally.differing) == ([], 0)
        assert clearing.tally.cleared == len(cast.wrong - unseen)
        assert cast.changed() == cast.wrong - unseen

        named = await run.search(addresses=list(cast.before))
        assert {suspect.address for suspect in named.found.suspects} == unseen
        await run.clear(named)
        assert sorted(run.cleared) == sorted(cast.wrong) == sorted(cast.changed())
        assert [address for address in cast.wrong if cast.contacts()[address] != cast.right(address)] == []

        seen = run.sandbox.log.count
        assert (await run.search()).found.suspects == []
        assert {record.method for record in run.sandbox.log.since(seen) if record.api == "mailmojo"} == {"GET"}
        assert list(run.sandbox.log.violations) == []
        assert run.sandbox.log.damaged() == []
        assert run.sandbox.log.overlapping_writes() == []


async def test_no_call_is_made_for_a_contact_that_is_fine() -> None:
    async with run_under(Answers()) as run:
        search = await run.search()
        assert [record.operation for record in run.sandbox.log.records] == [
            *("get_list", "token", "list_users", "list_users", "list_subscribers", "list_subscribers"),
            *("list_unsubscribed", "list_unsubscribed", "get_user"),
        ]
        seen = run.sandbox.log.count
        await run.clear(search)
        operations = [record.operation for record in run.sandbox.log.since(seen)]
        moved = ["get_user", "get_contact", "patch_contact"]
        gone = ["get_user", *moved]  # a user who is not found is compared with one who is
        assert sorted(operations) == sorted([*gone * 6, *moved * (len(run.cast.wrong) - 6)])


async def test_a_list_that_shows_addresses_alone_costs_a_read_of_each_contact() -> None:
    async with run_under(Answers(listed="address")) as run:
        await run.search()
        assert len(run.sandbox.log.requests("mailmojo", "get_contact")) == len(run.cast.before)


async def test_a_dry_run_reads_and_writes_nothing() -> None:
    async with run_under(Answers()) as run:
        clearing = await run.clear(await run.search(), dry_run=True)
        assert clearing.tally.cleared == len(run.cast.wrong) == len(run.cleared)
        assert (clearing.tally.gone, clearing.tally.moved) == (6, 4)
        assert run.sandbox.log.writes() == []


async def test_what_changed_since_the_search_is_left_alone() -> None:
    async with run_under(Answers()) as run:
        search, world = await run.search(), run.cast.world
        world.add_user("email|Reader.003", profile={"email": "reader.003@example.no"})  # came back
        world.change("email|Reader.007", profile={"email": "reader.007@example.no"})  # moved back
        world.edit_contact("reader.050@example.no", custom={"Sesamy User ID": "email|other"})  # another's by now
        world.edit_contact("reader.099@example.no", custom=FOREIGN)  # cleared by somebody else
        world.remove_contact("reader.100@example.no")
        clearing = await run.clear(search)
        tally = clearing.tally
        assert (tally.fine, tally.changed, tally.not_visible, tally.cleared) == (2, 2, 1, 5)
        spared = [f"reader.{number}@example.no" for number in ("003", "007", "050", "099", "100")]
        assert set(spared).isdisjoint(run.cleared)
        assert {record.address for record in run.sandbox.log.writes()}.isdisjoint(spared)


async def test_a_marketers_edit_between_search_and_write_survives() -> None:
    async with run_under(Answers()) as run:
        search = await run.search()
        before = run.cast.before["reader.003@example.no"]
        run.cast.world.edit_contact(before.email, tags=[*before.tags, "new"], custom=before.custom | {"City": "Oslo"})
        await run.clear(search)
        after = run.cast.contacts()["reader.003@example.no"]
        assert (after.tags, after.custom) == (("vip", "from-fair", "new"), FOREIGN | {"City": "Oslo"})


async def test_a_contact_that_fails_is_told_and_the_others_are_cleared() -> None:
    async with run_under(Answers()) as run:
        run.sandbox.faults.add(
            Rule(api="mailmojo", operation="patch_contact", key="reader.003@example.no", status=422),
        )
        run.sandbox.faults.add(Rule(api="mailmojo", key="reader.050@example.no", status=500))
        run.sandbox.faults.add(Rule(api="mailmojo", operation="patch_contact", cut=True, stage="after", times=1))
        clearing = await run.clear(await run.search())
        failed = {suspect.address: type(error).__name__ for suspect, error in clearing.failed}
        assert failed == {"reader.003@example.no": "Rejected", "reader.050@example.no": "Unavailable"}
        assert run.cast.changed() == run.cast.wrong - failed.keys()
        # The write whose answer was lost is not sent again: a fresh read showed that the contact was cleared.
        assert max(run.sandbox.log.calls("mailmojo").values()) <= 6
        assert len(run.sandbox.log.writes()) == len(run.cast.wrong) - 2


@pytest.mark.parametrize("stage", ["before", "after"])
async def test_a_write_whose_answer_is_lost_is_told_as_that_and_looked_at_again(stage: Any) -> None:
    async with run_under(Answers()) as run:
        lost = "reader.003@example.no"
        run.sandbox.faults.add(Rule(operation="patch_contact", key=lost, cut=True, stage=stage, times=1))
        clearing = await run.clear(await run.search())
        assert run.unanswered == {lost: "mailmojo patch_contact: no answer: ServerDisconnectedError"}
        assert (lost in run.cleared) is (stage == "before")
        assert (clearing.tally.changed, clearing.failed) == (stage == "after", [])
        assert run.cast.changed() == run.cast.wrong
        assert len(run.sandbox.log.writes()) == len(run.cast.wrong)


async def test_a_refused_write_is_not_told_as_one_that_may_be_done() -> None:
    async with run_under(Answers()) as run:
        search = await run.search()
        for number, status in ((3, 422), (50, 429)):
            key = f"reader.{number:03}@example.no"
            run.sandbox.faults.add(Rule(operation="patch_contact", key=key, status=status, times=3))
        await run.clear(search)
        assert run.unanswered == {}


@pytest.mark.parametrize(
    ("status", "operation", "error", "writes"),
    [(400, "patch_contact", Rejected, 0), (401, "get_user", Unauthorized, 0), (500, "patch_contact", ApiError, 0)],
)
async def test_what_is_nobodys_fault_alone_ends_the_run(
    status: int, operation: str, error: type[ApiError], writes: int
) -> None:
    async with run_under(Answers()) as run:
        search = await run.search()
        run.sandbox.faults.add(Rule(operation=operation, status=status))
        seen = run.sandbox.log.count
        with pytest.raises(error):
            await run.clear(search)
        assert len(run.sandbox.log.requests(operation=operation)) <= 12
        assert len(run.sandbox.log.writes()) == writes
        run.sandbox.faults.clear()
        await run.clear(await run.search())
        assert seen < run.sandbox.log.count
        assert run.cast.changed() == run.cast.wrong


async def test_a_404_means_nothing_where_listed_users_are_not_found_either() -> None:
    async with run_under(Answers()) as run:
        run.sandbox.faults.add(Rule(api="sesamy", operation="get_user", status=404))
        with pytest.raises(Failure, match="one by one"):
            await run.search()


async def test_an_api_that_lists_no_contacts_is_told_with_the_way_out() -> None:
    async with run_under(Answers()) as run:
        run.sandbox.faults.add(Rule(api="mailmojo", operation="list_subscribers", status=404))
        with pytest.raises(Failure, match="--contacts FILE"):
            await run.search()


BROKEN = {
    "null": '{"data": null, "error": {"code": "internal"}}',
    "ends-early": '{"data": [], "meta": {"total": 137}}',
    "null-item": "[null]",
    "html": "<html>maintenance</html>",
    "nothing": "",
    "json-null": "null",
}


@pytest.mark.parametrize("operation", ["list_users", "list_subscribers", "list_unsubscribed"])
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
async def test_a1_a_broken_list_ends_a_search_and_clears_nobody(operation: str, body: str) -> None:
    async with run_under(Answers()) as run:
        run.sandbox.faults.add(Rule(operation=operation, body=body))
        with pytest.raises(Unavailable, match=f"{operation}: HTTP 200"):
            await run.search()
        run.sandbox.faults.clear()
        assert {suspect.address for suspect in (await run.search()).found.suspects} == run.cast.wrong


async def test_a1_users_who_are_missing_from_a_page_in_the_middle_make_nobody_a_suspect() -> None:
    """The second page of Sesamy's users is empty, although its header says that there are more."""
    async with run_under(Answers(page_cap="100")) as run:
        run.sandbox.faults.add(Rule(operation="list_users", headers={"X-Total-Count": "200"}))
        with pytest.raises(Unavailable, match="list_users: HTTP 200"):
            await run.search()


@pytest.mark.parametrize("body", ["", "null", "<html>", '{"email": "other@example.no"}', "[]"])
@pytest.mark.parametrize("stage", ["before", "after"])
async def test_a9_a_contact_counts_as_cleared_only_if_it_shows_that(body: str, stage: Any) -> None:
    async with run_under(Answers()) as run:
        odd = "reader.003@example.no"
        run.sandbox.faults.add(Rule(operation="patch_contact", key=odd, body=body, stage=stage, times=1))
        seen = run.sandbox.log.count
        clearing = await run.clear(await run.search())
        assert (odd in run.unanswered) is (stage == "before")
        assert odd in run.cleared
        assert clearing.failed == []
        assert run.cast.changed() == run.cast.wrong
        writes = [record for record in run.sandbox.log.since(seen) if record.write and record.address == odd]
        assert len(writes) == (2 if stage == "before" else 1)


async def test_a_404_for_everybody_between_search_and_write_clears_nobody() -> None:
    async with run_under(Answers()) as run:
        search = await run.search()
        run.sandbox.faults.add(Rule(api="sesamy", operation="get_user", body="<h1>Not Found</h1>", status=404))
        with pytest.raises(Unavailable, match="users whom Sesamy lists are not found either"):
            await run.clear(search)
        assert run.cast.changed() == set()
