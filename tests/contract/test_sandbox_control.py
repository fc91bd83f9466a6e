"""The control endpoint, and the command that serves the fakes as a process of their own."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.request import Request, urlopen

import aiohttp
import pytest

from consumer.sandbox import Options, Plan, Sandbox
from tests.sandbox_client import SandboxClient


@pytest.fixture
async def control() -> AsyncIterator[SandboxClient]:
    async with Sandbox(Options()) as sandbox, aiohttp.ClientSession() as session:
        yield SandboxClient(sandbox, session, sandbox.control_url)


async def test_a_user_is_added_changed_read_and_removed(control: SandboxClient) -> None:
    profile = {"email": "kari@example.no"}
    assert await control("POST", "/users/email%7C1", {"profile": profile}) == (200, {"version": 1})
    assert await control("POST", "/users/email%7C1", {"contracts": [{"id": "c"}]}) == (200, {"version": 2})
    _, user = await control("GET", "/users/email%7C1")
    assert (user["version"], user["profile"]["email"], user["contracts"]) == (2, "kari@example.no", [{"id": "c"}])
    assert (await control("GET", "/users"))[1] == [{"id": "email|1", "version": 2}]
    await control("DELETE", "/users/email%7C1")
    assert (await control("GET", "/users/email%7C1"))[0] == 404


async def test_a_contact_is_added_edited_read_and_removed(control: SandboxClient) -> None:
    await control("PUT", "/contacts/a%2Bb%40x.no", {"tags": ["vip"], "custom": {"Shoe size": 44}})
    _, contact = await control("PATCH", "/contacts/a%2Bb%40x.no", {"tags": ["vip", "new"]})
    assert (contact["tags"], contact["custom"], contact["version"]) == (["vip", "new"], {"Shoe size": 44}, 2)
    assert (await control("GET", "/contacts?limit=5"))[1] == [contact]
    await control("DELETE", "/contacts/a%2Bb%40x.no")
    assert (await control("GET", "/contacts/a%2Bb%40x.no"))[0] == 404


async def test_the_log_is_read_on_from_a_number(control: SandboxClient) -> None:
    async with aiohttp.ClientSession() as session:
        mailmojo = SandboxClient(control.sandbox, session, control.sandbox.mailmojo_url)
        for _ in range(3):
            await mailmojo("GET", "/")
        await mailmojo("GET", "/nowhere/")
    await control("GET", "/log?since=2")
    assert [json.loads(line)["number"] for line in control.answer_text.splitlines()] == [3, 4]
    assert [one["number"] for one in (await control("GET", "/violations"))[1]] == [4]
    assert (await control("GET", "/"))[1]["requests"] == 4


async def test_faults_are_replaced_added_and_ended(control: SandboxClient) -> None:
    await control("PUT", "/faults", {"latency": 0.5, "mailmojo_quota": {"rate": 5, "burst": 5}})
    _, plan = await control("POST", "/faults", {"api": "mailmojo", "status": 500})
    assert (plan["latency"], plan["mailmojo_quota"]["rate"], plan["rules"][0]["status"]) == (0.5, 5, 500)
    await control("DELETE", "/faults")
    assert control.sandbox.faults.plan == Plan()
    assert control.sandbox.faults.rules == ()


@pytest.mark.parametrize("target", ["/faults", "/users/u"])
async def test_what_the_control_endpoint_does_not_know_is_refused_by_name(control: SandboxClient, target: str) -> None:
    status, body = await control("POST", target, {"wrong": 1})
    assert status == 400
    assert "wrong" in body["error"]


async def test_tokens_are_revoked(control: SandboxClient) -> None:
    async with aiohttp.ClientSession() as session:
        sesamy = SandboxClient(control.sandbox, session, control.sandbox.sesamy_url)
        form = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox-secret"}
        _, token = await sesamy("POST", "/oauth/token", data=form)
        sesamy.headers = {"Authorization": f"Bearer {token['access_token']}"}
        assert (await sesamy("GET", "/management/users"))[0] == 200
        await control("DELETE", "/tokens")
        assert (await sesamy("GET", "/management/users"))[0] == 401


def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    ports = ["--sesamy-port", "0", "--mailmojo-port", "0", "--control-port", "0"]
    log = tmp_path / "log.ndjson"
    command = [sys.executable, "-m", "consumer", "sandbox", *ports, "--users", "20", "--json", "--log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            said = json.loads(process.stdout.readline())
            environment = said["environment"]
            token = {"Authorization": f"Bearer {environment['MAILMOJO_API_TOKEN']}"}
            url = f"{environment['MAILMOJO_API_URL']}/v1/lists/{environment['MAILMOJO_LIST_ID']}/"
            with urlopen(Request(url, headers=token)) as answer:
                assert json.load(answer)["id"] == 7
            with urlopen(f"{said['control_url']}/users") as answer:
                assert len(json.load(answer)) == 20
        finally:
            process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "1 requests, 0 violations" in complaints
    assert json.loads(log.read_text())["operation"] == "get_list"


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--answer", "custom=append"], "custom is one of merge, replace"),
        (["--fault", "colour=red"], "colour"),
        (["--fault", "status=7"], "status"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(args: list[str], text: str) -> None:
    command = [sys.executable, "-m", "consumer", "sandbox", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1
