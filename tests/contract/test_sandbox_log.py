"""What the request log says of requests, and that each of its questions can be answered with a yes and a no."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from consumer.sandbox import Options, Record, RequestLog, Sandbox
from tests.sandbox_client import SandboxClient

KARI = "kari@example.no"
AT_KARI = "/v1/contacts/kari%40example.no/"


@pytest.fixture
async def mailmojo(tmp_path: Path) -> AsyncIterator[SandboxClient]:
    options = Options(log_file=tmp_path / "log.ndjson")
    async with Sandbox(options) as sandbox, aiohttp.ClientSession() as session:
        client = SandboxClient(sandbox, session, sandbox.mailmojo_url)
        client.headers = {"Authorization": f"Bearer {sandbox.api_token}"}
        yield client


def made(number: int, start: float = 0.0, end: float = 0.0, **more: Any) -> Record:
    values: dict[str, Any] = {
        "number": number,
        "api": "mailmojo",
        "operation": "patch_contact",
        "method": "PATCH",
        "path": AT_KARI,
        "start": start,
        "end": end,
        "start_unix": start,
        "end_unix": end,
        "status": 200,
        "write": True,
        "address": KARI,
    }
    return Record(**values | more)


def log_of(*records: Record) -> RequestLog:
    log = RequestLog()
    log.extend(records)
    return log


async def test_a_write_is_logged_with_versions_of_contact_and_user(mailmojo: SandboxClient) -> None:
    mailmojo.sandbox.world.add_contact(KARI)
    body = {"email": KARI, "tags": ["sesamy_tag_v-000012"], "custom": {"Sesamy User ID": "email|1"}}
    await mailmojo("PATCH", AT_KARI, body)
    await mailmojo("GET", AT_KARI)
    write, read = mailmojo.sandbox.log.records
    assert (write.operation, write.method, write.path, write.status) == ("patch_contact", "PATCH", AT_KARI, 200)
    assert (write.address, write.user_id, write.write, write.change) == (KARI, "email|1", True, 1)
    assert (write.contact_before, write.contact_after, write.user_version) == (1, 2, 12)
    assert (read.contact_before, read.contact_after, read.user_version, read.change) == (2, 2, 12, None)
    assert write.start <= write.end <= read.start
    assert write.start_unix > write.start


async def test_a_post_is_logged_with_its_address_even_when_refused(mailmojo: SandboxClient) -> None:
    await mailmojo("POST", "/v1/lists/7/subscribers/", {"email": "Kari@Example.no", "surname": "x"})
    (record,) = mailmojo.sandbox.log.requests("mailmojo", "post_subscriber", KARI)
    assert (record.status, record.change, len(record.violations)) == (400, None, 1)


async def test_the_file_has_the_same_records(mailmojo: SandboxClient, tmp_path: Path) -> None:
    await mailmojo("GET", AT_KARI)
    await mailmojo("GET", "/nowhere/")
    mailmojo.sandbox.log.close()
    read = RequestLog.read(tmp_path / "log.ndjson")
    assert list(read.records) == list(mailmojo.sandbox.log.records)
    assert list(read.violations) == list(mailmojo.sandbox.log.violations)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tags": ["vip", "b", "sesamy_new"]}, ()),
        ({"tags": ["vip"]}, ("tag:b",)),
        ({"tags": ["b", "vip"]}, ("tags:order",)),
        ({"custom": {"Shoe size": 45}}, ("custom:Shoe size",)),
        ({"custom": {"Shoe size": None}}, ("custom:Shoe size",)),
        ({"custom": {"Issues Remaining": 4}}, ()),
        ({"first_name": "Ola"}, ("first_name",)),
        ({"phone": "1"}, ()),
    ],
)
async def test_a_write_that_harms_what_is_not_ours_says_what(
    mailmojo: SandboxClient, changes: dict[str, Any], expected: tuple[str, ...]
) -> None:
    mailmojo.sandbox.world.add_contact(
        KARI, first_name="Kari", phone=" ", tags=["vip", "sesamy_old", "b"], custom={"Shoe size": 38}
    )
    assert (await mailmojo("PATCH", AT_KARI, {"email": KARI} | changes))[0] == 200
    log = mailmojo.sandbox.log
    assert log.records[-1].damage == expected
    assert bool(log.damaged()) is bool(expected)


def test_writes_of_one_contact_that_are_open_at_once_are_found() -> None:
    apart = log_of(made(1, 0, 1), made(2, 1, 2), made(3, 0.5, 1.5, address="ola@example.no"))
    assert apart.overlapping_writes() == []
    long, short, inside = made(1, 0, 9), made(2, 1, 2), made(3, 5, 6, status=500)
    assert log_of(short, inside, long).overlapping_writes() == [(long, short), (long, inside)]
    assert log_of(long, made(2, 1, 2, write=False)).overlapping_writes() == []


def test_a_write_of_an_older_version_is_found() -> None:
    def write(number: int, version: int, change: int | None = None, **more: Any) -> Record:
        return made(number, change=change or number, user_version=version, user_id="u", **more)

    assert log_of(write(1, 3), write(2, 3), write(3, 4)).backward_writes() == []
    assert log_of(write(1, 4), write(2, 3)).backward_writes()
    assert log_of(write(1, 4, change=2), write(2, 3, change=1)).backward_writes() == []
    assert log_of(write(1, 4), write(2, 3, address="ola@example.no")).backward_writes() == []


def test_the_excess_over_a_quota_is_that_of_the_worst_window() -> None:
    steady = log_of(*(made(n, start=n / 10) for n in range(1, 50)))
    assert steady.excess("mailmojo", rate=10, burst=1) == pytest.approx(0)
    assert steady.excess("sesamy", rate=10, burst=1) == float("-inf")
    burst = log_of(*(made(n, start=100 + max(0, n - 5) / 10) for n in range(1, 50)))
    assert burst.excess("mailmojo", rate=10, burst=1) == pytest.approx(4)
    assert burst.excess("mailmojo", rate=10, burst=5) == pytest.approx(0)


def test_requests_are_counted_per_user() -> None:
    log = log_of(made(1), made(2), made(3, api="sesamy", user_id="u", address=None))
    assert log.calls("mailmojo") == {KARI: 2}
    assert log.calls("sesamy") == {"u": 1}


def test_a_limit_bounds_the_memory_and_since_reads_on() -> None:
    log = RequestLog(limit=30)
    log.extend(made(n) for n in range(1, 101))
    assert 25 < len(log.records) <= 30
    assert [record.number for record in log.since(98)] == [99, 100]
    assert log.count == 100
