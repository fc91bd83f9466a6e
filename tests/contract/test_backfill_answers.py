"""A backfill reads every page of Sesamy's users, or fails: it never takes a broken page for the end of the list."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from consumer.backfill.pages import UserPages
from consumer.clients.build import open_clients
from consumer.clients.errors import Unavailable
from consumer.ops.metrics import Metrics
from consumer.sandbox import Answers, Options, Rule, Sandbox
from consumer.settings import load
from tests.contract.every_answer import HIGH

USERS = 230
BROKEN = {
    "null": '{"data": null, "error": {"code": "internal"}}',
    "ends-early": '{"data": [], "meta": {"total": 230, "offset": 0}}',
    "null-item": "[null]",
    "html": "<html>maintenance</html>",
    "cut": '[{"userId": "email|1"',
    "nothing": "",
    "json-null": "null",
}


@asynccontextmanager
async def opened(answers: Answers) -> AsyncIterator[tuple[Sandbox, UserPages]]:
    async with Sandbox(Options(answers=answers)) as sandbox:
        sandbox.world.populate(USERS)
        quick = {"SYNC_RETRY_BASE": "0.01", "SYNC_RETRY_CAP": "0.01", "SYNC_MAX_ATTEMPTS": "3"}
        settings = load({**sandbox.environment, **HIGH, **quick})
        async with open_clients(settings, Metrics()) as clients:
            clients.set_share(1.0)
            yield sandbox, UserPages(clients.sesamy, settings.sync)


async def listed(pages: UserPages) -> list[str | None]:
    return [user.user_id async for page in pages.after(0) for user in page.users]


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
async def test_a1_a_broken_page_of_users_is_asked_for_again_and_then_a_failure(body: str) -> None:
    async with opened(Answers(page_cap="100", sesamy_lists="meta")) as (sandbox, pages):
        sandbox.faults.add(Rule(operation="list_users", body=body, times=1))
        assert await listed(pages) == sandbox.world.user_ids()
        sandbox.faults.add(Rule(operation="list_users", body=body))
        with pytest.raises(Unavailable, match="list_users: HTTP 200"):
            await listed(pages)


@pytest.mark.parametrize("answers", [Answers(page_cap="100"), Answers(page_cap="100", sesamy_lists="pagination")])
async def test_a1_a_total_that_the_pages_do_not_reach_is_a_failure(answers: Any) -> None:
    async with opened(answers) as (sandbox, pages):
        sandbox.faults.add(Rule(operation="list_users", headers={"X-Total-Count": str(USERS + 1)}))
        with pytest.raises(Unavailable, match="list_users: HTTP 200: an answer that contradicts itself"):
            await listed(pages)
