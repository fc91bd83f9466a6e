"""`config example` and `config show`."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from consumer import cli
from consumer.settings import load
from consumer.settings.example import render
from consumer.settings.tree import table

REQUIRED = {"SESAMY_CLIENT_ID": "id", "SESAMY_CLIENT_SECRET": "s", "MAILMOJO_API_TOKEN": "t", "MAILMOJO_LIST_ID": "7"}


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, str | None]]:
    assert cli.main(["config", "show", "--json", *arguments]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {line["setting"]: line for line in lines}


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in table():
        monkeypatch.delenv(row.setting.env, raising=False)


def test_the_example_names_every_setting_with_its_meaning() -> None:
    text = render()
    for row in table():
        key = f"{row.key}_file" if row.secret else row.key
        assert re.search(rf"^# .*\({row.setting.env}\).*\n(# )?{key} = ", text, re.MULTILINE), row.toml
        assert row.setting.meaning[1:] in text


def test_the_example_is_the_defaults_with_and_without_its_comments(tmp_path: Path) -> None:
    defaults = load(REQUIRED)
    for text in (render(), re.sub(r"^# (\w+ = )", r"\1", render(), flags=re.MULTILINE)):
        assert tomllib.loads(text)
        file = tmp_path / "example.toml"
        file.write_text(text)
        loaded = load(REQUIRED, file)
        for section in ("kafka", "sesamy", "mailmojo", "sync", "admin", "ingest", "log"):
            assert getattr(loaded, section) == getattr(defaults, section)


def test_each_setting_is_shown_with_its_source(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[kafka]\ntopic = 'events'\n[sync]\nlinger = 5\ncoalesce = false\n")
    monkeypatch.setenv("SYNC_LINGER", "0.5")
    found = shown(capsys, "--config", str(file))
    assert list(found) == [row.setting.env for row in table()]
    for name, value, source in (
        ("KAFKA_TOPIC", "events", f"kafka.topic in {file}"),
        ("KAFKA_DEAD_LETTER_TOPIC", "events.dead-letters", "default"),
        ("SYNC_LINGER", "0.5", "SYNC_LINGER"),
        ("SYNC_COALESCE", "false", f"sync.coalesce in {file}"),
        ("SYNC_CONCURRENCY", "64", "default"),
        ("SESAMY_VENDOR_ID", None, "default"),
        ("MAILMOJO_LIST_ID", None, "not set"),
    ):
        assert (found[name]["value"], found[name]["source"]) == (value, source)


def test_a_secret_is_never_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("hunter2-in-a-file")
    file.chmod(0o600)
    monkeypatch.setenv("SESAMY_CLIENT_SECRET", "hunter2-in-a-variable")
    monkeypatch.setenv("MAILMOJO_API_TOKEN_FILE", str(file))
    monkeypatch.setenv("KAFKA_CLIENT_ID", "hunter2-in-a-variable")  # pasted into a wrong setting as well
    found = shown(capsys)
    assert "hunter2" not in json.dumps(found)
    assert (found["MAILMOJO_API_TOKEN"]["value"], found["MAILMOJO_API_TOKEN"]["source"]) == (
        "***",
        "MAILMOJO_API_TOKEN_FILE",
    )
    assert (found["KAFKA_SASL_PASSWORD"]["value"], found["KAFKA_SASL_PASSWORD"]["source"]) == (None, "default")


def test_a_wrong_setting_is_named_as_everywhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_LINGER", "soon")
    assert cli.main(["config", "show"]) == 2
    assert capsys.readouterr().err.startswith("sesamy-mailmojo: SYNC_LINGER must be a number")
