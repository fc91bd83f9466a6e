"""From the bytes of an answer to structs, as tolerantly as the references ask for, and no more.

`null`, `""` and a missing key all mean "no value", for text, numbers, booleans and lists alike. Lists come bare or as
`{"data": […], "meta"|"pagination": {…}}` (`reference/sesamy.md`). Anything else that does not fit is an error: a
state that cannot be read must never look like an empty one, or a sync would clear fields on garbage.

Nearly every answer goes straight into its struct. What has an `""` in it, or does not fit, is looked at again with the
blanks taken out, which is several times as slow and what the functions here promise.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")
S = TypeVar("S", bound=Struct)


class Pagination(Struct, frozen=True):
    """How much of a list there is. `total` is missing where the API sends none."""

    total: int | None = None
    limit: int | None = None
    offset: int | None = None


class Page(Struct, Generic[T], frozen=True):
    """One page of a list, and the length of the whole list where the API says it."""

    items: list[T]
    total: int | None = None


class _Wrapped(Struct, Generic[T], frozen=True):
    data: list[T]
    meta: Pagination | None = None
    pagination: Pagination | None = None


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


def decode(body: bytes, kind: type[S]) -> S:
    """Decode one object. Raises `msgspec.DecodeError` or `msgspec.ValidationError`."""
    found: S | None = straight(body, _decoder(kind))
    return convert(decode_json(body), kind) if found is None or _is_loose(found) else found


def decode_page(body: bytes, kind: type[T]) -> Page[T]:
    """Decode a list, bare or wrapped. Raises `msgspec.DecodeError` or `msgspec.ValidationError`."""
    return (_straight_page(body, kind) if issubclass(kind, Struct) else None) or _careful_page(body, kind)


def straight(body: bytes, decoder: msgspec.json.Decoder[T]) -> T | None:
    """Return what the body holds if it fits as it is; None when it has to be looked at with care."""
    if b'""' in body:
        return None
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError):  # perhaps no more than a null where none is expected
        return None


def _straight_page(body: bytes, kind: type[T]) -> Page[T] | None:
    if body[:1] == b"[":
        items = straight(body, _list_decoder(kind))
        page = None if items is None else Page(items)
    else:
        wrapped = straight(body, _wrapped_decoder(kind))
        if wrapped is None or (wrapped.meta and wrapped.pagination):  # which of the two counts is a matter of blanks
            return None
        about = wrapped.meta or wrapped.pagination
        page = Page(wrapped.data, about.total if about else None)
    return None if page is None or any(map(_is_loose, page.items)) else page


def _careful_page(body: bytes, kind: type[T]) -> Page[T]:
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


_Decoders = Callable[[Any], msgspec.json.Decoder[Any]]
_decoder: _Decoders = cache(msgspec.json.Decoder)
_list_decoder: _Decoders = cache(lambda kind: msgspec.json.Decoder(list[kind]))  # type: ignore[valid-type]
_wrapped_decoder: _Decoders = cache(lambda kind: msgspec.json.Decoder(_Wrapped[kind]))  # type: ignore[valid-type]


def _is_loose(item: object) -> bool:
    """Tell whether a field whose type is not insisted on holds something that may have blanks inside."""
    names = _loose_fields(type(item))
    return bool(names) and any(isinstance(getattr(item, name), dict | list) for name in names)


_loose_fields: Callable[[Any], list[str]] = cache(
    lambda kind: [field.name for field in msgspec.structs.fields(kind) if field.type is Any]
)


def _without_blanks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_blanks(item) for key, item in value.items() if not _is_blank(item)}
    if isinstance(value, list):
        return [_without_blanks(item) for item in value if not _is_blank(item)]
    return value


def _is_blank(value: Any) -> bool:
    return value is None or value == ""
