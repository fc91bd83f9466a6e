"""Dead letters, from the poison to an empty list."""

import json
import os
import signal
from typing import Any

import pytest

from consumer.dead_letters.stored import RETRIES_HEADER
from tests.integration.oracle import address
from tests.integration.stage import Stage, event, headers, stop
from tests.kafka_client import Message
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

BAD = Message(b"email|odd", b"not JSON: kari.nordmann@x.no", headers=(("trace", b"1"),))


def lines(process: ServiceProcess) -> list[dict[str, Any]]:
    assert process.returncode == 0, process.output()
    return [json.loads(line) for line in process.stdout.read_text().splitlines()]


async def listed(stage: Stage, *options: str) -> list[dict[str, Any]]:
    return lines(await stage.finish("dead-letters", "list", "--json", *options))


async def test_poison_is_listed_put_back_and_synced_and_then_nothing_is_left_to_put_back(stage: Stage) -> None:
    users = stage.users(12)
    sick, fine = users[:3], users[3:]
    for user_id in sick:
        stage.fail(api="mailmojo", key=address(stage.user(user_id)), status=400)
    service = await stage.service()
    await stage.send(*(event(user_id) for user_id in users), BAD)
    await stage.all_committed()

    found = await listed(stage)
    assert sorted((letter["reason"], letter["user_id"]) for letter in found) == [
        ("malformed", "email|odd"),
        *(("rejected", user_id) for user_id in sick),
    ]
    assert [letter["user_id"] for letter in await listed(stage, "--user", sick[1])] == [sick[1]]
    assert await listed(stage, "--until", "2020-01-01") == []
    (odd,) = await listed(stage, "--reason", "malformed", "--since", "1h")
    shown = await stage.finish("dead-letters", "show", odd["place"])
    assert "28 bytes that are no event" in shown.output()
    stage.assert_discreet(shown.output())

    before = await stage.kafka.read_all(stage.topic)
    dry = await stage.finish("dead-letters", "retry", "--dry-run")
    assert "4 would be put back" in dry.output()
    assert len(await stage.kafka.read_all(stage.topic)) == len(before)
    assert len(await listed(stage)) == 4

    stage.heal()
    retry = await stage.finish("dead-letters", "retry", "--reason", "rejected", "--yes", "--json")
    assert lines(retry) == [{"chosen": 3, "reasons": {"rejected": 3}, "left_out": {}, "put_back": 3, "complete": True}]
    await stage.all_committed()
    assert stage.stale([*sick, *fine]) == {}
    assert [letter["user_id"] for letter in await listed(stage)] == ["email|odd"]
    assert len(await listed(stage, "--all")) == 4

    assert (
        lines(await stage.finish("dead-letters", "retry", "--reason", "rejected", "--yes", "--json"))[0]["put_back"]
        == 0
    )
    await stop(service)


async def test_what_is_put_back_is_the_record_as_it_was_and_is_guarded_against_coming_back_for_ever(
    stage: Stage,
) -> None:
    service = await stage.service()
    await stage.send(BAD)
    await stage.all_committed()
    for count in (1, 2):
        retry = await stage.finish("dead-letters", "retry", "--yes", "--max-retries", "2")
        assert "1 to be put back" in retry.output()
        await stage.all_committed()
        record = (await _by_time(stage))[-1]
        assert (record.key, record.value) == (BAD.key, BAD.value)
        assert list(record.headers) == [*BAD.headers, (RETRIES_HEADER, b"%d" % count)]

    (last,) = await listed(stage)
    assert (last["retries"], last["state"]) == (2, "open")
    refused = await stage.finish("dead-letters", "retry", "--yes", "--max-retries", "2")
    assert "0 to be put back" in refused.output()
    assert "1 left out: put back 2 times before" in refused.output()
    assert len(await stage.kafka.read_all(stage.topic)) == 3
    await stop(service)


async def test_a_letter_without_its_value_is_left_out_and_its_user_can_be_asked_for(stage: Stage) -> None:
    marks = {"reason": "malformed", "topic": stage.topic, "partition": "0", "offset": "5", "truncated": "true"}
    letter = Message(b"email|big", None, tuple((f"dead-letter-{name}", text.encode()) for name, text in marks.items()))
    await stage.kafka.produce(f"{stage.topic}.dead-letters", [letter])
    (found,) = await listed(stage)
    assert (found["truncated"], found["user_id"]) == (True, "email|big")
    retry = await stage.finish("dead-letters", "retry", "--yes")
    assert "1 left out: without their value" in retry.output()
    assert await stage.kafka.read_all(stage.topic) == []


async def test_an_export_holds_the_letters_exactly_when_asked_to_and_masked_otherwise(stage: Stage) -> None:
    service = await stage.service()
    await stage.send(BAD, Message(None, b"\xff\x00"))
    await stage.all_committed()
    await stop(service)

    masked = await stage.finish("dead-letters", "export")
    assert len(lines(masked)) == 2
    stage.assert_discreet(masked.output())

    file = masked.stdout.parent / "letters.ndjson"
    exact = await stage.finish("dead-letters", "export", "--unmasked", "--to", str(file))
    assert "2 dead letters exported" in exact.output()
    found = {(line.get("key"), json.dumps(line["value"])) for line in map(json.loads, file.read_text().splitlines())}
    assert found == {("email|odd", json.dumps("not JSON: kari.nordmann@x.no")), (None, '{"base64": "/wA="}')}
    again = await stage.finish("dead-letters", "export", "--to", str(file))
    assert again.returncode == 2
    assert "exists" in again.output()


def letter(stage: Stage, number: int) -> Message:
    """Return a dead letter as the service stores it."""
    original = event(f"email|letter-{number}", partition=0)
    marks = {"reason": "rejected", "error": "Rejected: no", "topic": stage.topic, "partition": "0", "offset": "5"}
    return original._replace(headers=tuple((f"dead-letter-{name}", text.encode()) for name, text in marks.items()))


async def put_back(stage: Stage) -> list[bytes | None]:
    """Return the keys of what a service reads from the topic."""
    return [record.key for record in await stage.kafka.read_all(stage.topic, isolation_level="read_committed")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
async def test_a_retry_that_is_interrupted_and_run_again_puts_nothing_back_twice_and_leaves_nothing_out(
    stage: Stage, number: signal.Signals
) -> None:
    letters = [letter(stage, n) for n in range(3_000)]
    await stage.kafka.produce(f"{stage.topic}.dead-letters", letters)
    for goal in (200, 1_200):
        retry = stage.start("dead-letters", "retry", "--yes", "--json")

        async def begun(goal: int = goal) -> bool:
            return sum((await stage.kafka.end_offsets(stage.topic)).values()) > goal

        await wait_until(begun, what="some letters are put back")
        os.kill(retry.pid, number)
        code = await retry.exit_code()
        if number is signal.SIGKILL:
            continue
        assert code == 130, retry.output()
        assert json.loads(retry.stdout.read_text())["complete"] is False
        assert "Traceback" not in retry.output()
    assert 0 < len(await put_back(stage)) < len(letters), "it was too quick, or too slow, to be interrupted"
    rest = lines(await stage.finish("dead-letters", "retry", "--yes", "--json"))[0]
    assert rest["put_back"] == rest["chosen"] < len(letters)
    assert sorted(map(str, await put_back(stage))) == sorted(str(one.key) for one in letters)
    assert await listed(stage) == []


async def test_two_retries_at_once_put_each_letter_back_once(stage: Stage) -> None:
    letters = [letter(stage, n) for n in range(3_000)]
    await stage.kafka.produce(f"{stage.topic}.dead-letters", letters)
    both = [stage.start("dead-letters", "retry", "--yes") for _ in range(2)]
    codes = sorted([await one.exit_code() for one in both])
    assert codes in ([0, 0], [0, 1])
    if 1 in codes:
        assert any("another retry" in one.output() for one in both), [one.output() for one in both]
    assert sorted(map(str, await put_back(stage))) == sorted(str(one.key) for one in letters)
    assert await listed(stage) == []


async def _by_time(stage: Stage) -> list[Any]:
    assert all("dead-letter-reason" not in headers(record) for record in await stage.kafka.read_all(stage.topic))
    return sorted(await stage.kafka.read_all(stage.topic), key=lambda record: (record.timestamp, record.offset))


async def test_a_dismissed_letter_is_not_listed_any_more_and_never_put_back(stage: Stage) -> None:
    letters = f"{stage.topic}.dead-letters"

    def letter(user_id: str, reason: str, error: str) -> Message:
        marks = {"reason": reason, "error": error, "topic": stage.topic, "at": "2026-01-02T03:04:05.000+00:00"}
        headers = tuple((f"dead-letter-{name}", text.encode()) for name, text in marks.items())
        return Message(user_id.encode(), event(user_id).value, headers)

    await stage.kafka.produce(
        letters,
        [
            letter("email|1", "rejected", "400 bad phone"),
            letter("email|2", "rejected", "400 bad phone"),
            letter("email|3", "exhausted", "503"),
        ],
    )
    summary = lines(await stage.finish("dead-letters", "summary", "--json"))
    at = "2026-01-02T03:04:05.000+00:00"
    assert summary == [
        {"reason": "rejected", "error": "400 bad phone", "count": 2, "users": 2, "oldest": at, "newest": at},
        {"reason": "exhausted", "error": "503", "count": 1, "users": 1, "oldest": at, "newest": at},
    ]

    dry = await stage.finish("dead-letters", "dismiss", "--user", "email|2", "--dry-run")
    assert "1 would be dismissed: 1 rejected" in dry.output()
    assert len(await listed(stage)) == 3
    dismissed = await stage.finish("dead-letters", "dismiss", "--user", "email|2", "--yes", "--json")
    assert lines(dismissed) == [{"chosen": 1, "reasons": {"rejected": 1}, "dismissed": 1}]
    assert [found["user_id"] for found in await listed(stage)] == ["email|1", "email|3"]

    # Neither by a plain retry nor by one that repeats, and what is put back is not dismissed afterwards.
    retry = await stage.finish("dead-letters", "retry", "--again", "--yes", "--json")
    assert lines(retry)[0]["put_back"] == 2
    assert [record.key for record in await stage.kafka.read_all(stage.topic)] == [b"email|1", b"email|3"]
    assert lines(await stage.finish("dead-letters", "dismiss", "--yes", "--json"))[0]["chosen"] == 0
    states = {found["user_id"]: found["state"] for found in await listed(stage, "--all")}
    assert states == {"email|1": "republished", "email|2": "dismissed", "email|3": "republished"}

    # Marks stay right when more letters come.
    await stage.kafka.produce(letters, [letter("email|4", "rejected", "400 bad phone")])
    assert [found["user_id"] for found in await listed(stage)] == ["email|4"]
    assert lines(await stage.finish("dead-letters", "dismiss", "--yes", "--json"))[0]["dismissed"] == 1
    assert await listed(stage) == []
