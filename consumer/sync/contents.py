"""What a response that was accepted says about a value that another response had and nobody could read.

A user without contracts says nothing about the format of a contract's dates. So a value that could not be read is
refuted only by a response of the same call that has such a value, and a readable one.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from consumer.mapping.instants import UnreadableState, instant
from schemas.decoding import decode_json

ANYTHING: Final = ""
"""The content of a failure that names no field: any response that is not empty refutes it."""

_PATH = re.compile(r"`\$[^`]*?([A-Za-z_]\w*)(?:\[[^\]`]*\])*`")
"""The last name in the place where msgspec found what it did not expect, as in `$[...].issuesRemaining`."""


def field_of(text: str) -> str:
    """Return the field that msgspec's error text names, or `ANYTHING`."""
    found = _PATH.search(text)
    return found[1] if found else ANYTHING


def shows(body: bytes, field: str) -> bool:
    """Tell whether an accepted response has values of this field, all of them readable.

    A name with a full stop, as in `contract.expiresAt`, is a time (`UnreadableState`), and is read as one.
    """
    try:
        answer = decode_json(body)
    except ValueError:
        return False
    if field == ANYTHING:
        return not _is_empty(answer)
    *owner, name = field.split(".")
    values = [value for value in _values(answer, name) if value not in (None, "")]
    return bool(values) and not (owner and any(map(_is_unreadable, values)))


def _is_empty(answer: Any) -> bool:
    if not isinstance(answer, dict):
        return not answer
    lists = [value for key, value in answer.items() if isinstance(value, list) and key != "tags"]
    return not answer or ("email" not in answer and bool(lists) and not any(lists))


def _values(answer: Any, name: str) -> Iterator[Any]:
    if isinstance(answer, dict):
        for key, value in answer.items():
            if key == name:
                yield value
            else:
                yield from _values(value, name)
    elif isinstance(answer, list):
        for item in answer:
            yield from _values(item, name)


def _is_unreadable(value: Any) -> bool:
    try:
        instant(str(value), "")
    except UnreadableState:
        return True
    return False
