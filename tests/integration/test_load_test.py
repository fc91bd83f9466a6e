"""`load-test` against a real broker: its figures are those of the sandbox's log, and it leaves nothing behind."""

import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.integration.test_commands import groups, topics
from tests.kafka_broker import KafkaBroker
from tests.kafka_client import Message
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

Start = Callable[..., ServiceProcess]
NewTopic = Callable[..., Awaitable[str]]

SMALL = ("--instances", "2", "--partitions", "4", "--latency", "0.005", "--json")
BRISK = {"SYNC_LINGER": "0.2", "KAFKA_SESSION_TIMEOUT": "10"}


def result(process: ServiceProcess) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(process.stdout.read_bytes())
    return found


def children(process: ServiceProcess, command: str) -> list[int]:
    """Return the processes that it started with this command."""
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in pids if f"\0{command}\0".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]


def runs(pid: int) -> bool:
    return Path("/proc", str(pid)).exists()


async def left_behind(kafka: KafkaBroker) -> set[str]:
    """Return topics and groups of load tests."""
    return {name for name in await topics(kafka) | await groups(kafka) if name.startswith("load-test-")}


async def removed(kafka: KafkaBroker, before: set[str]) -> None:
    """Wait until nothing is left of a load test that has ended: brokers remove topics a moment after they say so."""

    async def gone() -> bool:
        return await left_behind(kafka) <= before

    await wait_until(gone, what="topics and group are removed")


async def replaying(kafka: KafkaBroker, before: set[str]) -> None:
    """Wait until a load test that was not there before has sent some events: its instances are in the group then."""

    async def some_sent() -> bool:
        found = await left_behind(kafka) - before
        ends = [await kafka.end_offsets(name) for name in found & await topics(kafka) if "dead" not in name]
        return any(sum(end.values()) > 50 for end in ends)

    await wait_until(some_sent, 60, what="the replay has begun")


async def test_the_figures_are_those_of_the_sandboxs_log(
    kafka: KafkaBroker, service_process: Start, tmp_path: Path
) -> None:
    kept, written = tmp_path / "kept", tmp_path / "report"
    load = ("--events", "2000", "--users", "200", "--zipf", "--rate", "400")
    quota = ("--sesamy-per-minute", "30000", "--mailmojo-per-second", "500")
    files = ("--keep", str(kept), "--report", str(written))
    process = service_process("load-test", *SMALL, *load, *quota, *files, **BRISK)
    assert await process.exit_code(90) == 0, process.output()
    report = result(process)
    assert report["failures"] == []
    assert report == msgspec.json.decode((written / "report.json").read_bytes())
    assert (written / "report.html").read_text().startswith("<!doctype html>")

    log = [msgspec.json.decode(line) for line in (kept / "requests.ndjson").read_bytes().splitlines()]
    kinds = Counter((one["operation"], one["status"]) for one in log)
    names = {"add_subscriber": "post_subscriber", "get_token": "token"}
    told = {(names.get(it["operation"], it["operation"]), int(it["status"])): it for it in report["requests"]}
    assert {kind: it["log"] for kind, it in told.items()} == kinds
    assert {kind: it["program"] for kind, it in told.items()} == kinds
    users = Counter(one["user_id"] for one in log if one["api"] == "sesamy")
    (sesamy, _) = report["per_user"]
    assert sesamy["mean"] == pytest.approx(users.total() / len(users), abs=0.01)
    assert sesamy["requests"]["max"] == max(users.values())
    applied = sum(one.get("change") is not None for one in log)
    assert 0 < report["syncs"]["written"] <= applied
    reads = kinds["get_user", 200]
    assert sum(report["syncs"][name] for name in ("written", "unchanged", "skipped", "unfinished")) == reads
    quotas = {use["api"]: use for use in report["quotas"]}
    assert quotas["sesamy"]["refused"] == kinds["get_user", 429] == 0
    starts = sorted(one["start"] for one in log if one["api"] == "mailmojo")
    assert quotas["mailmojo"]["used"] == pytest.approx(len(starts) / (5 + 500 * (starts[-1] - starts[0])), abs=1e-3)

    (topic,) = [name for name in await left_behind(kafka) if not name.endswith(".dead-letters")]
    assert process.stderr.read_text() == f"kept: topics {topic} and {topic}.dead-letters, group {topic}\n"
    assert report["events"]["published"] == len(await kafka.read_all(topic)) == 2000
    assert report["events"]["lost"] == 0
    assert sum(report["events"]["outcomes"].values()) == 2000
    assert report["latency"]["count"] == report["events"]["synced"] + report["events"]["skipped"]
    assert 0 < report["latency"]["p50"] <= report["latency"]["p99"] <= report["latency"]["max"]
    assert max(it["process"]["peak_rss_mib"] for it in report["instances"]) > 10
    for name in (topic, f"{topic}.dead-letters"):
        await kafka.delete_topic(name)


async def test_what_is_kept_is_named_though_the_load_test_fails(
    kafka: KafkaBroker, service_process: Start, tmp_path: Path
) -> None:
    before = await left_behind(kafka)
    process = service_process("load-test", "--from", "topic:no.such.topic", "--keep", str(tmp_path / "kept"))
    assert await process.exit_code(60) == 1
    kept, complaint = process.stderr.read_text().splitlines()
    assert "topic no.such.topic does not exist" in complaint
    topic, letters = sorted(await left_behind(kafka) - before)
    assert kept == f"kept: topics {topic} and {letters}, group {topic}"
    for name in (topic, letters):
        await kafka.delete_topic(name)


async def test_an_instance_that_dies_makes_it_fail_though_the_others_do_its_work(
    kafka: KafkaBroker, service_process: Start
) -> None:
    before = await left_behind(kafka)
    load = ("--events", "3000", "--users", "500", "--rate", "250")
    process = service_process("load-test", *SMALL, *load, **BRISK)
    await replaying(kafka, before)
    os.kill(children(process, "run")[0], signal.SIGKILL)
    assert await process.exit_code(110) == 1, process.output()
    report = result(process)
    assert "instance 1 ended with exit code -9 before the end" in report["failures"]
    assert report["events"]["lost"] == 0
    assert [(one["exit_code"], one["died"]) for one in report["instances"]] == [(-9, True), (0, False)]
    await removed(kafka, before)


async def test_when_it_is_interrupted_nothing_of_it_stays(kafka: KafkaBroker, service_process: Start) -> None:
    before = await left_behind(kafka)
    process = service_process("load-test", *SMALL, "--rate", "100", **BRISK)
    await replaying(kafka, before)
    pids = [*children(process, "run"), *children(process, "sandbox")]
    os.kill(process.pid, signal.SIGINT)
    assert await process.exit_code() == 130, process.output()
    assert not any(runs(pid) for pid in pids)
    assert process.output() == ""
    await removed(kafka, before)


async def test_recorded_events_are_replayed_from_a_topic_which_stays_as_it_was(
    kafka: KafkaBroker, topic: NewTopic, service_process: Start
) -> None:
    real = await topic(3)
    event = b'{"eventType": "%s", "vendorId": "v", "userId": "email|%d"}'
    odd = [
        Message(b"email|1", None),
        Message(b"email|1", b"no event"),
        Message(b"email|1", event % (b"other#type", 1)),
        Message(b"guest|1", b'{"eventType": "contract.1#update", "vendorId": "v", "userId": "guest|1"}'),
    ]
    good = [Message(b"email|%d" % (n % 7), event % (b"contract.1#update", n % 7)) for n in range(60)]
    await kafka.produce(real, [*good, *odd])
    before = await left_behind(kafka)
    recorded = ("--from", f"topic:{real}", "--max", "--backlog", "--changes", "0.5")
    process = service_process("load-test", *SMALL, *recorded, **BRISK, KAFKA_TOPIC=real)
    assert await process.exit_code(90) == 0, process.output()
    report = result(process)
    expected = {"published": 64, "synced": 60, "skipped": 0, "unread": 3, "dead_lettered": 1, "lost": 0, "users": 7}
    assert {name: report["events"][name] for name in expected} == expected
    assert report["events"]["outcomes"]["skipped_tombstone"] == report["events"]["outcomes"]["skipped_type"] == 1
    assert len(await kafka.read_all(real)) == 64
    assert real not in await groups(kafka)
    await removed(kafka, before)
