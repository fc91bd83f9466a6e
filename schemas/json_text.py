r"""JSON as servers really send it: numbers of any size, and halves of surrogate pairs.

RFC 8259 allows an escape such as `\ud83d` without its other half, and a number such as `1e400`; msgspec refuses both,
wherever they stand. They must not make a whole answer or event unreadable.
"""

import json
import math
import re
from typing import Any, Final

import msgspec

_HALVES: Final = re.compile("[\ud800-\udfff]")
MARK: Final = "\ufffd"
"""Stands for half a surrogate pair where the text would be another one without it."""

_IDENTIFYING: Final = frozenset({"id", "userId", "email", "payerUserId", "giftedBy", "list_id"})
"""Keys whose texts tell one thing from another: an address without its half may be somebody else's."""

_LONGEST_INTEGER: Final = 4000
"""Digits that Python converts; a longer integer is infinite for whoever wants a number."""


def decode_json(body: bytes) -> Any:
    """Decode any JSON; half a surrogate pair is left out of its text, or becomes a mark (`without_halves`).

    Raises:
        msgspec.DecodeError: whatever is wrong with it, depth and encoding included.
    """
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):  # perhaps no more than half a surrogate pair, or a number without bound
        return without_halves(decode_tolerantly(body))


def decode_tolerantly(body: bytes | str) -> Any:
    """Decode any JSON; half a surrogate pair stays in its text, and a number without bound is that number's text.

    Raises:
        msgspec.DecodeError: it is not JSON, not UTF-8, or nested too deeply.
    """
    try:
        return _loads(body.decode() if isinstance(body, bytes) else body)
    except UnicodeDecodeError:
        raise msgspec.DecodeError("JSON is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise msgspec.DecodeError(f"not JSON: {error.msg} (character {error.pos})") from None
    except RecursionError:
        raise msgspec.DecodeError("JSON is nested too deeply") from None


def without_halves(value: Any, instead: str = "") -> Any:
    """Return decoded JSON with `instead` for each half of a surrogate pair in its texts.

    In a key, an id or an address it is always a mark: without its half it would be another one.

    Raises:
        msgspec.DecodeError: the JSON is nested too deeply.
    """
    try:
        return _without_halves(value, instead)
    except RecursionError:
        raise msgspec.DecodeError("JSON is nested too deeply") from None


def has_halves(text: str) -> bool:
    """Tell whether there is half a surrogate pair in the text."""
    return _HALVES.search(text) is not None


def _without_halves(value: Any, instead: str) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else _HALVES.sub(instead, value)
    if isinstance(value, dict):
        return {
            _HALVES.sub(MARK, key): _without_halves(item, MARK if key in _IDENTIFYING else instead)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_without_halves(item, instead) for item in value]
    return value


def _integer(text: str) -> int | str:
    return int(text) if len(text) <= _LONGEST_INTEGER else text


def _real(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _refuse(constant: str) -> None:
    raise json.JSONDecodeError(f"{constant} is not JSON", constant, 0)


_loads: Final = json.JSONDecoder(parse_int=_integer, parse_float=_real, parse_constant=_refuse).decode
