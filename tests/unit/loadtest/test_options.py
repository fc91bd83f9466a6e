"""Wrong options and settings: exit code 2, one line that names the option."""

import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from consumer import cli
from consumer.cli import load_test
from consumer.loadtest import figures
from consumer.loadtest.report import Report
from tests import load_testing
from tests.unit.loadtest.runs import right_run

LONG = 300 * "a"


@pytest.fixture(autouse=True)
def _kafka_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--from", "x.ndjson", "--users", "5"), "--users is for invented events; --from brings users of its own"),
        (("--from", "x.ndjson", "--zipf"), "--zipf is for invented events"),
        (("--from", "topic:"), "--from: neither topic:NAME nor a file"),
        (("--speed", "2"), "--speed is for recorded events (--from); use --rate"),
        (("--rate", "2", "--max"), "argument --max: not allowed with argument --rate"),
        (("--events", "0"), "argument --events: '0' is no whole number from 1 on"),
        (("--instances", "0"), "argument --instances: '0' is no whole number from 1 to 100"),
        (("--instances", "101"), "argument --instances: '101' is no whole number from 1 to 100"),
        (("--partitions", "1001"), "argument --partitions: '1001' is no whole number from 1 to 1000"),
        (("--changes", "2"), "argument --changes: '2' is no number from 0 to 1"),
        (("--fault", "colour=red"), "--fault: 'colour=red'"),
        (("--compare", "missing.json"), "--compare missing.json: No such file or directory"),
        (("--html", "missing/report.html"), "missing/report.html: cannot be written"),
        (("--html", LONG), "aaa: cannot be written"),
        (("--report", "/proc/self"), "/proc/self/report.html: cannot be written"),
        (("--from", LONG), "aaa: File name too long"),
        (("--report", "/dev/null"), "--report /dev/null: "),
        (("--keep", "/dev/null"), "--keep /dev/null: "),
        (("--keep", "/"), "--keep /: it is not empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(
    options: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["load-test", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_the_sandbox_says_which_file_of_user_ids_it_cannot_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["sandbox", "--user-ids", str(tmp_path / "none")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("none: No such file or directory; give a file with a user id in each line")


def test_where_there_is_no_kafka_it_says_so_and_leaves_no_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["load-test", "--events", "1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot reach Kafka at 127.0.0.1:1 (KAFKA_BOOTSTRAP_SERVERS)" in line


def test_a_recording_that_is_not_there_is_said_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["load-test", "--from", str(tmp_path / "none.ndjson")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("none.ndjson: there is no such file")


def test_no_file_is_left_by_the_look_whether_it_can_be_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = tmp_path / "earlier.html"
    kept.write_text("earlier")
    folder = str(tmp_path / "report")
    assert cli.main(["load-test", "--html", str(kept), "--report", folder, "--keep", str(tmp_path / "kept")]) == 1
    (line,) = capsys.readouterr().err.splitlines()  # none about topics that are kept
    assert "cannot reach Kafka" in line
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["earlier.html"]
    assert kept.read_text() == "earlier"


def test_figures_are_printed_though_their_file_cannot_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "report"

    def run(work: Coroutine[Any, Any, None]) -> Report:
        work.close()
        folder.rmdir()
        return figures.report(right_run())

    monkeypatch.setattr(load_test, "run_loop", run)
    assert cli.main(["load-test", "--report", str(folder)]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("It holds")
    assert said.err.endswith("report.html: No such file or directory\n")


def test_make_load_test_explains_itself_without_a_broker(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["load_testing", "--help"])
    monkeypatch.setattr(load_testing, "KafkaBroker", None)
    assert load_testing.main() == 0
    assert "usage: sesamy-mailmojo load-test" in capsys.readouterr().out
