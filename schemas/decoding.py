"""From the bytes of an answer to structs, as tolerantly as the references ask for, and no more.

`null`, `""` and a missing key all mean "no value", for text, numbers, booleans and lists alike. Numbers and booleans
may come as text (`schemas.coercion`). Lists come bare or wrapped (`docs/reference/sesamy.md`). Anything else that does
not fit is an error, and so is an answer that contradicts itself: a state that cannot be read must never look like an
empty one, or a sync would clear fields on garbage.

Nearly every answer goes straight into its struct. What has an `""` in it, or does not fit, is looked at again with the
blanks taken out, which is several times as slow and what the functions here promise.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from schemas.coercion import as_number, as_truth, coerced
from schemas.json_text import decode_json

__all__ = [
    "Contradiction",
    "Page",
    "convert",
    "decode",
    "decode_json",
    "decode_page",
    "refuse_failure",
    "straight",
]

T = TypeVar("T")
S = TypeVar("S", bound=Struct)

_WRAPPERS: Final = ("data", "items")
"""Keys under which any list may come; its resource's own name is one more."""
_ABOUT: Final = ("meta", "pagination")
_TOTALS: Final = ("total", "totalCount", "total_count")
_MORE: Final = ("hasMore", "has_more")
_NEXT: Final = ("next", "nextCursor", "next_cursor")
_FAILURES: Final = ("error", "errors")
_SUCCESS: Final = ("success", "ok")
_STATUS: Final = ("status", "statusCode", "status_code", "code")
_FAILED: Final = ("error", "fail", "failed", "failure")
_HTTP_ERRORS: Final = range(400, 600)
_REPORTS: Final = re.compile(rb'"(?:errors?|success|ok|statusCode|status_code)"')
"""What an object that is no list may report; `status` and `code` are fields of its own."""

_PLACE: Final = re.compile(r"- at `\$(.*)`$")


class Contradiction(ValueError):
    """An answer that is readable and cannot be true. The text names what contradicts what, and no value of a user."""


class Page(Struct, Generic[T], frozen=True):
    """One page of a list, and the length of the whole list where the API says it.

    `more`: the API says that this page is not the last one.
    """

    items: list[T]
    total: int | None = None
    more: bool = False


class _About(Struct, frozen=True, forbid_unknown_fields=True):
    """What a list tells of itself, if it is nothing but this."""

    total: Annotated[int, Meta(ge=0)] | None = None
    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] | None = None


class _Wrapped(Struct, Generic[T], frozen=True, forbid_unknown_fields=True):
    """A list in the documented wrapper; one with any other key is looked at with care."""

    data: list[T]
    meta: _About | None = None
    pagination: _About | None = None


def convert(value: Any, kind: type[T]) -> T:
    """Turn decoded JSON into `kind`. Raises `msgspec.ValidationError`, which names the place and not the value."""
    try:
        return msgspec.convert(coerced(_without_blanks(value), kind), kind)
    except RecursionError:
        raise msgspec.ValidationError("JSON is nested too deeply") from None


def decode(body: bytes, kind: type[S]) -> S:
    """Decode one object. Raises `msgspec.DecodeError` or `msgspec.ValidationError`."""
    found: S | None = straight(body, _decoder(kind))
    return convert(decode_json(body), kind) if found is None or _is_loose(found) else found


def decode_page(
    body: bytes,
    kind: type[T],
    *names: str,
    offset: int | None = 0,
    totals: Sequence[str] = (),
    more: bool = False,
) -> Page[T]:
    """Decode a page of a list, bare or under `data`, `items` or one of `names`, that was asked for from `offset` on.

    An offset of None stands for one of which it is not known whether the API takes it. `totals` are the values of the
    response's `X-Total-Count` headers; `more` is whether its headers name a next page.

    Raises:
        msgspec.DecodeError: it is not JSON, or not a list of `kind` (a `msgspec.ValidationError`).
        Contradiction: it is null, reports an error, begins elsewhere, or does not go with its total.
    """
    items, about = _straight_page(body, kind) or _careful_page(body, kind, names)
    if not (about or totals):
        return Page(items, more=more)
    about += [{"total": total} for total in totals]
    total, says_more = _total_of(about), _says_more(about)
    if offset is not None:
        for part in about:
            if not _is_blank(part.get("offset")) and (begins := _count(part["offset"], "offset")) != offset:
                raise Contradiction(f"a page from {begins} on, and not from {offset}")
    end = (offset or 0) + len(items)
    if total is not None:
        if items and end > total:
            raise Contradiction(f"{end} items of a list of {total}")
        if end < total and not items and offset is not None:
            raise Contradiction(f"the list ends after {end} of {total} items")
        if says_more is not None and offset is not None and says_more is not (end < total):
            raise Contradiction(f"{'more' if says_more else 'no more'} after {end} of {total} items")
    elif says_more and not items:
        raise Contradiction("more after a page without items")
    named = any(_has_content(part.get(key)) for part in about for key in _NEXT)
    return Page(items, total, more=bool(says_more) or named or more)


def refuse_failure(body: bytes) -> None:
    """Raise `Contradiction` if the JSON object in an answer of status 200 reports an error."""
    if _REPORTS.search(body) and isinstance(answer := decode_json(body), dict):
        _refuse_failure(answer)


def straight(body: bytes, decoder: msgspec.json.Decoder[T]) -> T | None:
    """Return what the body holds if it fits as it is; None when it has to be looked at with care."""
    if b'""' in body:
        return None
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError):  # perhaps no more than a null where none is expected
        return None


def _straight_page(body: bytes, kind: type[T]) -> tuple[list[T], list[dict[str, Any]]] | None:
    if kind is dict:  # whose values are all loose
        return None
    if body[:1] == b"[":
        items: list[T] | None = straight(body, _list_decoder(kind))
        about: list[dict[str, Any]] = []
    else:
        wrapped: _Wrapped[T] | None = straight(body, _wrapped_decoder(kind))
        items = None if wrapped is None else wrapped.data
        parts = () if wrapped is None else (wrapped.meta, wrapped.pagination)
        about = [{"total": part.total, "offset": part.offset} for part in parts if part is not None]
    return None if items is None or any(map(_is_loose, items)) else (items, about)


def _careful_page(body: bytes, kind: type[T], names: Sequence[str]) -> tuple[list[T], list[dict[str, Any]]]:
    """Return the items, and the objects that tell about the list."""
    answer = decode_json(body)
    if isinstance(answer, list):
        return _items(answer, kind), []
    if not isinstance(answer, dict):
        raise msgspec.ValidationError("Expected a list, bare or wrapped")
    about = [answer, *(answer[key] for key in _ABOUT if not _is_blank(answer.get(key)))]
    for part in about:
        if not isinstance(part, dict):
            raise msgspec.ValidationError(f"Expected objects under {' and '.join(_ABOUT)}")
        _refuse_failure(part)
    keys = [key for key in dict.fromkeys((*_WRAPPERS, *names)) if key in answer]
    if not keys:
        raise msgspec.ValidationError(
            f"Expected a list, bare or under {', '.join(dict.fromkeys((*_WRAPPERS, *names)))}"
        )
    lists = [answer[key] for key in keys]
    if len(lists) > 1:
        raise Contradiction(f"more than one list: {', '.join(keys)}")
    if lists[0] is None:
        raise Contradiction(f"`{keys[0]}` is null")
    if not isinstance(lists[0], list):
        raise msgspec.ValidationError(f"Expected a list - at `$.{keys[0]}`")
    return _items(lists[0], kind), about


def _items(found: list[Any], kind: type[T]) -> list[T]:
    if None in found:
        raise Contradiction("an item that is null")
    return [convert(item, kind) for item in found]


def _refuse_failure(part: dict[str, Any]) -> None:
    for key in _FAILURES:
        if _has_content(part.get(key)):
            raise Contradiction(f"an answer with content under `{key}`")
    if any(as_truth(part.get(key)) is False for key in _SUCCESS) or any(_is_failed(part.get(key)) for key in _STATUS):
        raise Contradiction("an answer that says that it failed")


def _is_failed(status: Any) -> bool:
    """Tell whether a status in a body is that of a failure: a word for one, or the number of an HTTP error."""
    number = as_number(status)
    if number is not None:
        return number in _HTTP_ERRORS
    return isinstance(status, str) and status.strip().lower() in _FAILED


def _has_content(value: Any) -> bool:
    """Tell whether something under `error` reports one: blanks, false, 0 and what holds nothing else do not."""
    if isinstance(value, dict):
        return any(map(_has_content, value.values()))
    if isinstance(value, list):
        return any(map(_has_content, value))
    return bool(value)


def _total_of(about: Sequence[dict[str, Any]]) -> int | None:
    totals = {_count(part[key], key) for part in about for key in _TOTALS if not _is_blank(part.get(key))}
    if len(totals) > 1:
        raise Contradiction(f"different totals: {', '.join(map(str, sorted(totals)))}")
    return next(iter(totals), None)


def _says_more(about: Sequence[dict[str, Any]]) -> bool | None:
    said = {as_truth(part[key]) for part in about for key in _MORE if not _is_blank(part.get(key))}
    if len(said) > 1 or None in said:
        raise Contradiction(f"different answers under {' and '.join(_MORE)}" if len(said) > 1 else "more is no boolean")
    return next(iter(said), None)


def _count(value: Any, name: str) -> int:
    number = as_number(value)
    if number is None or number < 0 or number != int(number):
        raise Contradiction(f"`{name}` is not a count")
    return int(number)


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
