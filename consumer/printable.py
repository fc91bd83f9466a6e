"""Text of others made fit for a terminal, a log line or a page."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

_NOT_ASCII: Final = re.compile(r"[^\x00-\x7e]")


def printable(text: str) -> str:
    r"""Return the text in one line, with every character that is not shown, or changes what is shown, escaped.

    That is: control characters (ESC, CR, LF, C1), line separators, characters of no width, those that turn the
    direction of writing, and halves of characters. They become such as `\x1b`, `\n` or `\u202e`.
    """
    if text.isprintable():
        return text
    return "".join(char if _is_shown(char) else _escaped(char) for char in text)


def printable_values(value: object) -> object:
    """Return decoded JSON with every text in it printable, keys included."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): printable_values(part) for key, part in value.items()}
    return [printable_values(part) for part in value] if isinstance(value, list | tuple) else value


def printable_json(json: str, *, only_ascii: bool = False) -> str:
    r"""Return JSON with the same characters escaped as `\uXXXX`, or with `only_ascii` all that are not ASCII."""
    if json.isprintable() and not only_ascii:
        return json
    return _NOT_ASCII.sub(lambda match: match[0] if not only_ascii and _is_shown(match[0]) else _json(match[0]), json)


def _is_shown(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _json(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
