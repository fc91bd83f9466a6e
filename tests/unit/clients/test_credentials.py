import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import parse_qs

import aiohttp
import pytest
from aioresponses import aioresponses
from yarl import URL

from consumer.clients.credentials import ClientCredentials, StaticToken
from consumer.clients.errors import Throttled, Unauthorized, Unavailable
from consumer.clients.wire import Wire, open_session
from consumer.ops.metrics import Metrics
from consumer.secret import Secret
from tests.unit.clients.scripted import HANG, Reply, Server, in_turn, serve

TOKEN_URL = "https://token.example/oauth/token"


class Response(aiohttp.ClientResponse):
    """aioresponses 0.7.9 leaves out an argument that aiohttp needs since 3.14."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"stream_writer": Mock(), **kwargs})


class TokenHost:
    def __init__(self, answers: aioresponses, wire: Wire) -> None:
        self._answers = answers
        self._wire = wire
        self.time = 0.0
        self.pauses: list[float] = []

    def answer(self, status: int = 200, **options: Any) -> None:
        self._answers.post(TOKEN_URL, status=status, response_class=Response, **options)

    def issue(self, token: str, expires_in: float = 1000) -> None:
        self.answer(payload={"access_token": token, "token_type": "Bearer", "expires_in": expires_in})

    def forms(self) -> list[dict[str, list[str]]]:
        calls = self._answers.requests.get(("POST", URL(TOKEN_URL)), [])
        return [parse_qs(call.kwargs["data"].decode(), strict_parsing=True) for call in calls]

    def client(self, secret: Secret | None = None, audience: str | None = None) -> ClientCredentials:
        return ClientCredentials(
            TOKEN_URL,
            "id",
            secret or Secret("s&cret"),
            self._wire,
            audience=audience,
            pause=self.pauses.append,
            clock=lambda: self.time,
        )


@asynccontextmanager
async def token_host() -> AsyncIterator[TokenHost]:
    async with open_session(1) as session:
        with aioresponses() as answers:
            yield TokenHost(answers, Wire("sesamy", session, Metrics()))


async def test_a_token_is_asked_for_with_a_form() -> None:
    async with token_host() as host:
        host.issue("one")
        assert await host.client(audience="https://a").authorization() == "Bearer one"
        assert host.forms() == [
            {
                "grant_type": ["client_credentials"],
                "client_id": ["id"],
                "client_secret": ["s&cret"],
                "audience": ["https://a"],
            }
        ]


async def test_a_token_is_kept_until_shortly_before_it_expires() -> None:
    async with token_host() as host:
        host.issue("one", expires_in=1000)
        host.issue("two", expires_in=100)
        host.issue("three")
        client = host.client()
        seen = []
        for host.time in (0, 939, 941, 1030, 1032):
            seen.append(await client.authorization())
    assert seen == ["Bearer one", "Bearer one", "Bearer two", "Bearer two", "Bearer three"]


@asynccontextmanager
async def real_host(*replies: Reply) -> AsyncIterator[tuple[Server, ClientCredentials]]:
    """A token host on a socket, for what aioresponses cannot show: requests that take time."""
    async with serve(in_turn(*replies)) as server, open_session(1) as session:
        wire = Wire("sesamy", session, Metrics())
        yield server, ClientCredentials(f"{server.url}/oauth/token", "id", Secret("s"), wire, pause=print)


async def test_many_who_need_a_token_cause_one_request() -> None:
    async with real_host(Reply(200, {"access_token": "one"})) as (server, client):
        assert set(await asyncio.gather(*(client.authorization() for _ in range(20)))) == {"Bearer one"}
        assert len(server.arrived) == 1


async def test_many_who_need_a_token_share_its_failure_and_the_next_one_asks_again() -> None:
    async with real_host(Reply(500), Reply(200, {"access_token": "one"})) as (server, client):
        errors = await asyncio.gather(*(client.authorization() for _ in range(20)), return_exceptions=True)
        assert {type(error) for error in errors} == {Unavailable}
        assert len({id(error) for error in errors}) == 20
        assert len(server.arrived) == 1
        assert await client.authorization() == "Bearer one"


async def test_a_cancelled_fetch_leaves_the_next_one_to_begin_anew() -> None:
    async with real_host(HANG, Reply(200, {"access_token": "two"})) as (server, client):
        first = asyncio.create_task(client.authorization())
        second = asyncio.create_task(client.authorization())
        await server.heard(1)
        first.cancel()
        assert await second == "Bearer two"
        assert first.cancelled()


async def test_a_refused_token_is_replaced_once_however_many_were_refused_with_it() -> None:
    async with token_host() as host:
        host.issue("one")
        host.issue("two")
        client = host.client()
        used = await client.authorization()
        assert await asyncio.gather(*(client.refused(used) for _ in range(5))) == [True] * 5
        assert await client.authorization() == "Bearer two"
        assert len(host.forms()) == 2


async def test_the_same_token_again_is_no_other_token() -> None:
    async with token_host() as host:
        host.issue("one")
        host.issue("one")
        client = host.client()
        assert not await client.refused(await client.authorization())


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_refused_credentials_are_unauthorized(status: int) -> None:
    async with token_host() as host:
        host.answer(status, payload={"error": "invalid_client"})
        with pytest.raises(Unauthorized, match=f"sesamy get_token: HTTP {status}: invalid_client"):
            await host.client().authorization()
        assert len(host.forms()) == 1


async def test_a_refused_secret_is_read_again_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("old\n")
    secret = Secret(path=file)
    file.write_text("new\n")
    async with token_host() as host:
        host.answer(401)
        host.issue("one")
        assert await host.client(secret).authorization() == "Bearer one"
        assert [form["client_secret"] for form in host.forms()] == [["old"], ["new"]]


async def test_a_token_host_that_asks_to_wait_is_heard() -> None:
    async with token_host() as host:
        host.answer(429, headers={"Retry-After": "9"})
        with pytest.raises(Throttled):
            await host.client().authorization()
        assert host.pauses == [9]


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b'{"access_token": 1}', b"\xff"])
async def test_an_answer_without_a_token_is_unavailable_and_not_quoted(body: bytes) -> None:
    async with token_host() as host:
        host.answer(body=body)
        with pytest.raises(Unavailable, match="holds no token"):
            await host.client().authorization()


async def test_a_static_token_is_read_again_when_it_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    token = StaticToken(Secret(path=file))
    assert await token.authorization() == "Bearer old"
    assert not await token.refused("Bearer old")
    file.write_text("new")
    assert await token.refused("Bearer old")
    assert await token.authorization() == "Bearer new"
