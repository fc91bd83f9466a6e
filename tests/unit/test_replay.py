import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import cli
from consumer.cli import options, progress
from consumer.failure import Failure
from consumer.replay import files, pace
from consumer.replay.envelope import edit
from consumer.replay.record import Record, UnreadableLine, from_line, to_line
from consumer.replay.rewriting import Anonymizer, multiply, shift_times
from consumer.replay.run import Replay

EVENT = {"eventType": "contract.1#update", "vendorId": "v1", "userId": "email|1", "occured_at": "2025-11-10T12:00:00Z"}

some_bytes = st.one_of(st.none(), st.binary(max_size=20), st.text(max_size=20).map(str.encode))
records = st.builds(
    Record,
    key=some_bytes,
    value=some_bytes,
    headers=st.lists(st.tuples(st.text(max_size=5), some_bytes), max_size=3),
    timestamp=st.integers(-1, 1 << 45),
    topic=st.none() | st.just("t"),
    partition=st.none() | st.integers(0, 99),
    offset=st.none() | st.integers(0, 1 << 50),
)


def record(event: dict[str, Any] | None = None, **more: Any) -> Record:
    return Record(key=b"email|1", value=json.dumps(event or EVENT).encode(), **more)


def value_of(one: Record) -> dict[str, Any]:
    assert one.value is not None
    found: dict[str, Any] = json.loads(one.value)
    return found


@given(records)
def test_a_line_gives_back_the_same_bytes(one: Record) -> None:
    line = to_line(one)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert from_line(line) == one


def test_a_line_may_be_written_by_hand() -> None:
    one = from_line(b'{"key": "k", "value": {"userId": "u"}, "note": 1}')
    assert one == Record(key=b"k", value=b'{"userId":"u"}', headers=[])


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"{", b'{"key": 1}', b'{"headers": {}}', b'{"timestamp": "now"}', b"\xff", b"[" * 100_000]
)
def test_a_line_without_a_record_is_refused_without_being_quoted(line: bytes) -> None:
    with pytest.raises(UnreadableLine) as caught:
        from_line(line)
    assert len(str(caught.value)) < 100


async def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LONGEST_LINE", 10_000)
    with pytest.raises(Failure, match="/dev/zero, line 1"):
        async with files.FileSource(Path("/dev/zero")) as source:
            [_ async for _ in source.batches()]


def test_multiplied_users_keep_their_events_apart_in_key_and_value() -> None:
    made = multiply("", 3)(record())
    assert [one.key for one in made] == [b"email|1", b"email|1~2", b"email|1~3"]
    assert [value_of(one)["userId"] for one in made] == ["email|1", "email|1~2", "email|1~3"]
    assert made[0] == record()


def test_a_value_without_an_event_is_multiplied_as_it_is() -> None:
    assert [one.value for one in multiply("", 2)(Record(key=b"k", value=b"{"))] == [b"{", b"{"]
    assert [one.value for one in multiply("", 2)(Record(key=b"k"))] == [None, None]


def test_times_move_by_one_amount_to_now() -> None:
    shift = shift_times("", lambda: 2_000_000_000.0)
    day, at = 86_400_000, 1_762_776_000_000  # when the event says that it happened
    ((first,), (second,)) = (shift(record(timestamp=at + day * number)) for number in (0, 1))
    assert (first.timestamp, second.timestamp) == (2_000_000_000_000, 2_000_000_000_000 + day)
    assert value_of(first)["occured_at"] == "2033-05-18T03:33:20.000Z"
    (odd,) = shift(record(EVENT | {"occured_at": "yesterday"}, timestamp=at))
    assert value_of(odd)["occured_at"] == "yesterday"


SECRET = b"secret"
PERSON = {"userId": "email|84ccc", "email": "Kari@X.no", "name": "Kari Nordmann", "phone": 4712345678, "vip": True}


def test_an_anonymous_event_has_the_same_shape_and_nobody_in_it() -> None:
    value = EVENT | PERSON | {"contractId": "contract_7", "entitlementId": None, "checkoutId": ""}
    (made,) = Anonymizer(SECRET, "").rewrite(
        Record(key=b"email|84ccc", value=json.dumps(value).encode(), headers=[("h", b"kari@x.no"), ("n", None)])
    )
    found = value_of(made)
    assert made.key == found["userId"].encode()
    assert found["userId"].startswith("email|")
    assert {name: found[name] for name in ("eventType", "vendorId", "occured_at", "vip", "entitlementId")} == {
        **{name: EVENT[name] for name in ("eventType", "vendorId", "occured_at")},
        "vip": True,
        "entitlementId": None,
    }
    assert found["phone"] == 0
    assert found["email"].endswith("@example.invalid")
    assert made.headers[0] == ("h", found["email"].encode())
    text = to_line(made).decode().lower()
    assert [word for word in ("kari", "84ccc", "contract_7", "nordmann") if word in text] == []


def test_pseudonyms_are_the_same_for_one_secret_and_others_for_another() -> None:
    def made(secret: bytes) -> bytes | None:
        return Anonymizer(secret, "").rewrite(record())[0].value

    assert made(b"a") == made(b"a")
    assert made(b"a") != made(b"b")
    names = {Anonymizer(b"a", "").identifier(f"email|{number}") for number in range(1000)}
    assert len(names) == 1000


@pytest.mark.parametrize("value", [b"Kari Nordmann", b'["Kari"]', b'"Kari"', b"\0\0\0\0\x01Kari"])
def test_of_a_value_without_an_event_only_its_length_is_left(value: bytes) -> None:
    assert Anonymizer(SECRET, "").rewrite(Record(value=value))[0].value == b"%d bytes that were no event" % len(value)


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("prefix", [b"", b"\0\0\0\0\x07"])
def test_an_event_in_an_envelope_is_rewritten_where_it_is(as_text: bool, prefix: bytes) -> None:
    inside: Any = json.dumps(EVENT) if as_text else EVENT
    value = prefix + json.dumps({"source": "Kari", "items": [{"data2": inside}]}).encode()
    pointer = "/items/0/data2"
    (_, copy) = multiply(pointer, 2)(Record(value=value))
    (hidden,) = Anonymizer(SECRET, pointer).rewrite(copy)
    for one, source in ((copy, "Kari"), (hidden, None)):
        assert one.value is not None
        assert one.value.startswith(prefix)
        whole = json.loads(one.value.removeprefix(prefix))
        event = whole["items"][0]["data2"]
        user_id = (json.loads(event) if as_text else event)["userId"]
        assert (user_id == "email|1~2") is (source == "Kari")
        assert (whole["source"] == source) is (source == "Kari")


def test_a_rate_is_even_whatever_the_records_say() -> None:
    due = pace.at_rate(4)
    assert [due(record(timestamp=time)) for time in (5, -1, 0)] == [0, 0.25, 0.5]


def test_a_speed_keeps_distances_and_never_goes_back() -> None:
    due = pace.at_speed(10)
    times = [-1, 5_000, 7_000, 6_000, -1, 25_000]
    assert [due(record(timestamp=time)) for time in times] == [0, 0, 0.2, 0.2, 0.2, 2.0]


class Time:
    def __init__(self) -> None:
        self.now = 100.0
        self.watch: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.watch()


class Listed:
    """A source, and a sink that takes its time."""

    def __init__(self, count: int, pacer: pace.Pacer, time: Time, *, delay: float = 0.0) -> None:
        self.records = [record(timestamp=1000 * number) for number in range(count)]
        self.progress = 0.0
        self.got: list[tuple[Record, float]] = []
        self.flushed = False
        self._pacer, self._time, self._delay = pacer, time, delay

    async def batches(self) -> AsyncIterator[list[Record]]:
        yield self.records

    async def put(self, one: Record, due: float | None = None) -> None:
        self.got.append((one, self._time.now))
        self._time.now += self._delay
        self._pacer.acknowledged(due)

    async def flush(self) -> None:
        self.flushed = True


async def to_its_end(work: Coroutine[Any, Any, None]) -> bool:
    await work
    return True


async def test_a_slow_sink_shows_as_lateness_and_does_not_move_the_schedule() -> None:
    time = Time()
    pacer = pace.Pacer(pace.at_rate(10), time, time.sleep)
    ends = Listed(11, pacer, time, delay=0.3)
    summary = await Replay(ends, ends, pacer).run(to_its_end)
    assert summary.seconds == pytest.approx(3.3)
    assert summary.lateness_most == pytest.approx(3.3 - 1.0)  # the last one was due after 1 s
    assert (summary.read, summary.stored, summary.complete, ends.flushed) == (11, 11, True, True)


async def test_while_a_sink_stores_nothing_the_lateness_grows() -> None:
    time = Time()
    pacer = pace.Pacer(pace.at_rate(2), time, time.sleep)
    dues = [await pacer.wait(record()) for _ in range(4)]
    assert pacer.late == pytest.approx(1.5)
    pacer.acknowledged(dues[0])
    pacer.acknowledged(dues[1])
    time.now += 10
    assert pacer.late == pytest.approx(11)  # the last one that is stored was due after half a second
    for due in dues[2:]:
        pacer.acknowledged(due)
    assert pacer.late == pytest.approx(10)
    time.now += 100
    assert pacer.late == pytest.approx(10), "nothing is waited for"


async def test_a_quick_sink_is_held_to_the_pace() -> None:
    time = Time()
    pacer = pace.Pacer(pace.at_speed(2), time, time.sleep)
    ends = Listed(5, pacer, time)
    summary = await Replay(ends, ends, pacer).run(to_its_end)
    assert [at - 100 for _, at in ends.got] == [0, 0.5, 1, 1.5, 2]
    assert summary.lateness_most == 0


async def test_progress_goes_on_within_a_batch() -> None:
    time = Time()
    pacer = pace.Pacer(pace.at_rate(1), time, time.sleep)
    ends = Listed(4, pacer, time)
    ends.progress = 0.8
    replay = Replay(ends, ends, pacer)
    seen: list[float] = []
    time.watch = lambda: seen.append(round(replay.progress, 3))
    await replay.run(to_its_end)
    assert seen == [0.2, 0.4, 0.6]


async def test_the_limit_counts_records_of_the_source_and_each_is_rewritten_in_turn() -> None:
    time = Time()
    pacer = pace.Pacer(pace.at_once, time)
    ends = Listed(10, pacer, time)
    replay = Replay(ends, ends, pacer, [multiply("", 2), multiply("", 2)], limit=3)
    summary = await replay.run(to_its_end)
    assert (summary.read, summary.stored, summary.last_timestamp) == (3, 12, 2000)
    assert Counter(one.timestamp for one, _ in ends.got) == {0: 4, 1000: 4, 2000: 4}
    assert summary.lateness_most is None


async def test_k2_a_truncated_dead_letter_is_never_replayed() -> None:
    time = Time()
    pacer = pace.Pacer(pace.at_once, time)
    whole = record(headers=[("dead-letter-reason", b"exhausted")])
    cut = Record(headers=[("dead-letter-reason", b"malformed"), ("dead-letter-truncated", b"true")])
    ends = Listed(0, pacer, time)
    ends.records = [cut, whole, cut]
    summary = await Replay(ends, ends, pacer).run(to_its_end)
    assert [one for one, _ in ends.got] == [whole]
    assert (summary.read, summary.stored, summary.left_out) == (3, 1, 2)


async def test_records_are_left_out_before_others_are_counted() -> None:
    time = Time()
    pacer = pace.Pacer(pace.at_speed(1), time, time.sleep)
    ends = Listed(9, pacer, time)
    summary = await Replay(ends, ends, pacer, skip=4, limit=3).run(to_its_end)
    assert [one.timestamp for one, _ in ends.got] == [4000, 5000, 6000]
    assert [at - 100 for _, at in ends.got] == [0, 1, 2], "the pace begins with the first that is replayed"
    assert summary.read == 3


async def test_what_is_stopped_is_flushed_and_says_how_far_it_came() -> None:
    time = Time()
    stopped = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        stopped.set()
        await asyncio.Event().wait()

    async def until_stopped(work: Coroutine[Any, Any, None]) -> bool:
        task = asyncio.create_task(work)
        await stopped.wait()
        task.cancel()
        await asyncio.wait([task])
        return False

    pacer = pace.Pacer(pace.at_rate(1), time, sleep)
    ends = Listed(5, pacer, time)
    summary = await Replay(ends, ends, pacer).run(until_stopped)
    assert (summary.complete, summary.stored, ends.flushed) == (False, 1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--from", "topic:a"],
        ["--from", "topic:a", "--to", "topic:"],
        ["--from", "topic:a", "--to", ""],
        ["--from", "topic:a", "--to", "topic:b", "--max", "--rate", "5"],
        ["--from", "topic:a", "--to", "topic:b", "--rate", "0"],
        ["--from", "topic:a", "--to", "topic:b", "--multiply", "0"],
        ["--from", "topic:a", "--to", "topic:b", "--partitions", "3-1"],
        ["--from", "topic:a", "--to", "topic:b", "--since", "soon"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["replay", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--help" in line


def test_nothing_is_replayed_into_itself(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file, link = tmp_path / "a.ndjson", tmp_path / "b.ndjson"
    file.write_text("")
    link.symlink_to(file)
    hard = tmp_path / "c.ndjson"
    hard.hardlink_to(file)
    for source, target in (("topic:a", "topic:a"), (str(file), str(link)), (str(file), str(hard))):
        assert cli.main(["replay", "--from", source, "--to", target, "--overwrite"]) == 2
        assert "into itself" in capsys.readouterr().err


def test_files_are_copied_whole_and_never_overwritten_by_mistake(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "a.ndjson", tmp_path / "b.ndjson"
    lines = [to_line(record(timestamp=number, partition=number % 3)) for number in range(10)]
    source.write_bytes(b"\n".join(lines) + b"\n")
    arguments = ["replay", "--from", str(source), "--to", str(target)]
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stored"] == 10
    assert target.read_bytes() == b"".join(lines)
    assert cli.main(arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
    part = ["--partitions", "0-1", "--since", "1970-01-01T00:00:00.002Z", "--until", "1970-01-01T00:00:00.009Z"]
    assert cli.main([*arguments, "--overwrite", *part, "--limit", "3"]) == 0
    assert target.read_bytes() == b"".join(lines[number] for number in (3, 4, 6))


@pytest.mark.parametrize(("bad", "said"), [("{", "line 2"), ('{"key": 7}', "line 2: Expected")])
def test_a_bad_line_is_named(tmp_path: Any, capsys: pytest.CaptureFixture[str], bad: str, said: str) -> None:
    source = tmp_path / "a.ndjson"
    source.write_text("{}\n" + bad)
    assert cli.main(["replay", "--from", str(source), "--to", str(tmp_path / "b")]) == 1
    assert said in capsys.readouterr().err


def test_a_secret_that_is_none(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["replay", "--from", "a", "--to", "b", "--secret-file", str(tmp_path / "s")]
    assert cli.main(base) == 2
    assert cli.main([*base, "--anonymize"]) == 2
    (tmp_path / "s").write_text("\n")
    assert cli.main([*base, "--anonymize"]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert ("--anonymize" in first, "No such file" in second, "is empty" in third) == (True, True, True)


def test_times_and_partitions_as_people_write_them() -> None:
    assert options.instant("1970-01-02") == 86_400_000
    assert options.instant("1970-01-01T01:00:00+01:00") == 0
    assert options.instant(options.shown_instant(1_762_776_000_123)) == 1_762_776_000_123
    assert abs(options.instant("1h") - (options.instant("0s") - 3_600_000)) < 1000
    assert options.partitions("0,2-4,3") == {0, 2, 3, 4}


def test_durations_for_people() -> None:
    assert [progress.duration(seconds) for seconds in (0.4, 61, 7260)] == ["0 s", "1 min 1 s", "2 h 1 min"]
    assert progress.time_left(0.25, 10) == "30 s left"
    assert progress.time_left(0, 10) == "time left unknown"


def test_a11_an_event_with_half_an_emoji_is_edited_like_any_other() -> None:
    value = b'{"data": {"userId": "email|1", "note": "\\ud83d", "big": 20251110120000123456}}'
    edited = edit(value, "/data", lambda event: event | {"userId": "email|2"}, lambda envelope: envelope)
    assert edited == b'{"data":{"userId":"email|2","note":"","big":20251110120000123456}}'
