"""The admin port of the running service: what it says is what the fakes saw."""

import asyncio
import json
import os
import re
import resource
import signal
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.crowd import REJECTED, crowd
from tests.integration.stage import EVENT_TYPES, Stage, event, stop
from tests.kafka_client import Message
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

ADDRESS_AS_ID = "email|kari.nordmann@example.no"
CONTRACT = Path(__file__).parents[2] / "docs/metrics.md"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def samples(service: ServiceProcess) -> Samples:
    """Return everything that `/metrics` says, without the prefix."""
    _, text = await service.get("/metrics")
    return {
        (sample.name.removeprefix("sesamy_mailmojo_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def by(found: Samples, name: str, *labels: str) -> Counter[tuple[str, ...]]:
    """Return a metric summed up by these labels."""
    counts: Counter[tuple[str, ...]] = Counter()
    for (sample, pairs), value in found.items():
        if sample == name:
            values = dict(pairs)
            counts[tuple(values[label] for label in labels)] += int(value)
    return counts


def open_files(service: ServiceProcess) -> int:
    return len(list(Path(f"/proc/{service.pid}/fd").iterdir()))


async def first_events(service: ServiceProcess, count: int) -> list[dict[str, Any]]:
    """Return the data of the first server-sent events."""
    url = f"http://127.0.0.1:{await service.admin_port()}/events"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        texts = [(await answer.content.readuntil(b"\n\n")).decode() for _ in range(count)]
    return [json.loads(text.partition("data: ")[2]) for text in texts]


async def test_every_metric_is_true_after_traffic(stage: Stage) -> None:
    world = stage.world
    users = stage.users(60)
    world.add_user("guest|1", profile={"email": "guest@example.no"})
    world.add_user("email|silent", profile={})
    # The refused one comes last, and so after every other one of these has been written.
    stage.fail(api="sesamy", operation="get_user", key=users[3], status=503, times=2)
    stage.fail(api="mailmojo", operation="post_subscriber", key="user.0003@example.no", status=422)
    messages = [event(user_id, EVENT_TYPES[n % 8]) for n, user_id in enumerate(users * 2)]
    messages += [event("guest|1"), event("email|silent"), event("email|nobody")]
    messages += [Message(b"x", None), Message(b"x", b"nonsense"), event(users[0], "contract.9#odd")]
    began = time.time()
    places = await stage.send(*messages)
    service = await stage.service()
    await wait_until(
        lambda: stage.log.requests("mailmojo", "post_subscriber", "user.0003@example.no"), what="a refusal"
    )
    # A refusal counts only after a later write of somebody else is accepted.
    users += stage.users(1, "email|later")
    messages.append(event(users[-1]))
    places += await stage.send(messages[-1])
    await stage.all_committed()
    found = await samples(service)  # every answer has arrived by then

    # Every metric of the documented list is served.
    names = {name for name, _ in found}
    listed = re.findall(r"^\| `sesamy_mailmojo_(\w+)` \| (\w+)", CONTRACT.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(listed) > 25
    assert [name for name, kind in listed if (f"{name}_count" if kind == "histogram" else name) not in names] == []

    # Requests: exactly those that the fakes logged, by operation as the client calls it.
    seen = Counter((record.api, str(record.status)) for record in stage.log.records)
    token = seen.pop(("token", "200"))
    seen["sesamy", "200"] += token  # fetched for Sesamy's calls
    assert by(found, "api_requests_total", "api", "status") == seen
    assert by(found, "api_request_duration_seconds_count", "api", "status") == seen

    # Events and syncs.
    ends = await stage.kafka.end_offsets(stage.topic)
    outcomes = by(found, "events_total", "outcome")
    assert outcomes.total() == len(messages)
    assert {name for (name,) in outcomes} >= {"synced", "coalesced", "dead_lettered"}
    assert (outcomes["skipped_guest",], outcomes["skipped_no_email",], outcomes["skipped_unknown_user",]) == (1, 1, 1)
    assert (outcomes["skipped_tombstone",], outcomes["skipped_type",], outcomes["dead_lettered",]) == (1, 1, 2)
    assert by(found, "event_age_seconds_count")[()] == len(messages)
    assert by(found, "dead_letters_total", "reason") == {
        ("malformed",): 1,
        ("rejected",): 1,
        ("exhausted",): 0,
    }
    written = {record.address for record in stage.log.writes()}
    syncs = by(found, "syncs_total", "outcome")
    assert syncs["created",] + syncs["updated",] == by(found, "events_total", "outcome")["synced",]
    assert syncs["created",] + syncs["updated",] >= len(written) == len(users) - 1
    assert syncs["failed",] == by(found, "retries_total")[()] + 1  # the refused one is refused for good the second time

    # The state of things.
    committed = {int(name): value for (name,), value in by(found, "committed_offset", "partition").items()}
    assert committed == ends
    assert by(found, "consumer_lag", "partition") == {(str(partition),): 0 for partition in ends}
    for name in ("users_in_flight", "events_pending", "oldest_pending_seconds", "records_lost_total"):
        assert found[name, frozenset()] == 0, name
    for name in ("order_violations_total", "commit_violations_total", "commit_failures_total", "echo_mismatches_total"):
        assert found[name, frozenset()] == 0, name
    assert found["assigned_partitions", frozenset()] == len(ends) == len({partition for partition, _ in places})
    assert found["rebalances_total", frozenset()] >= 1
    session = float(stage.settings["KAFKA_SESSION_TIMEOUT"])
    assert 0 < found["lease_remaining_seconds", frozenset()] < session
    assert began < found["last_success_timestamp_seconds", frozenset()] <= time.time()
    for api in ("sesamy", "mailmojo"):
        labels = frozenset({("api", api)})
        assert found["quota_share", labels] == 1
        assert found["circuit_open", labels] == 0
        assert found["rate_limit_wait_seconds_count", labels] > 0

    # Bounded label sets: no id, no address, no offset.
    values = defaultdict(set)
    for _, pairs in found:
        for label, value in pairs:
            values[label].add(value)
    assert values["type"] <= {*EVENT_TYPES, "sesamy-mailmojo#sync", "unknown", "none"}
    assert set(values) == {"api", "operation", "status", "type", "outcome", "partition", "reason", "le"} | {
        "version",
        "python",
        "group",
    }
    assert all(re.fullmatch(r"[a-z_]{3,30}", name) for name in values["operation"])
    await stop(service)


async def test_what_waits_is_told_while_it_waits(stage: Stage) -> None:
    users = stage.users(30)
    stage.fail(api="sesamy", operation="get_user", delay=8.0)
    service = await stage.service(SYNC_CONCURRENCY="4", SESAMY_REQUESTS_PER_MINUTE="6000")
    await stage.send(*(event(user_id) for user_id in users))

    async def busy() -> bool:
        return await service.metric("users_in_flight") == 4

    await wait_until(busy, what="four users are in flight")
    await asyncio.sleep(0.5)
    found, status = await samples(service), await service.status()
    assert found["events_pending", frozenset()] == status["events_pending"] == len(users)
    assert found["oldest_pending_seconds", frozenset()] >= 0.5
    assert by(found, "consumer_lag").total() == len(users)
    assert (status["waits"]["reading"], status["waits"]["ready"]) == (4, len(users) - 4)
    assert status["verdict"]["state"] in {"good", "busy"}
    stage.heal()
    await stage.all_committed()
    await stop(service)


async def test_the_page_and_its_stream_tell_of_writes_and_dead_letters_and_of_nobody(stage: Stage) -> None:
    stage.world.add_user(ADDRESS_AS_ID, profile={"email": "kari.nordmann@example.no", "firstName": "Kari"})
    stage.world.add_user("email|ola@example.no", profile={"email": "ola@example.no"})
    stage.fail(api="mailmojo", operation="post_subscriber", key="ola@example.no", status=422)
    service = await stage.service(LOG_LEVEL="debug")
    await stage.send(event("email|ola@example.no"))
    await wait_until(lambda: len(stage.log.requests("mailmojo", "post_subscriber")) >= 2, what="it was refused twice")
    await stage.send(event(ADDRESS_AS_ID), event("email|per@example.no"))  # a write that is accepted is the evidence
    await stage.all_committed()

    async def is_sampled() -> bool:
        return bool((await first_events(service, 1))[0]["done"])

    await wait_until(is_sampled, what="the history holds a first sample")
    history, status = await first_events(service, 2)
    assert len(history["done"]) == len(history["behind"]) > 0
    assert [write["user_id"] for write in status["recent_writes"]] == ["e***@example.no"]
    assert [letter["reason"] for letter in status["recent_dead_letters"]] == ["rejected"]
    assert status["verdict"]["headline"] == "Up to date"
    pages = [json.dumps([history, status]), service.output()]
    pages += [(await service.get(path))[1] for path in ("/status", "/metrics", "/readyz", "/livez", "/")]
    for page in pages:
        stage.assert_discreet(page)
        assert "nordmann" not in page
    # From the event to its sync: who, where it lay, and what it did.
    (write,) = await service.logged("contact.written")
    assert {"user_id", "partition", "offsets", "events", "action", "fields", "tags_added", "tags_removed"} <= set(write)
    # Whom Sesamy does not know is passed over in silence.
    await stop(service)  # and so its log is complete
    assert not [line for line in service.events() if line["level"] != "debug" and "p***@" in json.dumps(line)]


async def test_a_topic_of_nonsense_fills_no_log(stage: Stage) -> None:
    service = await stage.service()
    await stage.send(*(Message(b"x", b"nonsense %d" % number) for number in range(500)))
    await stage.all_committed()
    assert await service.metric("dead_letters_total", reason="malformed") == 500
    await stop(service)  # and so its log is complete
    assert 1 <= len(service.events("dead_letter.stored")) <= 20


async def test_a_frozen_loop_answers_no_probe_until_it_thaws(stage: Stage) -> None:
    service = await stage.service()
    assert (await service.get("/livez"))[0] == 200
    os.kill(service.pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            await service.get("/livez", within=1)
    finally:
        os.kill(service.pid, signal.SIGCONT)
    await wait_until(lambda: answers(service), what="/livez answers 200")
    await stop(service)


async def answers(service: ServiceProcess) -> bool:
    return (await service.get("/livez"))[0] == 200


async def test_refused_credentials_make_it_unready_with_that_reason_and_it_recovers(stage: Stage) -> None:
    users = stage.users(5)
    service = await stage.service()
    stage.fail(api="mailmojo", status=401)
    await stage.send(*(event(user_id) for user_id in users))

    async def unready() -> bool:
        return (await service.get("/readyz"))[0] == 503

    await wait_until(unready, what="/readyz answers 503")
    said = json.loads((await service.get("/readyz"))[1])
    assert said["ready"] is False
    assert "401" in said["reasons"]["mailmojo"]
    assert "MAILMOJO_API_TOKEN" in said["reasons"]["mailmojo"]
    assert (await service.get("/livez"))[0] == 200
    status = await service.status()
    assert status["verdict"]["headline"].startswith("Held up, waiting for Mailmojo get_contact (HTTP 401 since ")
    (call,) = said["calls"]
    assert (call["api"], call["operation"], call["status"]) == ("mailmojo", "get_contact", 401)
    assert status["apis"]["mailmojo"]["circuit_open"] is True
    assert status["apis"]["mailmojo"]["answers"]["failed"] > 0
    stage.heal()
    await service.ready()
    await stage.all_committed()
    assert (await service.status())["verdict"]["state"] == "good"
    await stop(service)


async def test_open_streams_do_not_delay_a_shutdown(stage: Stage) -> None:
    service = await stage.service(SHUTDOWN_TIMEOUT="40")
    url = f"http://127.0.0.1:{await service.admin_port()}/events"
    async with aiohttp.ClientSession() as session:
        streams = [await session.get(url) for _ in range(5)]
        await streams[0].content.readuntil(b"event: status")
        began = time.monotonic()
        await stop(service)
        assert time.monotonic() - began < 20
        for stream in streams:
            stream.close()


@pytest.mark.parametrize("first", [b"", REJECTED])
async def test_p4_half_requests_to_the_admin_port_stop_neither_the_service_nor_its_probes(
    stage: Stage, first: bytes
) -> None:
    users = stage.users(200)
    service = stage.start()
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (256, 256))
    await service.ready()
    async with crowd(await service.admin_port(), 306, first):
        await stage.send(*(event(user_id) for user_id in users))
        assert (await service.get("/livez"))[0] == 200
        await stage.all_committed(within=40)
        assert stage.stale(users) == {}
        assert (await service.get("/readyz"))[0] == 200
        assert open_files(service) < 250
    await stop(service)
