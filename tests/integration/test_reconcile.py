"""`reconcile` as its users run it: what is wrong is cleared, once, within the quotas, and nothing else is touched."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from consumer.sandbox import Contact
from tests.integration.stage import Stage, event, stop
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

FOREIGN = {"Shoe size": 41}
SIDES = 5
"""Contacts in each way not ours, or not wrong."""


class Deployment:
    """Synced contacts of users, some of whom left or moved since, and contacts that are none of our business."""

    def __init__(self, stage: Stage, *, gone: int = 4, moved: int = 3, fine: int = 20) -> None:
        self.stage = stage
        users = stage.users(gone + moved + fine)
        for user_id in users:
            self._contact(user_id)
        self.wrong = [stage.user(user_id).profile["email"] for user_id in users[: gone + moved]]
        for user_id in users[:gone]:
            stage.world.remove_user(user_id)
        for user_id in users[gone : gone + moved]:
            stage.world.change(user_id, profile={"email": f"new.{user_id[-4:]}@example.no"})
        for number in range(SIDES):
            stage.world.add_contact(f"tool.{number}@example.no", tags=["vip", "sesamy_lookalike"], custom=FOREIGN)
        stage.world.edit_contact(self.wrong[0], status="u", associations=())
        stage.world.add_contact(
            self.wrong[1], tags=["vip", "sesamy_active_subscriber"], custom=self._custom(users[1]), status="u"
        )
        del self.wrong[0]  # on no list any more: nobody can see it
        self.before = self.contacts()

    def contacts(self) -> dict[str, Contact]:
        return {contact.email: contact for contact in self.stage.world.contacts()}

    def cleared(self) -> list[str]:
        """Return the contacts that changed; each must be rid of what was ours, and of nothing else."""
        changed = [(self.before[email], now) for email, now in self.contacts().items() if now != self.before.get(email)]
        assert all((now.tags, now.custom, now.phone) == (("vip",), FOREIGN, before.phone) for before, now in changed)
        assert all((now.status, now.associations) == (before.status, before.associations) for before, now in changed)
        return sorted(now.email for _, now in changed)

    def _contact(self, user_id: str) -> None:
        address = self.stage.user(user_id).profile["email"]
        tags = ["vip", "sesamy_active_subscriber", "sesamy_made_single_purchase"]
        self.stage.world.add_contact(address, phone="1", tags=tags, custom=self._custom(user_id))

    @staticmethod
    def _custom(user_id: str) -> dict[str, Any]:
        return FOREIGN | {"Sesamy User ID": user_id, "Active Subscriptions": 1, "Will Cancel At": "2026-02-03"}


def result(process: ServiceProcess, code: int = 0) -> dict[str, Any]:
    assert process.returncode == code, process.output()
    found: dict[str, Any] = json.loads(process.stdout.read_text().splitlines()[-1])
    return found


def one_line(process: ServiceProcess, code: int) -> str:
    assert process.returncode == code, process.output()
    (line,) = process.stderr.read_text().splitlines()
    return line


async def test_what_is_wrong_is_previewed_cleared_once_and_then_not_found_any_more(stage: Stage) -> None:
    deployment = Deployment(stage)
    dry = await stage.finish("reconcile", "--dry-run")
    assert dry.returncode == 0, dry.output()
    assert "6 contacts would be cleared: 3 whose user is gone, 3 whose user has another address" in dry.output()
    assert "tags removed: sesamy_active_subscriber, sesamy_made_single_purchase" in dry.output()
    assert "u***@example.no  email|user-0002: the user is gone; fields: Sesamy User ID, Active" in dry.output()
    assert result(await stage.finish("reconcile", "--yes", "--json", settings={"SYNC_DRY_RUN": "true"}))["cleared"] == 0
    assert stage.writes_since(0) == []

    done = await stage.finish("reconcile", "--yes", "--json")
    assert result(done) == {
        "users": 23,
        "contacts": 31,
        "ours": 26,
        "fine": 20,
        "suspects": 6,
        "gone": 3,
        "moved": 3,
        "cleared": 6,
        "changed": 0,
        "not_visible": 0,
        "failed": 0,
        "echo_differs": 0,
        "unreadable": 0,
        "whole_list": True,
        "complete": True,
    }
    assert deployment.cleared() == sorted(deployment.wrong)
    audits = done.events("contact.written")
    assert {audit["user_id"] for audit in audits} == {f"email|user-{number:04}" for number in range(1, 7)}
    assert {(audit["action"], audit["reason"]) for audit in audits} == {("clear", "gone"), ("clear", "moved")}
    assert "2026-02-03" not in done.output()

    again = result(await stage.finish("reconcile", "--yes", "--json"))
    assert (again["suspects"], again["cleared"], again["ours"]) == (0, 0, 20)
    assert len(stage.writes_since(0)) == 6


async def test_it_takes_half_of_both_quotas_at_most(stage: Stage) -> None:
    Deployment(stage, gone=12, moved=9, fine=30)
    quotas = {"SESAMY_REQUESTS_PER_MINUTE": "1200", "SESAMY_BURST": "8"}
    quotas |= {"MAILMOJO_REQUESTS_PER_SECOND": "40", "MAILMOJO_BURST": "8"}
    assert result(await stage.finish("reconcile", "--yes", "--json", settings=quotas))["cleared"] == 20
    assert stage.log.excess("sesamy", rate=10, burst=4) <= 1
    assert stage.log.excess("mailmojo", rate=20, burst=4) <= 1


async def test_killed_in_the_middle_it_goes_on_where_it_was(stage: Stage) -> None:
    deployment = Deployment(stage, gone=20, moved=10, fine=40)
    stage.fail(api="mailmojo", operation="patch_contact", delay=0.05)
    process = stage.start("reconcile", "--yes")
    await wait_until(lambda: len(stage.log.writes()) >= 5, what="some are cleared")
    process.kill()
    await wait_until(lambda: stage.log.count == len(stage.log.records), what="the last request is logged")
    assert len(deployment.cleared()) < len(deployment.wrong), "it was too quick to be killed"
    again = result(await stage.finish("reconcile", "--yes", "--json"))
    assert again["cleared"] < len(deployment.wrong)
    assert deployment.cleared() == sorted(deployment.wrong)
    assert len(stage.log.writes()) == len(deployment.wrong)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_stopped_it_ends_the_write_under_way_and_tells_what_is_done(stage: Stage, number: int) -> None:
    deployment = Deployment(stage, gone=20, moved=10, fine=40)
    stage.fail(api="mailmojo", operation="patch_contact", delay=0.2)
    process = stage.start("reconcile", "--yes")
    await wait_until(lambda: len(stage.log.writes()) >= 3, what="some are cleared")
    os.kill(process.pid, number)
    assert await process.exit_code() == 130
    assert "the same command goes on with them" in process.stdout.read_text()
    assert "Traceback" not in process.output()
    done = len(deployment.cleared())
    assert 3 <= done == len(process.events("contact.written")) < len(deployment.wrong)
    assert f"{done} contacts cleared" in process.stdout.read_text()


async def test_a_write_whose_answer_is_lost_leaves_a_line(stage: Stage) -> None:
    deployment = Deployment(stage)
    stage.fail(api="mailmojo", operation="patch_contact", key=deployment.wrong[2], cut=True, stage="after", times=1)
    done = await stage.finish("reconcile", "--yes", settings={"SYNC_RETRY_BASE": "0.05"})
    assert done.returncode == 0, done.output()
    assert deployment.cleared() == sorted(deployment.wrong)
    (line,) = done.events("contact.may_be_written")
    assert (line["user_id"], line["level"], line["reason"]) == ("email|user-0003", "warning", "gone")
    assert "no answer" in line["error"]
    assert {"action", "fields", "tags_added", "tags_removed"} <= line.keys()
    assert line["user_id"] not in {audit["user_id"] for audit in done.events("contact.written")}
    assert deployment.wrong[2] not in done.output()


async def test_where_nearly_all_is_wrong_only_the_very_count_confirms_it(stage: Stage) -> None:
    deployment = Deployment(stage, fine=0)
    for user_id in stage.world.user_ids():
        stage.world.remove_user(user_id)
    stage.users(9, "email|of-another-tenant")
    for sure in (["--yes"], ["--expect", "100"], ["--expect", "5"]):
        refused = one_line(await stage.finish("reconcile", *sure), 1)
        assert "6 contacts would be cleared" in refused
        assert "--expect" in refused
    assert stage.writes_since(0) == []
    assert "tenant" in one_line(await stage.finish("reconcile", "--yes"), 1)
    assert result(await stage.finish("reconcile", "--expect", "6", "--json"))["gone"] == 6
    assert deployment.cleared() == sorted(deployment.wrong)


async def test_no_user_at_all_is_a_mistake_of_ours(stage: Stage) -> None:
    Deployment(stage)
    for user_id in stage.world.user_ids():
        stage.world.remove_user(user_id)
    assert "Sesamy lists no user at all" in one_line(await stage.finish("reconcile", "--yes"), 1)
    assert stage.writes_since(0) == []


async def test_an_expectation_bounds_an_unattended_run(stage: Stage) -> None:
    deployment = Deployment(stage)
    refused = one_line(await stage.finish("reconcile", "--expect", "5"), 1)
    assert "6 contacts would be cleared, more than --expect 5" in refused
    assert stage.writes_since(0) == []
    assert result(await stage.finish("reconcile", "--expect", "6", "--json"))["cleared"] == 6
    assert deployment.cleared() == sorted(deployment.wrong)


async def test_a_file_names_contacts_that_no_list_shows(stage: Stage, tmp_path: Path) -> None:
    deployment = Deployment(stage)
    off_list = next(email for email, contact in deployment.before.items() if not contact.associations)
    file = tmp_path / "contacts.csv"
    file.write_text(f"email\n{off_list.upper()}\n{deployment.wrong[0]}\nnobody@example.no\ntool.0@example.no\n")
    done = await stage.finish("reconcile", "--contacts", str(file), "--expect", "2", "--json")
    found = result(done)
    assert [found[name] for name in ("contacts", "ours", "cleared", "not_visible")] == [4, 2, 2, 1]
    assert deployment.cleared() == sorted([off_list, deployment.wrong[0]])
    assert stage.requests_since(0, "list_subscribers", "list_unsubscribed") == []


async def test_one_refused_contact_is_told_masked_and_the_others_are_cleared(stage: Stage) -> None:
    deployment = Deployment(stage)
    stage.fail(api="mailmojo", operation="patch_contact", key=deployment.wrong[2], status=422)
    done = await stage.finish("reconcile", "--yes")
    assert done.returncode == 1
    assert deployment.cleared() == sorted(set(deployment.wrong) - {deployment.wrong[2]})
    complaints = [line for line in done.stderr.read_text().splitlines() if "HTTP 422" in line]
    assert len(complaints) == 1
    assert "u***@example.no email|user-0003: mailmojo patch_contact" in complaints[0]
    assert "5 contacts cleared" in done.output()
    assert "1 failed" in done.output()


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"api": "sesamy", "status": 401}, "sesamy list_users: HTTP 401"),
        ({"api": "mailmojo", "status": 401}, "mailmojo get_list: HTTP 401"),
        ({"api": "mailmojo", "operation": "list_subscribers", "status": 404}, "--contacts FILE"),
        ({"api": "mailmojo", "operation": "patch_contact", "status": 403}, "0 contacts are done; run it again"),
    ],
)
async def test_what_ends_it_is_one_line(stage: Stage, rule: dict[str, Any], said: str) -> None:
    deployment = Deployment(stage)
    stage.fail(**rule)
    assert said in one_line(await stage.finish("reconcile", "--yes"), 1)
    assert deployment.cleared() == []


@contextmanager
def at_a_terminal(stage: Stage, folder: Path, *options: str) -> Iterator[tuple["subprocess.Popen[bytes]", int, Path]]:
    """Run the command with a terminal as its stdin; yields the process, the terminal and the file of its output."""
    terminal, its_end = pty.openpty()
    said = folder / "said"
    with said.open("wb") as file:
        environment = {"PATH": os.environ["PATH"], "LOG_LEVEL": "error", **stage.settings}
        command = [sys.executable, "-m", "consumer", "reconcile", *options]
        process = subprocess.Popen(command, stdin=its_end, stdout=file, stderr=file, env=environment)
    os.close(its_end)
    try:
        yield process, terminal, said
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


@pytest.mark.parametrize(("typed", "code", "cleared"), [("6\n", 0, 6), ("y\n", 1, 0), ("\x04", 1, 0)])
async def test_at_a_terminal_it_shows_what_it_found_and_the_count_confirms(
    stage: Stage, tmp_path: Path, typed: str, code: int, cleared: int
) -> None:
    deployment = Deployment(stage)
    with at_a_terminal(stage, tmp_path) as (process, terminal, said):
        await wait_until(lambda: "Type 6 to clear them" in said.read_text(), what="it asks")
        assert "  u***@example.no  email|user-0002\n" in said.read_text()
        stage.assert_discreet(said.read_text())
        os.write(terminal, typed.encode())
        await wait_until(lambda: process.poll() is not None, what="it ends")
        assert process.returncode == code, said.read_text()
    assert len(deployment.cleared()) == cleared
    assert "nothing was cleared" in said.read_text() or cleared


async def test_whole_addresses_are_shown_when_asked_for(stage: Stage, tmp_path: Path) -> None:
    deployment = Deployment(stage)
    with at_a_terminal(stage, tmp_path, "--dry-run", "--unmasked") as (process, _, said):
        await wait_until(lambda: process.poll() is not None, what="it ends")
    assert all(email in said.read_text() for email in deployment.wrong)


async def test_beside_the_service_every_contact_ends_right(stage: Stage) -> None:
    deployment = Deployment(stage, gone=10, moved=10, fine=60)
    users = stage.world.user_ids()
    for api in ("sesamy", "mailmojo"):
        stage.fail(api=api, delay=0.02)
    service = await stage.service(SYNC_CONCURRENCY="4")
    await stage.send(*(event(user_id) for user_id in users))
    done = await stage.finish("reconcile", "--yes", "--json")
    assert result(done)["cleared"] == len(deployment.wrong)
    await stage.all_committed()
    assert stage.stale(users) == {}
    assert all(
        "Sesamy User ID" not in contact.custom
        for email, contact in deployment.contacts().items()
        if email in deployment.wrong
    )
    await stop(service)
