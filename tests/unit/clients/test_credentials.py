import asyncio
import json
import math
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

from consumer.clients.bounds import BoundedResponse
from consumer.clients.credentials import ClientCredentials, StaticToken
from consumer.clients.errors import ApiError, Throttled, Unauthorized, Unavailable
from consumer.clients.http import SessionClient
from consumer.clients.quota import QuotaGate
from consumer.clients.session import open_session
from consumer.clients.tokens import error_code
from consumer.clients.transport import Transport
from consumer.ops.metrics import Metrics
from consumer.secret import Secret
from tests.unit.clients.scripted import HANG, Arrived, Reply, Server, in_turn, serve

TOKEN_URL = "https://token.example/oauth/token"


class Response(BoundedResponse):
    """aioresponses 0.7.9 leaves out an argument that aiohttp needs since 3.14."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"stream_writer": Mock(), **kwargs})


def http_of(url: str, session: aiohttp.ClientSession) -> SessionClient:
    return SessionClient(URL(url).origin(), session, timeout=10)


class TokenHost:
    def __init__(self, answers: aioresponses, session: aiohttp.ClientSession) -> None:
        self._answers = answers
        self._session = session
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
            http_of(TOKEN_URL, self._session),
            metrics=Metrics(),
            audience=audience,
            pause=self.pauses.append,
            clock=lambda: self.time,
        )


@asynccontextmanager
async def token_host() -> AsyncIterator[TokenHost]:
    async with open_session() as session:
        with aioresponses() as answers:
            yield TokenHost(answers, session)


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


NO_LIFE: list[Any] = [None, 0, 0.001, -5, "", "0", "soon", 1e300, "nan", math.nan, math.inf, True, False, [], {}]
NO_TYPE: list[Any] = [None, "", "bearer", "BEARER", 7, []]
LIVES: list[tuple[dict[str, Any], float]] = [
    ({"expires_in": 3600}, 3600),
    ({"expires_in": "3600"}, 3600),
    ({"expires_in": 3600.5}, 3600.5),
    *(({"expires_in": odd}, 86_400) for odd in NO_LIFE),
    ({}, 86_400),
    *(({"expires_in": 3600, "token_type": odd}, 3600) for odd in NO_TYPE),
    ({"expires_in": 3600, "error": None}, 3600),
    ({"expires_in": 3600, "scope": None, "refresh_token": 1}, 3600),
]


@pytest.mark.parametrize(("extra", "life"), LIVES)
async def test_a13_a_token_lives_as_long_as_the_response_says_or_else_the_default_life(
    extra: dict[str, Any], life: float
) -> None:
    async with token_host() as host:
        host.answer(body=json.dumps({"access_token": "one", **extra}))
        host.issue("two")
        client = host.client()
        seen = []
        for host.time in (0, life - min(60, life / 10) - 1, life - min(60, life / 10) + 1):
            seen.append(await client.authorization())
    assert seen == ["Bearer one", "Bearer one", "Bearer two"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not a JSON object"),
        (b"<html>", "not a JSON object"),
        (b'"one"', "not a JSON object"),
        (b'["one"]', "not a JSON object"),
        (b"\xff", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b"{}", "no access_token"),
        (b'{"access_token": null}', "no access_token"),
        (b'{"access_token": 1}', "access_token in the response is empty or not text"),
        (b'{"access_token": ["one"]}', "access_token in the response is empty or not text"),
        (b'{"access_token": ""}', "access_token in the response is empty or not text"),
        (b'{"access_token": " "}', "access_token in the response is empty or not text"),
        (b'{"access_token": "a\\nb"}', "access_token in the response holds what no header can carry"),
        (b'{"access_token": "a b"}', "access_token in the response holds what no header can carry"),
        (b'{"access_token": "bl\\u00e5"}', "access_token in the response holds what no header can carry"),
        (b'{"access_token": "\\ud83d"}', "access_token in the response holds what no header can carry"),
        (b'{"access_token": "' + b"a" * 20_000 + b'"}', "access_token in the response holds what no header can carry"),
        (b'{"access_token": "one", "error": "invalid_client"}', r"contains an error \(invalid_client\)"),
        (b'{"access_token": "one", "error": "s3cret"}', "contains an error$"),
        (b'{"access_token": "one", "error": {"code": 1}}', "contains an error$"),
    ],
)
async def test_a13_a_response_without_a_usable_token_is_a_failure_that_gives_the_reason(
    body: bytes, reason: str
) -> None:
    async with token_host() as host:
        host.answer(body=body)
        with pytest.raises(Unavailable, match=f"^sesamy get_token: HTTP 200: .*{reason}"):
            await host.client().authorization()


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize(
    "body",
    [
        b"client_secret=s%26cret&client_id=id",
        b'{"error": "client_secret=s&cret", "error_description": "s&cret"}',
        b'{"error": "invalid_client", "error_description": "s&cret", "detail": "s&cret"}',
        b'{"error": {"code": "invalid_client", "message": "s&cret"}, "access_token": "s&cret"}',
        b'{"message": "s&cret"}',
    ],
)
async def test_a16_the_body_of_a_token_response_is_never_quoted(status: int, body: bytes) -> None:
    async with token_host() as host:
        host.answer(status, body=body)
        with pytest.raises(ApiError) as caught:
            await host.client().authorization()
    assert "cret" not in str(caught.value)
    assert ("invalid_client" in str(caught.value)) == (b'"error": "invalid_client"' in body and status != 302)


def test_a_registered_error_code_is_named_and_nothing_else() -> None:
    assert error_code(b'{"error": "invalid_grant"}') == "invalid_grant"
    assert error_code(b'{"error": "Invalid_grant"}') == ""
    assert error_code(b'{"error": ["invalid_grant"]}') == ""
    assert error_code(b"invalid_grant") == ""


@asynccontextmanager
async def real_host(*replies: Reply) -> AsyncIterator[tuple[Server, ClientCredentials]]:
    """A token host on a socket, for what aioresponses cannot show: requests that take time."""
    async with serve(in_turn(*replies)) as server, open_session() as session:
        url = f"{server.url}/oauth/token"
        http = http_of(url, session)
        yield server, ClientCredentials(url, "id", Secret("s"), http, metrics=Metrics(), pause=print)


async def test_many_who_need_a_token_cause_one_request() -> None:
    async with real_host(Reply(200, {"access_token": "one"})) as (server, client):
        assert set(await asyncio.gather(*(client.authorization() for _ in range(20)))) == {"Bearer one"}
        assert len(server.arrived) == 1


async def test_many_who_need_a_token_share_its_failure() -> None:
    async with real_host(Reply(500)) as (server, client):
        errors = await asyncio.gather(*(client.authorization() for _ in range(20)), return_exceptions=True)
        assert {type(error) for error in errors} == {Unavailable}
        assert len({id(error) for error in errors}) == 20
        assert len(server.arrived) == 1


async def test_a_failed_request_fails_all_for_two_seconds_and_then_the_token_is_asked_for_again() -> None:
    async with token_host() as host:
        host.answer(500)
        host.issue("one")
        client = host.client()
        for host.time in (0, 1.9):
            with pytest.raises(Unavailable, match="HTTP 500"):
                await client.authorization()
        assert len(host.forms()) == 1
        host.time = 2
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


async def test_a5_a_token_is_replaced_once_a_minute_however_often_it_is_refused() -> None:
    async with token_host() as host:
        for token in ("one", "two", "three"):
            host.issue(token)
        client = host.client()
        replaced = []
        for host.time in (0.0, 0.5, 10.0, 59.0, 60.0, 61.0, 119.0):
            replaced.append(await client.refused(await client.authorization()))
        assert replaced == [True, False, False, False, True, False, False]
        assert len(host.forms()) == 3


async def test_a5_a_403_for_everybody_for_half_a_minute_costs_one_more_token() -> None:
    """Sixty users, each of whom tries again every second."""
    tokens = iter(range(1000))

    def script(request: Arrived) -> Reply:
        return Reply(200, {"access_token": f"{next(tokens)}"}) if request.path == "/token" else Reply(403)

    async with serve(script) as server, open_session() as session:
        time, metrics = 0.0, Metrics()
        http = http_of(server.url, session)
        client = ClientCredentials(
            f"{server.url}/token", "id", Secret("s"), http, metrics=metrics, pause=print, clock=lambda: time
        )
        gate = QuotaGate("sesamy", 1e6, 1e6, metrics=metrics, stored_burst=True)
        transport = Transport("sesamy", server.url, http, gate, client, metrics=metrics)

        async def read() -> None:
            async with transport.turn(1) as turn:
                with pytest.raises(Unauthorized):
                    await turn.request("GET", "/management/transactions", operation="list_transactions")

        for time in range(30):  # noqa: B007 - the clock reads it
            await asyncio.gather(*(read() for _ in range(10)))
    calls = [request.path for request in server.arrived]
    assert calls.count("/token") == 2
    assert calls.count("/management/transactions") == 310  # the first ten had another token to try


async def test_a6_a_token_that_cannot_be_replaced_stays_in_use() -> None:
    """A 403 for one user, and the token endpoint is down: the others' calls still accept the token."""
    async with token_host() as host:
        host.issue("one")
        host.answer(503)
        host.issue("two")
        client = host.client()
        used = await client.authorization()
        assert not await client.refused(used)
        assert await client.authorization() == used
        assert not await client.refused(used)
        assert len(host.forms()) == 2
        host.time = 2.0  # a failure says nothing about the token, so it is tried again soon
        assert await client.refused(used)


async def test_a_revoked_token_is_replaced_with_a_secret_that_was_rotated_meanwhile(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("old")
    secret = Secret(path=file)
    async with token_host() as host:
        host.issue("one")
        host.issue("two")
        client = host.client(secret)
        used = await client.authorization()
        file.write_text("new")
        assert await client.refused(used)
        assert [form["client_secret"] for form in host.forms()] == [["old"], ["new"]]


async def test_a_token_host_that_asks_to_wait_is_not_asked_meanwhile() -> None:
    async with token_host() as host:
        host.answer(429, headers={"Retry-After": "9"})
        host.issue("one")
        client = host.client()
        for host.time in (0, 8.9):
            with pytest.raises(Throttled):
                await client.authorization()
        host.time = 9
        assert await client.authorization() == "Bearer one"


async def test_a_static_token_is_read_again_when_it_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    token = StaticToken(Secret(path=file))
    assert await token.authorization() == "Bearer old"
    file.write_text("new")
    assert await token.refused("Bearer old")
    assert await token.authorization() == "Bearer new"


async def test_the_file_of_a_static_token_is_read_every_few_seconds_at_most(tmp_path: Path) -> None:
    file, time = tmp_path / "token", 0.0
    file.write_text("old")
    token = StaticToken(Secret(path=file), clock=lambda: time)
    assert not await token.refused("Bearer old")
    file.write_text("new")
    assert not await token.refused("Bearer old")
    time = 5.0
    assert await asyncio.gather(*(token.refused("Bearer old") for _ in range(5))) == [True] * 5


async def test_an_empty_file_in_the_middle_of_a_rotation_leaves_the_token_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    token = StaticToken(Secret(path=file))
    file.write_text("")
    assert not await token.refused("Bearer old")
    assert await token.authorization() == "Bearer old"
