import argparse
from pathlib import Path
from typing import Any

import pytest

from consumer import cli
from consumer.cli import reconcile
from consumer.failure import Failure
from consumer.reconcile.search import Found
from consumer.reconcile.suspects import Suspect

SETTINGS = {
    "SESAMY_CLIENT_ID": "client",
    "SESAMY_CLIENT_SECRET": "sesame",
    "MAILMOJO_API_TOKEN": "hunter2",
    "MAILMOJO_LIST_ID": "7",
}


def found(suspects: int, ours: int) -> Found:
    return Found(users=10, ours=ours, suspects=[Suspect(f"kari.{n}@x.no", f"email|{n}") for n in range(suspects)])


def asked(**options: Any) -> argparse.Namespace:
    return argparse.Namespace(**({"yes": False, "expect": None} | options))


def make_sure(seen: Found, **options: Any) -> None:
    reconcile._make_sure(seen, asked(**options), lambda text: text.replace("kari", "k***"))


@pytest.mark.parametrize(
    "arguments",
    [["--yes", "--dry-run"], ["--yes", "--expect", "3"], ["--expect", "-1"], ["--expect", "some"], ["--expect"], ["x"]],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reconcile", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--help" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "give --yes, --expect N or --dry-run"), (["--yes", "--contacts", "/nowhere"], "--contacts /nowhere")],
)
def test_a_mistake_is_said_before_any_call(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    with Path("/dev/null").open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        assert cli.main(["reconcile", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("seen", "options"),
    [
        (found(5, 10), {"yes": True}),
        (found(5, 10), {"expect": 5}),
        (found(5, 10), {"expect": 9}),
        (found(6, 10), {"expect": 6}),
        (found(1, 1), {"expect": 1}),
    ],
)
def test_what_is_confirmed_beforehand_is_not_asked(seen: Found, options: dict[str, Any]) -> None:
    make_sure(seen, **options)


@pytest.mark.parametrize(
    ("seen", "options", "said"),
    [
        (found(6, 10), {"yes": True}, "--expect 6 clears them"),
        (found(6, 10), {"expect": 7}, "--expect 6 clears them"),
        (found(5, 10), {"expect": 4}, "more than --expect 4"),
        (found(5, 10), {"expect": 0}, "more than --expect 0"),
    ],
)
def test_what_is_not_confirmed_is_refused(seen: Found, options: dict[str, Any], said: str) -> None:
    with pytest.raises(Failure, match=said):
        make_sure(seen, **options)


@pytest.mark.parametrize(("typed", "sure"), [("25", True), (" 25 ", True), ("y", False), ("", False), (None, False)])
def test_the_count_confirms_what_was_shown(
    typed: str | None, sure: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(_prompt: str) -> str:
        if typed is None:
            raise EOFError
        return typed

    monkeypatch.setattr("builtins.input", answer)
    if sure:
        make_sure(found(25, 40))
    else:
        with pytest.raises(Failure, match="nothing was cleared"):
            make_sure(found(25, 40))
    said = capsys.readouterr()
    assert "k***.19@x.no  email|19\n  and 5 more (--dry-run shows all)\n" in said.out
    assert "tenant" in said.err
