"""Text without the escapes that APIs, logs and browsers put into it, and the way back to where each character stood."""

import re
import unicodedata
from bisect import bisect_right
from html.entities import html5
from typing import Final

_MOST_PASSES: Final = 12
"""Escapes within escapes that are undone; %2540 and the like count once, however deep they are."""

_COMPATIBLE: Final = "\ufe50-\ufe6f\uff01-\uff5e\U0001d400-\U0001d7ff"
"""Other shapes of ASCII characters: small, full width, mathematical."""

ESCAPING: Final = re.compile(rf"[%&\\{_COMPATIBLE}]|=40")
"""What every escape has in it."""

_HEX: Final = "[0-9a-f]"
_TAIL: Final = rf"%[89ab]{_HEX}"  # of a character of several bytes in UTF-8

_ESCAPE: Final = re.compile(
    rf"(?P<percent>%(?:25)+)"
    rf"|(?P<octets>%[0-7]{_HEX}|%[cd]{_HEX}{_TAIL}|%e{_HEX}(?:{_TAIL}){{2}}|%f[0-7](?:{_TAIL}){{3}}|%{_HEX}{{2}})"
    r"|(?P<ampersand>&(?:amp;|\#0{0,9}38;|\#x0{0,9}26;)+)"
    r"|&\#0{0,9}(?P<decimal>\d{1,7});"
    rf"|&\#x0{{0,9}}(?P<hexadecimal>{_HEX}{{1,6}});"
    r"|&(?P<entity>[a-z][a-z0-9]{1,30};)"
    r"|(?<!\\)\\+(?:"
    rf"(?-i:U)(?P<long>{_HEX}{{8}})|u(?P<unicode>{_HEX}{{4}})|u\{{0{{0,9}}(?P<braced>{_HEX}{{1,6}})\}}"
    rf"|(?P<octet>x)(?={_HEX}{{2}})|(?P<space>[nrtbf])|(?P<itself>[/\"'@]))"
    r"|(?P<printable>=40)(?=[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}\.[a-z]{2,24})"
    rf"|(?P<compatible>[{_COMPATIBLE}])",
    re.IGNORECASE,
)


_UNFINISHED: Final = re.compile(
    rf"&\#0{{0,9}}(?P<decimal>\d{{1,7}})|&\#x0{{0,9}}(?P<hexadecimal>{_HEX}{{1,6}})|(?P<backslashes>\\+)", re.IGNORECASE
)
"""What browsers read though the semicolon is missing, and backslashes that may or may not escape something.

Undone where there is no other escape: characters of these may be escaped themselves.
"""


class Spelled:
    """A text whose escapes are undone: percent, HTML, JSON, Python's and other shapes of characters, in any mixture.

    It serves to find something: backslashes are left out of it.
    """

    def __init__(self, raw: str) -> None:
        self.raw = raw
        self.text = raw
        self._passes: list[_Pass] = []
        while len(self._passes) < _MOST_PASSES and ESCAPING.search(self.text):
            undone = _Pass(self.text, _ESCAPE)
            if not undone.changed:
                undone = _Pass(self.text, _UNFINISHED)
            if not undone.changed:
                break
            self.text = undone.text
            self._passes.append(undone)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return where in the raw text the characters from `start` to before `end` stand."""
        last = end - 1
        for undone in reversed(self._passes):
            start, _ = undone.place(start)
            _, end = undone.place(last)
            last = end - 1
        return start, last + 1


class _Pass:
    """The outermost escapes of a text undone."""

    def __init__(self, raw: str, escape: re.Pattern[str]) -> None:
        parts: list[str] = []
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._raw: list[tuple[int, int]] = []
        at = length = 0
        for match in escape.finditer(raw):
            char = _meant(match)
            if char is None:
                continue
            start, end = match.span()
            parts += (raw[at:start], char)
            length += start - at
            self._starts.append(length)
            length += len(char)
            self._ends.append(length)
            self._raw.append((start, end))
            at = end
        parts.append(raw[at:])
        self.text = "".join(parts)
        self.changed = bool(self._starts)

    def place(self, index: int) -> tuple[int, int]:
        """Return start and end in the raw text of the character at this index."""
        found = bisect_right(self._starts, index) - 1
        if found < 0:
            return index, index + 1
        start, end = self._raw[found]
        if index < self._ends[found]:
            return start, end
        start = end + index - self._ends[found]
        return start, start + 1


def _meant(match: re.Match[str]) -> str | None:
    kind = match.lastgroup
    value = match[kind] if kind else ""
    match kind:
        case "percent" | "octet":
            return "%"
        case "octets":
            return bytes.fromhex(value.replace("%", "")).decode("utf-8", "replace")
        case "ampersand":
            return "&"
        case "decimal":
            return _char(int(value))
        case "long" | "unicode" | "braced":
            char = _char(int(value, 16))
            # Or is it an escape whose letter is escaped, after its backslash?
            return f"\\{char}" if char in {"x", "u", "U"} and match[0].startswith("\\\\") else char
        case "hexadecimal":
            return _char(int(value, 16))
        case "entity":
            return html5.get(value) or html5.get(value.lower())
        case "space":
            return " "
        case "backslashes":
            return ""
        case "itself":
            return value
        case "printable":
            return "@"
        case _:
            return unicodedata.normalize("NFKC", value)


def _char(code: int) -> str | None:
    return chr(code) if code <= 0x10FFFF else None
