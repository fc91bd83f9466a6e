"""One record of the topic: a Sesamy event, or our own request to sync a user.

The payload is thin: it names a user and carries no state (`docs/reference/sesamy.md`). Only the ids that decide what
happens are required; everything else is kept for the reader of a dead letter.
"""

import re
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from schemas.json_text import decode_tolerantly, has_halves, without_halves

STANDARD_EVENT_TYPES: Final = (
    "userVendor.1#new",
    "userVendor.1#update",
    "contract.1#purchased",
    "contract.1#update",
    "contract#cancelRequest",
    "checkout.1#confirm",
    "entitlement.1#new",
    "entitlement.1#update",
)
"""The eight standard types, spelled exactly as Sesamy spells them (one has no `.1`)."""

SYNC_REQUEST: Final = "sesamy-mailmojo#sync"
"""The type of our own records: `sync` and `backfill` ask the running service through the topic."""

REPORT_HEADER: Final = "sesamy-mailmojo-report"
"""The header of a sync request whose sender waits for the result."""

LONGEST_USER_ID: Final = 512
"""Characters of a user id; it is kept for as long as the user's events wait, and each key and path has it in it."""

Required = Annotated[str, Meta(min_length=1)]
UserId = Annotated[str, Meta(min_length=1, max_length=LONGEST_USER_ID)]


class Event(
    Struct,
    frozen=True,
    kw_only=True,
    rename={
        "event_type": "eventType",
        "vendor_id": "vendorId",
        "user_id": "userId",
        "contract_id": "contractId",
        "entitlement_id": "entitlementId",
        "checkout_id": "checkoutId",
    },
):
    """A record's value. An optional id that is `""` is as good as none (assumption)."""

    event_type: Required
    vendor_id: Required
    user_id: UserId
    contract_id: str | None = None
    entitlement_id: str | None = None
    checkout_id: str | None = None
    occured_at: str | None = None
    occurred_at: str | None = None

    @property
    def happened_at(self) -> str | None:
        """When it happened: `occured_at` (one r, Sesamy's spelling), else `occurred_at` (assumption)."""
        return self.occured_at or self.occurred_at or None


class MalformedEvent(ValueError):
    """A record that is no event, for ever. The message says what is wrong and quotes none of the record's values."""


_decode = msgspec.json.Decoder(Event).decode


def decode_event(value: bytes, pointer: str = "") -> Event:
    """Decode a record's value; `pointer` (RFC 6901) leads to the event inside an envelope.

    A Confluent wire-format prefix is skipped. Behind the pointer is the event, or text with the event's JSON in it.

    Raises:
        MalformedEvent: the record is no event (`docs/contract.md`, "The topic").
        ValueError: the pointer is none; check it once with `pointer_keys`.
    """
    if value[:1] == b"\0":  # JSON never starts with one: byte 0, then a schema id of 4 bytes
        value = value[5:]
    try:
        event = _inside(value, pointer_keys(pointer)) if pointer else _event(value)
    except msgspec.ValidationError as error:
        raise MalformedEvent(f"not an event: {error}") from error
    except msgspec.DecodeError as error:
        raise MalformedEvent(f"not JSON: {error}") from error
    except UnicodeError:
        raise MalformedEvent("not JSON: not UTF-8") from None
    except RecursionError:
        raise MalformedEvent("not an event: nested too deeply") from None
    if not is_usable_id(event.user_id):
        raise MalformedEvent("not an event: `userId` cannot be a path segment")
    return event


def is_usable_id(user_id: str) -> bool:
    """Tell whether an event may name this user: the id can be a path segment, and is not too long."""
    return user_id not in {"", ".", ".."} and len(user_id) <= LONGEST_USER_ID


@lru_cache
def pointer_keys(pointer: str) -> tuple[str, ...]:
    """Split a JSON pointer into its unescaped keys. Raises `ValueError` when it is none (RFC 6901, section 3)."""
    if pointer and not pointer.startswith("/"):
        raise ValueError("a JSON pointer is empty or starts with /")
    if re.search("~(?![01])", pointer):
        raise ValueError("a ~ in a JSON pointer is written ~0")
    return tuple(key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:])


def _inside(value: bytes, keys: tuple[str, ...]) -> Event:
    found: Any = _loads(value)
    for key in keys:
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list) and re.fullmatch("0|[1-9][0-9]*", key) and int(key) < len(found):
            found = found[int(key)]
        else:
            raise MalformedEvent("not an event: nothing at the pointer in the envelope")
    return _event(found) if isinstance(found, str) else _converted(found)


def _event(text: bytes | str) -> Event:
    try:
        return _decode(text)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeError):
        found = _tolerantly(text)
        if found is None:
            raise
    return _converted(*found)


def _loads(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (ValueError, UnicodeError):
        found = _tolerantly(text)
        if found is None:
            raise
    return found[0]


def _tolerantly(text: bytes | str) -> tuple[Any] | None:
    """Decode what may hold no worse than half a surrogate pair; None where it does.

    It is given no exception to raise: one that is kept in a variable is part of a cycle with its own traceback, which
    would hold the whole record in memory until the garbage collector comes (measured: 780 MiB instead of 90).
    """
    try:
        return (decode_tolerantly(text),)
    except msgspec.DecodeError:
        return None


def _converted(found: Any) -> Event:
    """Turn decoded JSON into an event, with a mark for each half of a surrogate pair: without it, it is another text.

    Who the user is cannot be told from a half.
    """
    event = msgspec.convert(without_halves(found, instead="\ufffd"), Event)
    if has_halves(found["userId"]):
        raise MalformedEvent("not an event: `userId` holds half a surrogate pair")
    return event
