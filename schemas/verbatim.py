r"""Parts of a JSON text exactly as they stand there: what is not ours is sent back like this (promise P10).

Python has no value for all that JSON allows: digits beyond a double, half a surrogate pair (`\ud83d`), a thousand
brackets. So a part is kept as its own text, `msgspec.Raw` for values and `Verbatim` for texts that are keys or tags.
"""

import re
from typing import Any, Final, Self

import msgspec
from msgspec import Raw

from schemas.json_text import decode_tolerantly, has_halves

_STRING: Final = r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
_SCALAR: Final = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null"
_TOKEN: Final = re.compile(rf"[ \t\n\r]*+(?:(?P<string>{_STRING})|(?P<scalar>{_SCALAR})|(?P<mark>[\[\]{{}},:]))")
_END: Final = re.compile(r"[ \t\n\r]*+\Z")

# What may come next: a value, a key, the colon behind it, or a comma or the closing bracket behind a value.
_VALUE, _KEY, _COLON, _NEXT = range(4)
_CLOSES: Final = {"}": "{", "]": "["}


class Verbatim(str):
    """A text that remembers how it stood in the JSON. It compares as the text that it is."""

    __slots__ = ("raw",)

    raw: bytes

    def __new__(cls, text: str, raw: bytes) -> Self:
        """Return `text`, which stands as `raw` in the JSON."""
        new = super().__new__(cls, text)
        new.raw = raw
        return new


def members(text: str) -> dict[str, Raw]:
    """Return the members of a JSON object; of two with the same key the last one.

    Raises:
        msgspec.DecodeError: it is not JSON.
        msgspec.ValidationError: it is no object.
    """
    return {_key(key): Raw(value.encode()) for key, value in _parts(text, "{")}


def elements(text: str) -> list[Raw]:
    """Return the elements of a JSON array. Raises as `members` does."""
    return [Raw(value.encode()) for _, value in _parts(text, "[")]


def text_of(raw: Raw) -> str:
    """Return the text of a JSON string, which may have halves of surrogate pairs; of another value, its JSON."""
    body = bytes(raw)
    if body[:1] != b'"':
        return Verbatim(body.decode(), body)
    if b"\\" not in body:
        return body[1:-1].decode()
    return Verbatim(decode_tolerantly(body), body)


def value_of(value: Any) -> Any:
    """Return what a `Raw` holds; what Python cannot hold is its JSON, as text. Any other value is itself."""
    if type(value) is not Raw:
        return value
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        body = bytes(value)
    try:
        return decode_tolerantly(body)
    except msgspec.DecodeError:
        return body.decode()


def loggable(text: str) -> str:
    """Return the text as an ordinary one that every encoder takes."""
    return text.encode(errors="backslashreplace").decode()


def _key(raw: str) -> str:
    text: str = decode_tolerantly(raw)
    return Verbatim(text, raw.encode()) if has_halves(text) else text


def _parts(text: str, kind: str) -> list[tuple[str, str]]:
    """Return keys (empty in an array) and values of the outermost object or array, without recursion."""
    first = _TOKEN.match(text)
    if first is None or not _is_json(text):
        raise msgspec.DecodeError("not JSON")
    if first["mark"] != kind:
        raise msgspec.ValidationError(f"Expected `{'object' if kind == '{' else 'array'}`")
    found: list[tuple[str, str]] = []
    key, begin, end, depth = "", -1, 0, 0
    for token in _TOKEN.finditer(text, first.end()):
        mark = token["mark"]
        if depth == 0:
            if mark == ":":
                key, begin = text[begin:end], -1
                continue
            if mark in {",", "}", "]"}:
                if begin >= 0:
                    found.append((key, text[begin:end]))
                begin = -1
                continue
        if begin < 0:
            begin = token.start(token.lastgroup or 0)
        end = token.end()
        depth += (mark in {"{", "["}) - (mark in _CLOSES)
    return found


def _is_json(text: str) -> bool:
    """Tell whether the text is one JSON value, by the grammar of RFC 8259 and however deep it is."""
    open_: list[str] = []
    state, may_close, position = _VALUE, False, 0
    while True:
        token = _TOKEN.match(text, position)
        if token is None:
            return state == _NEXT and not open_ and _END.match(text, position) is not None
        position, mark = token.end(), token["mark"]
        if mark in _CLOSES:
            if not open_ or open_.pop() != _CLOSES[mark] or not (state == _NEXT or may_close):
                return False
            state, may_close = _NEXT, False
        elif state == _NEXT:
            if mark != "," or not open_:
                return False
            state = _KEY if open_[-1] == "{" else _VALUE
        elif state == _COLON:
            if mark != ":":
                return False
            state = _VALUE
        elif state == _KEY:
            if token["string"] is None:
                return False
            state, may_close = _COLON, False
        elif mark in {"{", "["}:
            open_.append(mark)
            state, may_close = (_KEY if mark == "{" else _VALUE), True
        elif mark is not None:
            return False
        else:
            state, may_close = _NEXT, False
