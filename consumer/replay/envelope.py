"""A record's value as JSON, and the event inside its envelope: what rewriting reads and writes."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from schemas.events import pointer_keys
from schemas.json_text import decode_json

_encode: Final = msgspec.json.Encoder().encode

_PREFIX: Final = 5
"""Bytes of a Confluent wire-format prefix, which begins with byte 0 (`docs/contract.md`, the topic)."""


class NoEvent(ValueError):
    """The value is no JSON, or holds no object where the event should be."""


def edit(value: bytes, pointer: str, event: Callable[[dict[str, Any]], Any], whole: Callable[[Any], Any]) -> bytes:
    """Return the value with the event at the JSON pointer, and what is around it, as these make them.

    Args:
        value: the record's value. Its schema prefix, if any, stays.
        pointer: where the event is; it may be text with the event's JSON in it.
        event: makes the new event.
        whole: makes the new envelope; the event is put into it afterwards.

    Raises:
        NoEvent: there is no event.
    """
    prefix, body = (value[:_PREFIX], value[_PREFIX:]) if value[:1] == b"\0" else (b"", value)
    keys = pointer_keys(pointer)
    try:
        found = document = decode_json(body)
        for key in keys:
            found = found[int(key) if isinstance(found, list) else key]
        inside = decode_json(found.encode()) if isinstance(found, str) and keys else found
    except (ValueError, LookupError, TypeError):
        raise NoEvent from None
    if not isinstance(inside, dict):
        raise NoEvent
    edited = event(inside)
    new: Any = _encode(edited).decode() if isinstance(found, str) else edited
    if not keys:
        return prefix + _encode(new)
    document = spot = whole(document)
    for key in keys[:-1]:
        spot = spot[int(key) if isinstance(spot, list) else key]
    spot[int(keys[-1]) if isinstance(spot, list) else keys[-1]] = new
    return prefix + _encode(document)
