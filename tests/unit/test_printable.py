import json
import unicodedata
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.cli import output
from consumer.failure import Failure
from consumer.printable import printable, printable_json

DANGEROUS = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "a\r\nb",
    "\x9b31m",
    "\x7f",
    "\x00",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "\u200b",
    "\ufeff",
    "\u2028",
    "\u2029",
    "\u0085",
    "\U000e0041",
    "\ud83d",
]


def is_safe(text: str) -> bool:
    return all(unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in text)


@pytest.mark.parametrize("text", DANGEROUS, ids=ascii)
def test_p6_what_a_terminal_acts_upon_is_escaped(text: str) -> None:
    assert is_safe(printable(f"blåbær {text} 日本"))
    shown = printable_json(json.dumps(text, ensure_ascii=False))
    assert is_safe(shown)
    assert json.loads(shown) == text


def test_letters_of_any_script_and_spaces_stay() -> None:
    text = "Østlandet 100\u00a0kr, 日本語 💙 \u3000 d'Été"
    assert printable(text) == text
    assert printable_json(json.dumps(text, ensure_ascii=False)) == json.dumps(text, ensure_ascii=False)


@given(st.text(st.characters()))
def test_nothing_unsafe_is_left_and_json_keeps_its_meaning(text: str) -> None:
    assert is_safe(printable(text))
    for only_ascii in (False, True):
        shown = printable_json(json.dumps(text, ensure_ascii=False), only_ascii=only_ascii)
        assert is_safe(shown)
        assert json.loads(shown) == text
        assert shown.isascii() or not only_ascii


def test_p6_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.line("key\nforged line\x1b[1A")
    output.complain("name\x1b]0;x\x07\u202e")
    output.note("a\rb")
    output.print_json({"key": "\x1b\x9b\u202e\ud83d"})
    output.lines("one\ntwo\x07")
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "key\\nforged line\\x1b[1A",
        '{"key": "\\u001b\\u009b\\u202e\\ud83d"}',
        "one",
        "two\\x07",
    ]
    assert err.splitlines() == ["sesamy-mailmojo: name\\x1b]0;x\\x07\\u202e", "a\\rb"]


@pytest.mark.parametrize(
    "write",
    [lambda: output.line("x" * 10_000), lambda: output.print_json("x" * 10_000), lambda: output.write_bytes(b"x")],
)
def test_p10_what_cannot_be_written_names_standard_output(
    monkeypatch: pytest.MonkeyPatch, write: Callable[[], None]
) -> None:
    with suppress(OSError), open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - a device
        monkeypatch.setattr("sys.stdout", full)

        def write_all() -> None:
            write()
            output.flush()

        with pytest.raises(Failure, match="cannot write to standard output: No space left on device"):
            write_all()
