"""Replays on a real broker: what arrives is what was recorded, in the order of each key."""

import json
import os
import signal
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from consumer.cli.options import shown_instant
from consumer.replay.record import from_line
from tests.integration.stage import Stage, event
from tests.kafka_broker import KafkaBroker
from tests.kafka_client import Message, Record
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

Start = Callable[..., ServiceProcess]
NewTopic = Callable[..., Awaitable[str]]


def messages(count: int, keys: int) -> list[Message]:
    """Return events of so many users, numbered, some odd ones among them."""
    odd = [Message(None, b"\xff\x00 no event"), Message(b"email|gone", None, (("why", b"left"),))]
    return [*(event(f"email|{n % keys}", contractId=f"c{n}") for n in range(count)), *odd]


def by_key(records: Iterable[Any]) -> dict[bytes | None, list[bytes | None]]:
    found: dict[bytes | None, list[bytes | None]] = defaultdict(list)
    for record in records:
        found[record.key].append(record.value)
    return found


def without_time(record: Record) -> list[tuple[str, bytes]]:
    return [(name, value) for name, value in record.headers if name != "replay-timestamp"]


async def replayed(start: Start, *arguments: str, within: float = 50) -> dict[str, Any]:
    process = start("replay", "--json", *arguments)
    assert await process.exit_code(within) == 0, process.output()
    summary: dict[str, Any] = json.loads(process.stdout.read_text())
    return summary


async def test_keys_headers_times_and_the_order_of_each_key_survive_topics_and_files(
    kafka: KafkaBroker, topic: NewTopic, service_process: Start, tmp_path: Path
) -> None:
    source, direct, through = await topic(5), await topic(3), await topic(7)
    sent = messages(20_000, 300)
    await kafka.produce(source, sent)
    recorded = await kafka.read_all(source)
    times = {(record.key, record.value): record.timestamp for record in recorded}

    summary = await replayed(service_process, "--from", f"topic:{source}", "--to", f"topic:{direct}", "--max")
    assert (summary["read"], summary["stored"], summary["complete"]) == (len(sent), len(sent), True)
    file = tmp_path / "recording.ndjson"
    await replayed(service_process, "--from", f"topic:{source}", "--to", str(file))
    lines = [from_line(line) for line in file.read_bytes().splitlines()]
    assert [line.timestamp for line in lines] == sorted(times.values())
    await replayed(service_process, "--from", str(file), "--to", f"topic:{through}", "--max")

    for name in (direct, through):
        arrived = await kafka.read_all(name)
        assert by_key(arrived) == by_key(recorded) == by_key(sent)
        assert all(int(dict(one.headers)["replay-timestamp"]) == times[one.key, one.value] for one in arrived)
        (gone,) = (one for one in arrived if one.key == b"email|gone")
        assert without_time(gone) == [("why", b"left")]
        partitions: dict[bytes, set[int]] = defaultdict(set)
        for one in arrived:
            if one.key is not None:
                partitions[one.key].add(one.partition)
        assert {len(places) for places in partitions.values()} == {1}


async def test_a_rate_is_kept(kafka: KafkaBroker, topic: NewTopic, service_process: Start) -> None:
    source, target = await topic(4), await topic(4)
    await kafka.produce(source, messages(4_999, 100))
    summary = await replayed(
        service_process, "--from", f"topic:{source}", "--to", f"topic:{target}", "--rate", "1000", "--limit", "5000"
    )
    stamps = sorted(record.timestamp for record in await kafka.read_all(target))
    assert len(stamps) == 5000
    assert abs((stamps[-1] - stamps[0]) / 4999 - 1) < 0.01  # milliseconds between two
    assert summary["lateness_most"] < 1.0


async def test_part_of_a_topic_is_replayed_at_its_own_pace(
    kafka: KafkaBroker, topic: NewTopic, service_process: Start, tmp_path: Path
) -> None:
    file, target = tmp_path / "f.ndjson", await topic(2)
    lines = [{"key": f"u{n % 3}", "value": str(n), "timestamp": 1_000_000 + 500 * n} for n in range(9)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    since, until = "1970-01-01T00:16:41Z", "1970-01-01T00:16:44Z"
    arguments = ("--from", str(file), "--to", f"topic:{target}", "--speed", "2", "--since", since, "--until", until)
    await replayed(service_process, *arguments)
    records = sorted(await kafka.read_all(target), key=lambda record: record.timestamp)
    assert [record.value for record in records] == [str(n).encode() for n in range(2, 8)]
    assert abs(records[-1].timestamp - records[0].timestamp - 1250) < 150

    part = tmp_path / "part.ndjson"
    middle = (records[2].timestamp + records[3].timestamp) // 2
    await replayed(service_process, "--from", f"topic:{target}", "--to", str(part), "--since", shown_instant(middle))
    assert [from_line(line).value for line in part.read_bytes().splitlines()] == [b"5", b"6", b"7"]


async def test_a_signal_stops_it_and_what_it_counts_is_stored(
    kafka: KafkaBroker, topic: NewTopic, service_process: Start
) -> None:
    source, target = await topic(2), await topic(2)
    await kafka.produce(source, messages(5_000, 50))
    process = service_process(
        "replay", "--json", "--from", f"topic:{source}", "--to", f"topic:{target}", "--rate", "500"
    )

    async def begun() -> bool:
        return sum((await kafka.end_offsets(target)).values()) > 100

    await wait_until(begun, what="a hundred records replayed")
    os.kill(process.pid, signal.SIGINT)
    assert await process.exit_code() == 130, process.output()
    summary = json.loads(process.stdout.read_text())
    assert summary["complete"] is False
    assert summary["stored"] == len(await kafka.read_all(target)) < 5_000
    assert "Traceback" not in process.output()


async def test_a_broker_that_restarts_delays_a_replay_and_loses_nothing(
    kafka: KafkaBroker, topic: NewTopic, service_process: Start, tmp_path: Path
) -> None:
    target, file = await topic(3), tmp_path / "f.ndjson"
    lines = [{"key": f"u{n % 40}", "value": str(n)} for n in range(4_000)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    process = service_process("replay", "--json", "--from", str(file), "--to", f"topic:{target}", "--rate", "1000")

    async def begun() -> bool:
        return sum((await kafka.end_offsets(target)).values()) > 500

    await wait_until(begun, what="some records replayed")
    kafka.restart()
    assert await process.exit_code(60) == 0, process.output()
    found = by_key(await kafka.read_all(target))
    assert found == {f"u{n}".encode(): [str(m).encode() for m in range(n, 4_000, 40)] for n in range(40)}
    assert json.loads(process.stdout.read_text())["lateness_most"] > 0.5


async def test_a_broker_that_stays_away_is_said_in_one_line(
    kafka: KafkaBroker, topic: NewTopic, service_process: Start, tmp_path: Path
) -> None:
    source, file = await topic(2), tmp_path / "f.ndjson"
    await kafka.produce(source, messages(60_000, 50))
    process = service_process("replay", "--from", f"topic:{source}", "--to", str(file), "--rate", "3000")
    await wait_until(lambda: file.exists() and file.stat().st_size > 50_000, what="some records are in the file")
    kafka.kill()
    try:
        assert await process.exit_code(60) == 1
    finally:
        kafka.restart()
    (line,) = process.output().splitlines()
    assert "a broker away" in line
    assert f"stored until then: {len(file.read_bytes().splitlines()):,} records" in line


async def test_a_line_that_holds_no_record_ends_it_after_those_before_it_and_it_goes_on_behind_it(
    kafka: KafkaBroker, topic: NewTopic, service_process: Start, tmp_path: Path
) -> None:
    target, file = await topic(1), tmp_path / "f.ndjson"
    lines = [json.dumps({"key": "u", "value": str(n)}) for n in range(5)]
    file.write_text("\n".join([*lines[:3], '{"key": "kari@x.no', *lines[3:]]))
    process = service_process("replay", "--from", str(file), "--to", f"topic:{target}", "--max")
    assert await process.exit_code() == 1
    assert "line 4" in process.output()
    assert "stored until then: 3 records" in process.output()
    assert "kari" not in process.output()
    file.write_text("\n".join(lines))
    await replayed(service_process, "--from", str(file), "--to", f"topic:{target}", "--max", "--skip", "3")
    assert [record.value for record in await kafka.read_all(target)] == [str(n).encode() for n in range(5)]


async def test_an_anonymous_and_multiplied_recording_is_what_the_service_takes(stage: Stage, tmp_path: Path) -> None:
    await stage.send(*(event(f"email|{n}") for n in range(5)))
    file, secret = tmp_path / "f.ndjson", tmp_path / "secret"
    secret.write_text("s")
    made = await stage.finish(
        *("replay", "--from", f"topic:{stage.topic}", "--to", str(file), "--shift-times"),
        *("--anonymize", "--secret-file", str(secret), "--multiply", "3"),
    )
    assert made.returncode == 0, made.output()
    records = [from_line(line) for line in file.read_bytes().splitlines()]
    users = {json.loads(record.value or b"")["userId"] for record in records}
    assert len(users) == len(records) == 15
    assert users == {(record.key or b"").decode() for record in records}
    assert not users & {f"email|{n}" for n in range(5)}
    for user_id in users:
        stage.world.add_user(user_id, profile={"email": f"{user_id.partition('|')[2].replace('~', '.')}@example.no"})
    put = await stage.finish("replay", "--from", str(file), "--to", f"topic:{stage.topic}", "--max")
    assert put.returncode == 0, put.output()
    service = await stage.service()
    await stage.all_committed()
    assert stage.stale(users) == {}
    assert await service.metric("events_total", outcome="skipped_unknown_user") == 5


async def test_missing_topics_are_said_plainly(topic: NewTopic, service_process: Start, tmp_path: Path) -> None:
    there = await topic()
    for source, target in (("topic:nowhere", str(tmp_path / "f")), (f"topic:{there}", "topic:nowhere")):
        process = service_process("replay", "--from", source, "--to", target)
        assert await process.exit_code() == 1
        assert "topic nowhere does not exist" in process.output()
        assert "Traceback" not in process.output()
