"""What goes wrong when told to, over real sockets and with a clock that only moves when a test moves it."""

import asyncio
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Literal

import aiohttp
import pytest
from yarl import URL

from consumer.sandbox import Answers, Faults, Options, Plan, Quota, Rule, Sandbox
from tests.sandbox_client import SandboxClient

KARI = "kari@example.no"
AT_KARI = "/v1/contacts/kari%40example.no/"
PATCH = {"email": KARI, "phone": "1"}
MANY = 200


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
async def mailmojo(answers: Answers, clock: FakeClock) -> AsyncIterator[SandboxClient]:
    options = Options(answers=answers)
    async with Sandbox(options, clock=clock, wall=clock) as sandbox, aiohttp.ClientSession() as session:
        sandbox.world.add_contact(KARI)
        client = SandboxClient(sandbox, session, sandbox.mailmojo_url)
        client.headers = {"Authorization": f"Bearer {sandbox.api_token}"}
        yield client


async def statuses(client: SandboxClient, n: int) -> list[int]:
    return [(await client("GET", AT_KARI))[0] for _ in range(n)]


def phone(client: SandboxClient) -> str:
    contact = client.sandbox.world.contact(KARI)
    assert contact is not None
    return contact.phone


async def test_a_quota_lets_a_burst_through_and_then_its_rate(mailmojo: SandboxClient, clock: FakeClock) -> None:
    mailmojo.sandbox.faults.set(Plan(mailmojo_quota=Quota(rate=0.5, burst=2)))
    assert await statuses(mailmojo, 3) == [200, 200, 429]
    assert mailmojo.answer_headers["Retry-After"] == "2"
    clock.now += 1.9
    assert await statuses(mailmojo, 1) == [429]
    clock.now += 0.1
    assert await statuses(mailmojo, 2) == [200, 429]


async def test_the_apis_have_quotas_of_their_own(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.faults.set(Plan(sesamy_quota=Quota(rate=1, burst=1)))
    assert await statuses(mailmojo, 5) == [200] * 5


@pytest.mark.parametrize("answers", [Answers.of([f"throttle={one}"]) for one in Answers.choices()["throttle"]])
async def test_a_429_says_when_to_come_back_as_the_answers_say(
    mailmojo: SandboxClient, answers: Answers, clock: FakeClock
) -> None:
    mailmojo.sandbox.faults.set(Plan(mailmojo_quota=Quota(rate=0.1, burst=1)))
    await mailmojo("GET", AT_KARI)
    status, body = await mailmojo("GET", AT_KARI)
    found = {
        "seconds": mailmojo.answer_headers.get("Retry-After") == "10",
        "date": "GMT" in mailmojo.answer_headers.get("Retry-After", ""),
        "body": body.get("retry_after") == 10,
        "headers": mailmojo.answer_headers.get("X-RateLimit-Remaining") == "0",
    }
    assert status == 429
    assert {name for name, there in found.items() if there} == {answers.throttle} - {"silent"}
    if answers.throttle == "date":
        assert parsedate_to_datetime(mailmojo.answer_headers["Retry-After"]).timestamp() >= clock.now + 10


@pytest.mark.parametrize(
    ("answers", "header"),
    [(Answers(), None), (Answers(sesamy_throttle="seconds"), "60"), (Answers(sesamy_throttle="date"), "GMT")],
)
async def test_sesamys_429_has_retry_after_in_its_body(answers: Answers, header: str | None) -> None:
    plan = Plan(sesamy_quota=Quota(rate=1 / 60, burst=1))
    async with Sandbox(Options(answers=answers, plan=plan)) as sandbox, aiohttp.ClientSession() as session:
        sesamy = SandboxClient(sandbox, session, sandbox.sesamy_url)
        await sesamy("GET", "/management/users")
        assert {f"X-RateLimit-{one}" for one in ("Limit", "Remaining", "Reset")} <= sesamy.answer_headers.keys()
        status, body = await sesamy("GET", "/management/users")
    assert (status, body["error"]["code"], body["error"]["retry_after"]) == (429, "rate_limit_exceeded", 60)
    got = sesamy.answer_headers.get("Retry-After")
    assert got is None if header is None else header in str(got)


async def test_a_rule_meets_one_contact_only(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.world.add_contact("ola@example.no")
    mailmojo.sandbox.faults.add(Rule(key=KARI, status=500))
    assert await statuses(mailmojo, 2) == [500, 500]
    assert (await mailmojo("GET", "/v1/contacts/ola%40example.no/"))[0] == 200


async def test_a_rule_meets_one_operation_so_many_times(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.faults.add(Rule(operation="get_contact", status=503, times=2))
    assert (await mailmojo("PATCH", AT_KARI, PATCH))[0] == 200
    assert await statuses(mailmojo, 3) == [503, 503, 200]


async def test_an_outage_begins_and_ends_in_its_window(mailmojo: SandboxClient, clock: FakeClock) -> None:
    mailmojo.sandbox.faults.add(Rule(api="mailmojo", status=401, start=10, lasts=5))
    found = []
    for seconds in (9.9, 0.1, 4.9, 0.1):
        clock.now += seconds
        found += await statuses(mailmojo, 1)
    assert found == [200, 401, 401, 200]


async def test_the_same_seed_fails_the_same_requests() -> None:
    def failures(seed: int) -> list[bool]:
        faults = Faults(Plan(rules=(Rule(status=500, rate=0.3),)), seed=seed, clock=lambda: 0.0)
        return [faults.fate("mailmojo", "get_contact", (), "GET").rule is not None for _ in range(MANY)]

    assert failures(1) == failures(1) != failures(2)
    assert 0.2 * MANY < sum(failures(1)) < 0.4 * MANY


@pytest.mark.parametrize(("stage", "left"), [("before", ""), ("after", "1")])
@pytest.mark.parametrize("cut", [True, False])
async def test_a_write_fails_before_or_after_it_took_effect(
    mailmojo: SandboxClient, stage: str, left: str, *, cut: bool
) -> None:
    fault = {"cut": True} if cut else {"status": 504}
    mailmojo.sandbox.faults.add(Rule(operation="patch_contact", stage=stage, times=1, **fault))  # type: ignore[arg-type]
    if cut:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await mailmojo("PATCH", AT_KARI, PATCH)
    else:
        assert (await mailmojo("PATCH", AT_KARI, PATCH))[0] == 504
    assert phone(mailmojo) == left
    record = mailmojo.sandbox.log.records[-1]
    assert (record.status, record.change is not None) == (0 if cut else 504, stage == "after")


@pytest.mark.parametrize(("stage", "left"), [("before", ""), ("after", "1")])
async def test_a_rule_answers_with_any_body(
    mailmojo: SandboxClient, stage: Literal["before", "after"], left: str
) -> None:
    rule = Rule(method="PATCH", body='{"data": null}', headers={"X-Total-Count": "3"}, stage=stage)
    mailmojo.sandbox.faults.add(rule)
    assert await mailmojo("PATCH", AT_KARI, PATCH) == (200, {"data": None})
    assert mailmojo.answer_headers["X-Total-Count"] == "3"
    assert phone(mailmojo) == left
    assert await statuses(mailmojo, 1) == [200]


async def test_a_rule_adds_headers_to_the_right_answer(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.faults.add(Rule(operation="get_contact", headers={"Date": "Mon, 10 Nov 2025 12:00:00 GMT"}))
    status, body = await mailmojo("GET", AT_KARI)
    assert (status, body["email"]) == (200, KARI)
    assert mailmojo.answer_headers["Date"] == "Mon, 10 Nov 2025 12:00:00 GMT"


async def test_a_cut_leaves_no_noise_behind(mailmojo: SandboxClient, caplog: pytest.LogCaptureFixture) -> None:
    mailmojo.sandbox.faults.add(Rule(cut=True, times=1))
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await mailmojo("PATCH", AT_KARI, PATCH)
    assert await statuses(mailmojo, 1) == [200]
    assert not [record for record in caplog.records if record.name.startswith("aiohttp")]


async def test_latency_is_spent_around_the_effect(mailmojo: SandboxClient, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        slept.append((seconds, phone(mailmojo)))
        await sleep(0)

    monkeypatch.setattr("consumer.sandbox.endpoint.asyncio.sleep", note)
    mailmojo.sandbox.faults.set(Plan(latency=3.0, rules=(Rule(key=KARI, delay=1.0),)))
    await mailmojo("PATCH", AT_KARI, PATCH)
    assert slept == [(2.0, ""), (2.0, "1")]


async def test_faults_can_be_ended(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.faults.set(Plan(mailmojo_quota=Quota(rate=0.1, burst=1), rules=(Rule(status=500),)))
    assert await statuses(mailmojo, 1) == [500]
    mailmojo.sandbox.faults.clear()
    assert await statuses(mailmojo, 3) == [200] * 3


async def test_a_client_that_goes_away_is_logged_as_cut(
    mailmojo: SandboxClient, caplog: pytest.LogCaptureFixture
) -> None:
    url = URL(mailmojo.sandbox.mailmojo_url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    head = f"PATCH {AT_KARI} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sandbox-token\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 50\r\n\r\nhalf".encode())
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()
    while not mailmojo.sandbox.log.records:  # noqa: ASYNC110 - the server's side of the socket has no event
        await asyncio.sleep(0.01)
    assert mailmojo.sandbox.log.records[0].status == 0
    assert phone(mailmojo) == ""
    assert not [record for record in caplog.records if record.name.startswith("aiohttp")]


async def test_a_sandbox_that_ends_cuts_open_requests_and_logs_them() -> None:
    async with aiohttp.ClientSession() as session:
        async with Sandbox(Options(plan=Plan(latency=3600))) as sandbox:
            client = SandboxClient(sandbox, session, sandbox.mailmojo_url)
            task = asyncio.create_task(client("PATCH", AT_KARI, PATCH))
            await asyncio.sleep(0.05)
        with pytest.raises(aiohttp.ClientError):
            await task
    assert [record.status for record in sandbox.log.records] == [0]
