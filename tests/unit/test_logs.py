import io
import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from consumer.ops import logs
from consumer.secret import Secret
from consumer.settings import LogSettings


class Stream(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def lines(self) -> list[str]:
        self.seek(0)
        return self.read().splitlines()


@pytest.fixture
def stream() -> Iterator[Stream]:
    before = logging.root.handlers[:], logging.root.level
    yield Stream()
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.root.handlers[:], logging.root.level = before


def json_lines(stream: Stream) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.lines()]


def test_json_lines_hold_level_time_event_and_fields(stream: Stream) -> None:
    logs.configure(LogSettings(level="info", format="json"), stream)
    structlog.get_logger().info("wrote", user_id="email|84cc", offsets=[1, 2], dry=False)
    (line,) = json_lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "wrote", "level": "info", "user_id": "email|84cc", "offsets": [1, 2], "dry": False}


@pytest.mark.parametrize("format_", ["json", "console"])
def test_addresses_are_masked_wherever_they_stand(stream: Stream, format_: str) -> None:
    logs.configure(LogSettings(format=format_), stream)
    try:
        int("kari@example.no")
    except ValueError as error:
        structlog.get_logger().error(
            "no kari@example.no",
            plain="kari@example.no",
            deep={"to": ["x kari@example.no"], "kari@example.no": 1},
            path="/v1/contacts/kari%40example.no/",
            error=error,
            exc_info=True,
        )
    text = "\n".join(stream.lines())
    assert text.count("k***@example.no") == 8
    assert "kari" not in text


@pytest.mark.parametrize("value", ["s3cr3t-t0ken", 'qu"te\\d-t0ken', "blå-t0ken"])
def test_secrets_are_masked_wherever_they_stand(stream: Stream, value: str) -> None:
    secret = Secret(value)
    logs.configure(LogSettings(format="json"), stream)
    structlog.get_logger().error(f"refused: {secret.value}", deep={"error": [f"Bearer {secret.value}."]})
    (line,) = json_lines(stream)
    assert (line["event"], line["deep"]) == ("refused: ***", {"error": ["Bearer ***."]})


def test_a_traceback_shows_no_local_values(stream: Stream) -> None:
    logs.configure(LogSettings(format="console"), stream)
    password = "hunter" + "2"
    try:
        int("wrong")
    except ValueError:
        structlog.get_logger().exception("failed", given=Secret(password))
    text = "\n".join(stream.lines())
    assert "ValueError: invalid literal" in text
    assert password not in text


def test_a_call_below_the_level_does_nothing(stream: Stream) -> None:
    logs.configure(LogSettings(level="warning", format="json"), stream)

    class Costly:
        def __str__(self) -> str:
            raise AssertionError("rendered")

    structlog.get_logger().info("unseen", value=Costly())
    structlog.get_logger().warning("seen")
    assert [line["event"] for line in json_lines(stream)] == ["seen"]


def test_libraries_are_heard_from_warnings_upwards(stream: Stream) -> None:
    logs.configure(LogSettings(level="debug", format="json"), stream)
    logging.getLogger("aiokafka").info("hello")
    logging.getLogger("aiokafka").warning("no %s", "kari@example.no")
    (line,) = json_lines(stream)
    assert (line["logger"], line["level"], line["event"]) == ("aiokafka", "warning", "no k***@example.no")


def test_what_a_library_repeats_is_counted_and_said_once_a_minute(stream: Stream) -> None:
    logs.configure(LogSettings(format="json"), stream)
    now = 0.0
    handler = logs.LibraryRecords(quiet_seconds=60, clock=lambda: now)
    record = logging.LogRecord("aiokafka.conn", logging.ERROR, "", 0, "cannot connect to %s", ("host",), None)
    other = logging.LogRecord("aiokafka.conn", logging.ERROR, "", 0, "another thing", (), None)
    for moment, said in [(0.0, record), (1.0, record), (59.9, record), (59.9, other), (60.0, record), (120.0, record)]:
        now = moment
        handler.emit(said)
    assert [(line["event"], line.get("suppressed")) for line in json_lines(stream)] == [
        ("cannot connect to host", None),
        ("another thing", None),
        ("cannot connect to host", 2),
        ("cannot connect to host", None),
    ]


def test_of_our_own_warnings_of_a_kind_some_pass_and_the_rest_is_counted(stream: Stream) -> None:
    logs.configure(LogSettings(format="json"), stream)
    log = structlog.get_logger()
    for number in range(1000):
        log.warning("dead_letter.stored", reason="malformed", offset=number)
        log.info("contact.written", offset=number)
    log.warning("dead_letter.stored", reason="rejected", offset=5)
    counts = Counter((line["event"], line.get("reason")) for line in json_lines(stream))
    assert counts[("contact.written", None)] == 1000  # the audit is complete
    assert counts[("dead_letter.stored", "malformed")] == 20
    assert counts[("dead_letter.stored", "rejected")] == 1


def test_after_the_silence_the_next_one_says_how_many_there_were() -> None:
    now = 0.0
    repeats = logs.Repeats(2, 60, clock=lambda: now)
    assert [repeats.suppressed("a") for _ in range(5)] == [0, 0, None, None, None]
    assert repeats.suppressed("b") == 0
    now = 60.0
    assert [repeats.suppressed("a") for _ in range(3)] == [3, 0, None]


def test_kinds_without_end_take_no_memory_without_end() -> None:
    repeats = logs.Repeats(1, 60, clock=lambda: 0.0)
    assert all(repeats.suppressed(number) == 0 for number in range(5000))
    assert len(repeats._kinds) <= 1000


def test_a_value_json_does_not_know_becomes_text(stream: Stream) -> None:
    logs.configure(LogSettings(format="json"), stream)
    structlog.get_logger().info("odd", secret=Secret("x"), big=2**80, broken="\ud800")
    (line,) = json_lines(stream)
    assert line["secret"] == "Secret(***)"
    assert (line["big"], line["broken"]) == (2**80, "\ud800")


def test_it_goes_to_stderr_by_default() -> None:
    code = (
        "import structlog; from consumer.ops import logs; from consumer.settings import LogSettings;"
        "logs.configure(LogSettings()); structlog.get_logger().info('here')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert result.stdout == ""
    assert json.loads(result.stderr)["event"] == "here"


def test_every_line_starts_with_time_level_event_and_user(stream: Stream) -> None:
    logs.configure(LogSettings(format="json"), stream)
    structlog.get_logger().warning("wrote", partition=3, user_id="email|84cc", offsets=[1])
    logging.getLogger("aiokafka").warning("hello")
    first, second = json_lines(stream)
    assert list(first) == ["timestamp", "level", "event", "user_id", "partition", "offsets"]
    assert list(second)[:3] == ["timestamp", "level", "event"]


def test_every_line_for_people_starts_with_time_level_event_and_user(stream: Stream) -> None:
    logs.configure(LogSettings(format="console"), stream)
    structlog.get_logger().warning("wrote", partition=3, user_id="email|84cc", offsets=[1])
    (line,) = stream.lines()
    assert line.split()[1:] == ["[warning", "]", "wrote", "user_id=email|84cc", "partition=3", "offsets=[1]"]


@pytest.mark.parametrize("format_", ["json", "console"])
def test_p6_control_characters_reach_neither_terminal_nor_file(stream: Stream, format_: str) -> None:
    logs.configure(LogSettings(format=format_), stream)
    foreign = "x\n2026-01-01T00:00:00Z [info] forged\r\x1b]0;t\x07\x1b[2J\x7f\x9b31m\u202e\u2028\u200b\ud83d"

    def fail() -> None:
        raise ValueError(foreign)

    try:
        fail()
    except ValueError as error:
        structlog.get_logger().error(foreign, deep=[{foreign: foreign}], error=error, exc_info=True)
    stream.seek(0)
    text = stream.read()
    assert all(char.isprintable() or char == "\n" for char in text)
    forged = [line for line in text.split("\n") if line.startswith("2026-01-01")]
    assert forged == []
    if format_ == "json":
        assert json.loads(text)["deep"] == [{foreign: foreign}]


def test_a_short_secret_that_is_a_level_spoils_no_level(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.masking._secrets", {})
    Secret("info")
    logs.configure(LogSettings(format="json"), stream)
    structlog.get_logger().info("here", said="info for you")
    (line,) = json_lines(stream)
    assert (line["level"], line["said"]) == ("info", "*** for you")
