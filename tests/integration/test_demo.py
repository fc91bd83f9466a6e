"""The demo as a newcomer starts it."""

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = [sys.executable, "-m", "consumer", "demo"]
SECONDS = 90.0


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Nothing of the caller's settings: the demo has nothing to set up.
    environ = {name: value for name, value in os.environ.items() if name in {"PATH", "PYTHONPATH", "TMPDIR", "HOME"}}
    return subprocess.run(
        [*DEMO, *arguments], capture_output=True, check=False, text=True, env=environ, timeout=SECONDS + 15
    )


def test_it_ends_by_itself_in_time_and_tells_what_became_of_the_contacts() -> None:
    began = time.monotonic()
    result = demo()
    assert time.monotonic() - began < SECONDS
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    told = result.stdout
    assert re.search(r"admin +http://127\.0\.0\.1:[1-9]\d+ ", told)
    assert "librdkafka's mock cluster" in told
    assert "joining the group" in told
    assert len(re.findall(r"^ +\d+\.\d s  stored \d+/\d+  done \d+", told, re.MULTILINE)) >= 4
    assert "+ first name" not in told.split("filled-name@example.no")[1].split("unsubscribed@example.no")[0]
    assert re.search(r"guest@example\.no +no contact +no contact", told)
    assert re.search(r"malformed +partition \d, offset \d+ +not JSON", told)
    assert re.search(r"rejected +partition \d, offset \d+ +Rejected", told)
    assert "✘" not in told
    assert told.count("✔") == 12


def test_for_machines_it_prints_one_line_of_json() -> None:
    result = demo("--json", "--users", "60", "--seed", "7")
    assert (result.returncode, result.stderr) == (0, "")
    (line,) = result.stdout.splitlines()
    summary = json.loads(line)
    assert summary["ok"] is True
    assert all(check["ok"] for check in summary["checks"])
    assert summary["broker"] == "mock"
    assert sum(summary["outcomes"].values()) == summary["events"]
    assert summary["outcomes"]["synced"] > 0
    assert summary["outcomes"]["skipped_guest"] > 0
    assert summary["outcomes"]["skipped_no_email"] > 0
    assert summary["outcomes"]["coalesced"] > 0
    assert sorted(letter["reason"] for letter in summary["dead_letters"]) == ["malformed", "rejected"]
    assert {letter["topic"] for letter in summary["dead_letters"]} == {"sesamy.events"}
    # A sync of an ordinary user is four reads at Sesamy, a read and at most a write or two at Mailmojo.
    reached = sum(count for outcome, count in summary["syncs"].items() if outcome != "skipped")
    assert sum(summary["requests"]["sesamy"].values()) < 5 * reached
    assert '"contact.written"' in Path(summary["log"]).read_text(encoding="utf-8")


def test_on_a_terminal_it_draws_live_and_no_log_line_tears_the_page() -> None:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*DEMO, "--users", "30"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm-256color"},
    )
    os.close(terminal)
    seen = b""
    try:
        while chunk := os.read(controller, 65536):
            seen += chunk
    except OSError:  # what Linux says when the other end is closed
        pass
    finally:
        os.close(controller)
    assert process.wait(timeout=SECONDS) == 0
    text = seen.decode()
    assert text.count("the service at work") > 10
    assert "calls/s" in text
    assert '"event":' not in text
    assert "contact.written" not in text


def test_too_little_time_is_one_clear_line() -> None:
    result = demo("--users", "5000", "--seconds-at-most", "15")
    assert result.returncode == 1
    assert "--seconds-at-most" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [["--users", "0"], ["--users", "many"], ["--seed", "-1"], ["--seconds-at-most", "5"], ["--config", "x.toml"]],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = demo(*arguments)
    assert result.returncode == 2
    assert arguments[0] in result.stderr
    assert "Traceback" not in result.stderr
