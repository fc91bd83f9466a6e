"""From the bytes of an answer to structs, as tolerantly as the references ask for, and no more.

`null`, `""` and a missing key all mean "no value", for text, numbers, booleans and lists alike. Lists come bare or as
`{"data": […], "meta"|"pagination": {…}}` (`reference/sesamy.md`). Anything else that does not fit is an error: a
state that cannot be read must never look like an empty one, or a sync would clear fields on garbage.
"""

from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")


class Pagination(Struct, frozen=True):
    """How much of a list there is. `total` is missing where the API sends none."""

    total: int | None = None
    limit: int | None = None
    offset: int | None = None


class Page(Struct, Generic[T], frozen=True):
    """One page of a list, and the length of the whole list where the API says it."""

    items: list[T]
    total: int | None = None


def decode_json(body: bytes) -> Any:
    """Decode any JSON. Raises `msgspec.DecodeError` for whatever is wrong with it, depth and encoding included."""
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise msgspec.DecodeError("JSON is nested too deeply") from None
    except UnicodeDecodeError:
        raise msgspec.DecodeError("JSON is not UTF-8") from None


def convert(value: Any, kind: type[T]) -> T:
    """Turn decoded JSON into `kind`. Raises `msgspec.ValidationError`, which names the place and not the value."""
    try:
        return msgspec.convert(_without_blanks(value), kind)
    except RecursionError:
        raise msgspec.ValidationError("JSON is nested too deeply") from None


def decode_page(body: bytes, kind: type[T]) -> Page[T]:
    """Decode a list, bare or wrapped. Raises `msgspec.DecodeError` or `msgspec.ValidationError`."""
    answer = decode_json(body)
    if isinstance(answer, list):
        return Page(items=[convert(item, kind) for item in answer])
    if not isinstance(answer, dict) or "data" not in answer:
        raise msgspec.ValidationError("Expected a list, bare or under `data`")
    items = answer["data"] or []
    if not isinstance(items, list):
        raise msgspec.ValidationError("Expected a list under `data`")
    about = convert(answer.get("meta") or answer.get("pagination") or {}, Pagination)
    return Page(items=[convert(item, kind) for item in items], total=about.total)


def _without_blanks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_blanks(item) for key, item in value.items() if not _is_blank(item)}
    if isinstance(value, list):
        return [_without_blanks(item) for item in value if not _is_blank(item)]
    return value


def _is_blank(value: Any) -> bool:
    return value is None or value == ""
