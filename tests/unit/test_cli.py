import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
import structlog.testing

from consumer import cli
from consumer.cli.commands import COMMANDS
from consumer.failure import Failure
from consumer.sandbox import Answers
from consumer.settings import SettingsError

NOWHERE = "127.0.0.1:1"
REQUIRED = {
    "SESAMY_CLIENT_ID": "client",
    "SESAMY_CLIENT_SECRET": "sesame",
    "SESAMY_API_URL": "http://127.0.0.1:1",
    "SESAMY_TOKEN_URL": "http://127.0.0.1:1/token",
    "MAILMOJO_API_TOKEN": "hunter2",
    "MAILMOJO_API_URL": "http://127.0.0.1:1",
    "MAILMOJO_LIST_ID": "7",
    "KAFKA_BOOTSTRAP_SERVERS": NOWHERE,
}


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name in {"PATH", "PYTHONPATH"}}
    return subprocess.run(
        [sys.executable, "-m", "consumer", *arguments],
        capture_output=True,
        check=False,
        text=True,
        env={**clean, **environ},
        timeout=60,
    )


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("sesamy-mailmojo: ")
    return line.removeprefix("sesamy-mailmojo: ")


@pytest.mark.parametrize("argument", ["--version", "-V", "version"])
def test_the_version(argument: str) -> None:
    result = run(argument)
    assert (result.returncode, result.stdout.split()[0]) == (0, "sesamy-mailmojo")


def test_help_is_an_option_and_a_command() -> None:
    listed = run("help").stdout
    assert listed == run("--help").stdout
    assert run("help", "sync").stdout == run("sync", "--help").stdout
    for command in COMMANDS:
        assert f"  {command.name}" in listed


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("snyc", "unknown command 'snyc'; did you mean sync?"),
        ("dead_letters", "unknown command 'dead_letters'; did you mean dead-letters?"),
        ("walk", "unknown command 'walk'; see"),
    ],
)
def test_a_misspelt_command_gets_a_suggestion(given: str, said: str) -> None:
    result = run(given)
    assert result.returncode == 2
    assert one_line(result).startswith(said)


@pytest.mark.parametrize("command", ["run", "check", "sync", "reconcile", "load-test", "ingest"])
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.returncode == 0
    assert f"sesamy-mailmojo {command} " in result.stdout.split("example", 1)[1]
    assert "--config FILE.toml" in result.stdout


def test_the_help_of_run_lists_every_setting() -> None:
    text = run("run", "--help").stdout
    assert "KAFKA_DEAD_LETTER_TOPIC  " in text
    assert "[<topic>.dead-letters]" in text
    assert "sync.shutdown_timeout" in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["walk"],
        ["run", "now"],
        ["sync"],
        ["sync", ".."],
        ["sync", ""],
        ["sync", "u", "--timeout", "0"],
        ["sync", "u", "--direct", "--dry-run"],
        ["check", "--config"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = run(*arguments, **REQUIRED)
    assert result.returncode == 2
    assert "--help" in one_line(result)


@pytest.mark.parametrize("arguments", [["run"], ["check"], ["sync", "--direct", "u"], ["sync", "--dry-run", "u"]])
def test_missing_settings_exit_with_2_and_are_named(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert one_line(result).startswith("not set: SESAMY_CLIENT_ID, SESAMY_CLIENT_SECRET")


def test_wrong_settings_exit_with_2_and_are_named_as_written(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[sync]\nlinger = 'soon'\n")
    result = run("run", "--config", str(config), **REQUIRED)
    assert (result.returncode, one_line(result)) == (
        2,
        f"sync.linger in {config} must be a number from 0 to 3600, not 'soon'",
    )
    result = run("sync", "u", SYNC_LINGER="soon")
    assert (result.returncode, one_line(result)) == (2, "SYNC_LINGER must be a number from 0 to 3600, not 'soon'")


@pytest.mark.parametrize("name", ["SESAMY_API_URL", "SESAMY_TOKEN_URL", "MAILMOJO_API_URL"])
@pytest.mark.parametrize("arguments", [["run"], ["check"], ["sync", "--dry-run", "u"]])
def test_a18_a_host_that_cannot_be_looked_up_exits_with_2_and_one_line(name: str, arguments: list[str]) -> None:
    result = run(*arguments, **{**REQUIRED, name: "https://api..example.no"})
    assert (result.returncode, result.stdout) == (2, "")
    assert one_line(result).startswith(f"{name} must have a host that can be looked up: a part of its name is empty")


@pytest.mark.parametrize("arguments", [["run"], ["check"], ["sync", "--dry-run", "u"]])
def test_p11_a_wrong_proxy_exits_with_2_and_names_the_variable(arguments: list[str]) -> None:
    result = run(*arguments, **REQUIRED, HTTPS_PROXY="http://me:hunter2222@proxy:port")
    assert (result.returncode, result.stdout) == (2, "")
    assert one_line(result) == "HTTPS_PROXY must be the URL of an HTTP proxy such as http://proxy.example:3128"


@pytest.mark.parametrize("arguments", [["sync", "u"], ["sync", "--direct", "u"]])
def test_kafka_out_of_reach_exits_with_1_and_names_the_setting(arguments: list[str]) -> None:
    result = run(*arguments, **REQUIRED)
    assert result.returncode == 1
    assert one_line(result).startswith(f"cannot reach Kafka at {NOWHERE} (KAFKA_BOOTSTRAP_SERVERS): ")


@pytest.mark.parametrize("arguments", [["run"], ["check"], ["sync", "u"]])
def test_a_certificate_that_is_none_is_a_wrong_setting(arguments: list[str], tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.write_text("no certificate")
    result = run(*arguments, **REQUIRED, KAFKA_SECURITY_PROTOCOL="SSL", KAFKA_SSL_CAFILE=str(pem))
    assert (result.returncode, result.stdout) == (2, "")
    assert one_line(result).startswith(
        f"KAFKA_SSL_CAFILE: {pem} holds no certificate (no certificate or crl found); give"
    )


def test_check_says_one_line_per_thing_with_the_way_out() -> None:
    result = run("check", "--json", **REQUIRED)
    assert (result.returncode, result.stderr) == (1, "")
    found = {line["name"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert {name: line["status"] for name, line in found.items()} == {
        "settings": "ok",
        "Kafka": "failed",
        "topic": "skipped",
        "dead-letter topic": "skipped",
        "group": "skipped",
        "Sesamy": "failed",
        "vendor": "ok",
        "Sesamy profile": "skipped",
        "Sesamy contracts": "skipped",
        "Sesamy entitlements": "skipped",
        "Sesamy transactions": "skipped",
        "Mailmojo": "failed",
        "contact": "skipped",
        "account fields": "skipped",
    }
    assert "KAFKA_BOOTSTRAP_SERVERS" in found["Kafka"]["detail"]
    assert "SESAMY_TOKEN_URL" in found["Sesamy"]["detail"]
    assert "MAILMOJO_API_URL" in found["Mailmojo"]["detail"]
    assert "hunter2" not in result.stdout


def test_check_for_people() -> None:
    result = run("check", **REQUIRED)
    assert result.stdout.splitlines()[0].split() == ["ok", "settings", "complete"]
    assert result.stdout.splitlines()[1].split()[:2] == ["failed", "Kafka"]


def raising(error: BaseException) -> Callable[[object], int]:
    def handler(_args: object) -> int:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Failure("it broke\nbadly"), 1, "sesamy-mailmojo: it broke badly\n"),
        (SettingsError("SYNC_LINGER must be"), 2, "sesamy-mailmojo: SYNC_LINGER must be\n"),
        (ExceptionGroup("tasks", [ExceptionGroup("", [Failure("deep")])]), 1, "sesamy-mailmojo: deep\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_a_handler_raises_becomes_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    monkeypatch.setattr("consumer.cli.check.execute", raising(error))
    assert cli.main(["check"]) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    "error", [ExceptionGroup("tasks", [ZeroDivisionError("kari@example.no")]), asyncio.CancelledError(), MemoryError()]
)
def test_a_mistake_of_ours_shows_where_it_is_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    structlog.reset_defaults()
    monkeypatch.setattr("consumer.cli.run.execute", raising(error))
    assert cli.main(["run"]) == 1
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert said.splitlines()[-1].startswith("sesamy-mailmojo: internal error: ")
    assert "kari" not in said


def test_a_mistake_of_ours_is_an_event_where_a_log_is_configured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("consumer.cli.run.execute", raising(ZeroDivisionError()))
    with structlog.testing.capture_logs() as logs:
        structlog.configure()
        try:
            assert cli.main(["run"]) == 1
        finally:
            structlog.reset_defaults()
    assert [(event["event"], type(event["exc_info"])) for event in logs] == [("command.crashed", ZeroDivisionError)]
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_reader_that_leaves_early_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "consumer", "run", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(timeout=30)


HEAVY = {"aiohttp", "aiokafka", "structlog", "uvloop", "prometheus_client"}


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["walk"]]
    + [[command.name, option] for command in COMMANDS for option in ("--help", "--no-such-option")],
    ids=" ".join,
)
def test_help_and_wrong_usage_are_quick_because_nothing_heavy_is_imported(
    arguments: list[str],
) -> None:
    code = f"import sys; from consumer.cli import main; main({arguments}); print(sorted({HEAVY} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_the_help_of_sandbox_lists_every_answer_and_the_default_first() -> None:
    usual = Answers()
    listed = run("sandbox", "--help").stdout.split("(the first is the default):\n", 1)[1].strip("\n").splitlines()
    shown = {name.strip(): answers.split(", ") for name, answers in (line.split(": ", 1) for line in listed)}
    assert {name: set(answers) for name, answers in shown.items()} == {
        name: set(answers) for name, answers in Answers.choices().items()
    }
    assert {name: answers[0] for name, answers in shown.items()} == {name: getattr(usual, name) for name in shown}
