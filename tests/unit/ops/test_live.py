"""The admin port over a socket: pages, probes, and streams that cost little and end at once."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from consumer.ops import admin
from consumer.ops.live import INTERVAL, MOST_VIEWERS, Events, content_security_policy
from consumer.ops.metrics import Metrics
from consumer.sync.evidence import Outage
from tests.unit.virtual_time import run


class Health:
    def __init__(self) -> None:
        self.lives = True
        self.reasons: dict[str, str] = {}
        self.asked = self.refreshed = 0

    def alive(self) -> bool:
        return self.lives

    def unready(self) -> Mapping[str, str]:
        return self.reasons

    def outages(self) -> list[Outage]:
        return []

    def status(self) -> Mapping[str, Any]:
        self.asked += 1
        return {"asked": self.asked}

    def history(self) -> Mapping[str, Any]:
        return {"done": [1]}

    def refresh(self) -> None:
        self.refreshed += 1


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
async def client(health: Health) -> AsyncIterator[aiohttp.ClientSession]:
    async with admin.serve("127.0.0.1", 0, health, Metrics()) as port:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session:
            yield session


async def get(client: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    async with client.get(path) as answer:
        return answer.status, await answer.json()


async def test_probes_say_503_and_why_and_recover(client: aiohttp.ClientSession, health: Health) -> None:
    assert await get(client, "/livez") == (200, {"alive": True})
    assert await get(client, "/readyz") == (200, {"ready": True, "reasons": {}, "calls": []})
    health.lives, health.reasons = False, {"mailmojo": "HTTP 401"}
    assert await get(client, "/livez") == (503, {"alive": False})
    assert await get(client, "/readyz") == (503, {"ready": False, "reasons": {"mailmojo": "HTTP 401"}, "calls": []})
    health.lives, health.reasons = True, {}
    assert [(await get(client, path))[0] for path in ("/livez", "/readyz")] == [200, 200]


async def test_p6_no_control_character_of_others_reaches_the_page(
    client: aiohttp.ClientSession, health: Health
) -> None:
    health.reasons = {"mailmojo": "HTTP 500: \x1b[2J\u202e\x9b\u2028\ud83d"}
    async with client.get("/readyz") as answer:
        body = await answer.text()
    assert body.isascii()
    assert json.loads(body)["reasons"] == {"mailmojo": "HTTP 500: \\x1b[2J\\u202e\\x9b\\u2028\\ud83d"}


async def test_a_scrape_brings_sampled_metrics_up_to_date_first(client: aiohttp.ClientSession, health: Health) -> None:
    async with client.get("/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert b"sesamy_mailmojo_users_in_flight 0.0" in await answer.read()
    assert health.refreshed == 1


async def test_the_page_may_load_and_ask_nothing_but_itself(client: aiohttp.ClientSession) -> None:
    async with client.get("/") as answer:
        policy, html = answer.headers["Content-Security-Policy"], await answer.text()
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert html.count("<script") == html.count("<script>") == 1
    assert html.count("<style") == html.count("<style>") == 1
    assert " style=" not in html
    assert " onclick=" not in html
    assert 'src="' not in html
    assert not [url for url in html.split('"') if url.startswith(("http:", "https:")) and "w3.org/2000/svg" not in url]


def test_a_changed_script_is_another_policy() -> None:
    page = "<style>a</style><script>b</script>"
    assert content_security_policy(page) != content_security_policy(page.replace("b", "c"))


async def test_a_stream_begins_with_the_past_and_goes_on_with_the_present(client: aiohttp.ClientSession) -> None:
    async with client.get("/events") as answer:
        assert answer.content_type == "text/event-stream"
        events = [(await answer.content.readuntil(b"\n\n")).decode() for _ in range(3)]
    assert events[0] == 'event: history\ndata: {"done":[1]}\n\n'
    assert [json.loads(event.partition("data: ")[2])["asked"] for event in events[1:]] == [1, 2]


def test_all_who_look_share_one_status(health: Health) -> None:
    async def scenario() -> None:
        events = Events(health.status, health.history)
        for number in range(1, 4):
            assert len({events._event() for _ in range(MOST_VIEWERS)}) == 1
            assert health.asked == number
            await asyncio.sleep(INTERVAL)

    run(scenario())


async def test_there_is_a_bound_of_those_who_look(client: aiohttp.ClientSession) -> None:
    async with AsyncExitStack() as streams:
        for _ in range(MOST_VIEWERS):
            answer = await streams.enter_async_context(client.get("/events"))
            await answer.content.readuntil(b"event: status")
        async with client.get("/events") as refused:
            assert refused.status == 503


async def test_open_streams_do_not_delay_the_end(health: Health) -> None:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        async with admin.serve("127.0.0.1", 0, health, Metrics()) as port:
            session = await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{port}"))
            answers = [await stack.enter_async_context(session.get("/events")) for _ in range(5)]
            began = loop.time()
        assert loop.time() - began < 0.5
        for answer in answers:
            assert b"event: history" in await answer.content.read()  # to its end: it was ended well
