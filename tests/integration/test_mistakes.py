"""Wrong settings and what is out of reach: one clear line that names the setting, an exit code, never a traceback."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.stage import Stage
from tests.service_process import ServiceProcess

NOWHERE = "127.0.0.1:1"


class Mistake(NamedTuple):
    """Settings that are wrong, the exit code that they deserve, and what the one line must say."""

    settings: dict[str, str]
    code: int
    says: tuple[str, ...]


MISTAKES = {
    "no Mailmojo token": Mistake({"MAILMOJO_API_TOKEN": ""}, 2, ("MAILMOJO_API_TOKEN",)),
    "no list": Mistake({"MAILMOJO_LIST_ID": ""}, 2, ("MAILMOJO_LIST_ID",)),
    "no client id": Mistake({"SESAMY_CLIENT_ID": ""}, 2, ("SESAMY_CLIENT_ID",)),
    "no client secret": Mistake({"SESAMY_CLIENT_SECRET": ""}, 2, ("SESAMY_CLIENT_SECRET",)),
    "a secret's file that is not there": Mistake(
        {"MAILMOJO_API_TOKEN": "", "MAILMOJO_API_TOKEN_FILE": "/no/such/file"},
        2,
        ("MAILMOJO_API_TOKEN_FILE", "/no/such/file"),
    ),
    "a number that is none": Mistake({"SYNC_CONCURRENCY": "many"}, 2, ("SYNC_CONCURRENCY", "many")),
    "a number out of range": Mistake({"SYNC_LINGER": "-1"}, 2, ("SYNC_LINGER", "-1")),
    "a choice that there is not": Mistake(
        {"KAFKA_AUTO_OFFSET_RESET": "newest"}, 2, ("KAFKA_AUTO_OFFSET_RESET", "newest", "earliest", "latest")
    ),
    "a boolean that is none": Mistake({"SYNC_DRY_RUN": "perhaps"}, 2, ("SYNC_DRY_RUN", "perhaps")),
    "no time zone": Mistake({"SYNC_TIME_ZONE": "Oslo"}, 2, ("SYNC_TIME_ZONE", "Oslo")),
    "http to somewhere else (Mailmojo)": Mistake(
        {"MAILMOJO_API_URL": "http://api.example.org"}, 2, ("MAILMOJO_API_URL", "https")
    ),
    "http to somewhere else (Sesamy)": Mistake(
        {"SESAMY_TOKEN_URL": "http://token.example.org/oauth/token"}, 2, ("SESAMY_TOKEN_URL", "https")
    ),
    "no TOML file": Mistake(
        {"SESAMY_MAILMOJO_CONFIG": "/no/such.toml"}, 2, ("SESAMY_MAILMOJO_CONFIG", "/no/such.toml")
    ),
    "no broker": Mistake(
        {"KAFKA_BOOTSTRAP_SERVERS": NOWHERE, "KAFKA_SESSION_TIMEOUT": "6"}, 1, ("KAFKA_BOOTSTRAP_SERVERS", NOWHERE)
    ),
    "no topic": Mistake({"KAFKA_TOPIC": "no.such.topic"}, 1, ("KAFKA_TOPIC", "no.such.topic")),
    "no dead-letter topic": Mistake(
        {"KAFKA_DEAD_LETTER_TOPIC": "no.such.topic"}, 1, ("KAFKA_DEAD_LETTER_TOPIC", "no.such.topic")
    ),
    "no such address to listen on": Mistake({"ADMIN_HOST": "203.0.113.1"}, 1, ("ADMIN_HOST", "203.0.113.1")),
}


def complaint(process: ServiceProcess) -> str:
    """Return the one line on stderr that is for people; the log's lines are JSON."""
    assert "Traceback" not in process.output()
    (line,) = [line for line in process.stderr.read_text().splitlines() if not line.startswith("{")]
    return line


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
async def test_run_names_the_setting_that_is_wrong(stage: Stage, mistake: Mistake) -> None:
    process = await stage.finish(settings=mistake.settings)
    assert process.returncode == mistake.code
    line = complaint(process)
    for words in mistake.says:
        assert words in line
    assert process.stdout.read_text() == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[kafka]\ntopik = "events"\n', ("kafka.topik", "kafka.topic")),
        ('[kafca]\ntopic = "events"\n', ("kafca",)),
        ('[sync]\nconcurrency = "many"\n', ("sync.concurrency", "many")),
        ("[sync\n", ("TOML",)),
    ],
)
async def test_run_names_the_toml_key_that_is_wrong(
    stage: Stage, tmp_path: Path, text: str, says: tuple[str, ...]
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(text)
    process = await stage.finish("run", "--config", str(config))
    assert process.returncode == 2
    line = complaint(process)
    for words in (*says, str(config)):
        assert words in line


@pytest.mark.parametrize("arguments", [("fly",), ("run", "--fast"), ("sync",), ("sync", ".."), ("",)])
async def test_wrong_usage_ends_with_2_and_the_way_to_the_help(stage: Stage, arguments: tuple[str, ...]) -> None:
    process = await stage.finish(*arguments)
    assert process.returncode == 2
    assert "--help" in complaint(process)


class Finding(NamedTuple):
    """Something that `check` must find: what is wrong outside, or settings that are, and what the line must say."""

    settings: dict[str, str]
    says: tuple[str, ...]


FINDINGS = {
    "the list is unknown": Finding({"MAILMOJO_LIST_ID": "4711"}, ("MAILMOJO_LIST_ID",)),
    "Mailmojo's token is refused": Finding({"MAILMOJO_API_TOKEN": "wrong"}, ("MAILMOJO_API_TOKEN", "401")),
    "Sesamy's credentials are refused": Finding({"SESAMY_CLIENT_SECRET": "wrong"}, ("SESAMY_CLIENT_SECRET",)),
    "no Kafka": Finding({"KAFKA_BOOTSTRAP_SERVERS": NOWHERE}, ("KAFKA_BOOTSTRAP_SERVERS", NOWHERE)),
    "no topic": Finding({"KAFKA_TOPIC": "no.such.topic"}, ("KAFKA_TOPIC", "no.such.topic")),
    "no dead-letter topic": Finding({"KAFKA_DEAD_LETTER_TOPIC": "no.such.topic"}, ("KAFKA_DEAD_LETTER_TOPIC",)),
    "no Mailmojo": Finding({"MAILMOJO_API_URL": f"http://{NOWHERE}"}, ("Mailmojo",)),
}


@pytest.mark.parametrize("finding", FINDINGS.values(), ids=FINDINGS.keys())
async def test_check_says_what_is_wrong_in_one_line_and_goes_on(stage: Stage, finding: Finding) -> None:
    process = await stage.finish("check", settings=finding.settings)
    assert process.returncode == 1
    assert "Traceback" not in process.output()
    lines = process.stdout.read_text().splitlines()
    failed = [line for line in lines if re.match(r"failed\b", line)]
    assert any(all(words in line for words in finding.says) for line in failed), lines
    assert any(re.match(r"ok\b", line) for line in lines)
