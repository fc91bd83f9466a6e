"""The fake of Sesamy against `docs/reference/sesamy.md`, statement by statement, over real sockets."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from consumer.sandbox import Answers, Options, Plan, Sandbox
from tests.sandbox_client import SandboxClient

USER = "email|84cccf985de28a2a84824786"
AT_USER = f"/management/users/{quote(USER, safe='')}"
OF_USER = f"userId={quote(USER, safe='')}"
CREDENTIALS = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox-secret"}


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
async def sesamy(answers: Answers) -> AsyncIterator[SandboxClient]:
    async with Sandbox(Options(answers=answers)) as sandbox, aiohttp.ClientSession() as session:
        sandbox.world.add_user(USER, profile={"email": "kari@example.no", "isGuest": False})
        client = SandboxClient(sandbox, session, sandbox.sesamy_url)
        await sign_in(client)
        yield client


async def sign_in(client: SandboxClient) -> None:
    _, token = await client("POST", "/oauth/token", data=CREDENTIALS)
    client.headers = {"Authorization": f"{token['token_type']} {token['access_token']}"}


def with_contracts(client: SandboxClient, n: int) -> None:
    client.sandbox.world.change(USER, contracts=[{"id": f"c{i}", "status": "ACTIVE"} for i in range(n)])


# The token


async def test_a_token_is_given_for_a_form(sesamy: SandboxClient) -> None:
    status, token = await sesamy("POST", "/oauth/token", data=CREDENTIALS | {"audience": "https://api.example"})
    assert (status, token["token_type"], token["expires_in"]) == (200, "Bearer", 86400)
    assert token["access_token"]
    assert not sesamy.rules_broken


async def test_a_token_asked_for_with_json_is_403(sesamy: SandboxClient) -> None:
    assert (await sesamy("POST", "/oauth/token", CREDENTIALS))[0] == 403
    assert len(sesamy.rules_broken) == 1


@pytest.mark.parametrize("wrong", [{"grant_type": "password"}, {"scope": "all"}])
async def test_a_token_request_has_only_the_documented_keys(sesamy: SandboxClient, wrong: dict[str, str]) -> None:
    assert (await sesamy("POST", "/oauth/token", data=CREDENTIALS | wrong))[0] == 400
    assert len(sesamy.rules_broken) == 1


async def test_a_wrong_secret_is_401_and_no_violation(sesamy: SandboxClient) -> None:
    assert (await sesamy("POST", "/oauth/token", data=CREDENTIALS | {"client_secret": "old"}))[0] == 401
    assert not sesamy.rules_broken


@pytest.mark.parametrize(("answers", "status"), [(Answers(), 401), (Answers(unauthorized="403"), 403)])
async def test_a_revoked_token_is_401_or_403_and_a_new_one_works(sesamy: SandboxClient, status: int) -> None:
    sesamy.sandbox.sesamy.revoke_tokens()
    assert (await sesamy("GET", AT_USER))[0] == status
    assert not sesamy.rules_broken
    await sign_in(sesamy)
    assert (await sesamy("GET", AT_USER))[0] == 200


async def test_a_token_expires_when_it_said() -> None:
    now = 0.0
    options = Options(plan=Plan(token_lifetime=60))
    async with Sandbox(options, clock=lambda: now) as sandbox, aiohttp.ClientSession() as session:
        sandbox.world.add_user(USER)
        client = SandboxClient(sandbox, session, sandbox.sesamy_url)
        await sign_in(client)
        now = 59.9
        assert (await client("GET", AT_USER))[0] == 200
        now = 60.0
        assert (await client("GET", AT_USER))[0] == 401


async def test_a_call_without_a_token_is_a_violation(sesamy: SandboxClient) -> None:
    assert (await sesamy("GET", AT_USER, headers={}))[0] == 401
    assert len(sesamy.rules_broken) == 1


# The calls


async def test_a_profile_carries_its_id_and_its_version(sesamy: SandboxClient) -> None:
    status, profile = await sesamy("GET", AT_USER)
    assert (status, profile["userId"], profile["tags"]) == (200, USER, ["v-000001"])


async def test_an_unknown_user_is_404_and_has_nothing(sesamy: SandboxClient) -> None:
    assert (await sesamy("GET", "/management/users/auth0%7Cgone"))[0] == 404
    assert await sesamy("GET", "/management/contracts?userId=auth0%7Cgone") == (200, [])
    assert not sesamy.rules_broken


async def test_an_error_has_the_documented_shape(sesamy: SandboxClient) -> None:
    _, body = await sesamy("GET", "/management/users/auth0%7Cgone")
    assert body["error"].keys() == {"code", "message", "details", "request_id"}
    assert body["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "target", ["/management/users/email|84", "/management/users/..", "/management/bills?userId=a|b"]
)
async def test_user_ids_are_percent_encoded(sesamy: SandboxClient, target: str) -> None:
    assert (await sesamy("GET", target))[0] == 400
    assert len(sesamy.rules_broken) == 1


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/management/users/"),
        ("GET", "/users/x"),
        ("GET", "/management/orders?userId=x"),
        ("POST", "/management/contracts?userId=x"),
        ("GET", "/oauth/token"),
    ],
)
async def test_a_path_or_method_that_no_reference_names_is_refused(
    sesamy: SandboxClient, method: str, target: str
) -> None:
    assert (await sesamy(method, target))[0] in {404, 405}
    assert len(sesamy.rules_broken) == 1


@pytest.mark.parametrize(
    "query",
    ["user_id=x", "userId=a&userId=b", "limit=10", "userId=x&limit=ten", "userId=x&limit=0", "userId=x&offset=-1"],
)
async def test_a_query_has_only_the_documented_parameters(sesamy: SandboxClient, query: str) -> None:
    assert (await sesamy("GET", f"/management/contracts?{query}"))[0] == 400
    assert len(sesamy.rules_broken) == 1


async def test_entitlements_are_not_paged(sesamy: SandboxClient) -> None:
    assert (await sesamy("GET", f"/management/entitlements?{OF_USER}&limit=10"))[0] == 400
    assert len(sesamy.rules_broken) == 1


async def test_entitlements_are_found_by_type_and_sku(sesamy: SandboxClient) -> None:
    both = [{"id": "e1", "type": "article", "sku": "a"}, {"id": "e2", "type": "pass", "sku": "a"}]
    sesamy.sandbox.world.change(USER, entitlements=both)
    assert (await sesamy("GET", f"/management/entitlements?{OF_USER}"))[1] == both
    assert (await sesamy("GET", f"/management/entitlements?{OF_USER}&type=pass&sku=a"))[1] == both[1:]


@pytest.mark.parametrize("name", ["contracts", "transactions"])
async def test_limit_and_offset_are_honoured(sesamy: SandboxClient, name: str) -> None:
    items = [{"id": f"i{n}"} for n in range(5)]
    sesamy.sandbox.world.change(USER, contracts=items, transactions=items)
    target = f"/management/{name}?{OF_USER}&limit=2&offset="
    pages = [(await sesamy("GET", target + offset))[1] for offset in ("0", "2", "4", "6")]
    assert pages == [items[:2], items[2:4], items[4:], []]


async def test_users_are_listed_in_pages_and_searched(sesamy: SandboxClient) -> None:
    for n in range(4):
        sesamy.sandbox.world.add_user(f"auth0|{n}", profile={"email": f"User{n}@example.no"})
    _, users = await sesamy("GET", "/management/users?limit=2&offset=1")
    assert [user["userId"] for user in users] == ["auth0|0", "auth0|1"]
    _, users = await sesamy("GET", "/management/users?search=user3%40")
    assert [user["userId"] for user in users] == ["auth0|3"]


async def test_contracts_are_found_by_status_and_bills_exist(sesamy: SandboxClient) -> None:
    with_contracts(sesamy, 2)
    assert (await sesamy("GET", f"/management/contracts?{OF_USER}&status=EXPIRED"))[1] == []
    assert (await sesamy("GET", f"/management/bills?{OF_USER}&status=PAID"))[1] == []
    assert not sesamy.rules_broken


# Unknowns: one test per switch


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (Answers(sesamy_lists="meta"), ("meta", {"total": 3, "limit": 2, "offset": 1})),
        (Answers(sesamy_lists="pagination"), ("pagination", {"total": 3, "limit": 2, "offset": 1})),
        (Answers(sesamy_lists="meta", totals="no"), ("meta", {"limit": 2, "offset": 1})),
    ],
)
async def test_lists_may_be_wrapped(sesamy: SandboxClient, expected: tuple[str, Any]) -> None:
    with_contracts(sesamy, 3)
    _, body = await sesamy("GET", f"/management/contracts?{OF_USER}&limit=2&offset=1")
    key, about = expected
    assert [contract["id"] for contract in body.pop("data")] == ["c1", "c2"]
    assert body == {key: about}


@pytest.mark.parametrize(("answers", "n"), [(Answers(), 120), (Answers(page_cap="100"), 100)])
async def test_a_page_may_be_shorter_than_the_limit_asked_for(sesamy: SandboxClient, n: int) -> None:
    with_contracts(sesamy, 120)
    assert len((await sesamy("GET", f"/management/contracts?{OF_USER}&limit=500"))[1]) == n


@pytest.mark.parametrize("answers", [Answers(profile_id="id")])
async def test_a_profiles_id_may_be_called_id(sesamy: SandboxClient) -> None:
    _, profile = await sesamy("GET", AT_USER)
    assert (profile["id"], "userId" in profile) == (USER, False)


@pytest.mark.parametrize("answers", [Answers.of([f"guest_mark={one}"]) for one in Answers.choices()["guest_mark"]])
async def test_a_guest_is_marked_with_the_chosen_key(sesamy: SandboxClient, answers: Answers) -> None:
    sesamy.sandbox.world.change(USER, profile={"isGuest": True})
    assert (await sesamy("GET", AT_USER))[1][answers.guest_mark] is True
