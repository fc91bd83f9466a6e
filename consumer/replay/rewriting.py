"""What a replay may change in records: their times, their number, and who they are about."""

import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec import structs

from consumer.masking import contains_address
from consumer.replay.envelope import NoEvent, edit
from consumer.replay.record import NO_TIME, TIMESTAMP_HEADER, Header, Record
from consumer.scrubbing import scrub
from schemas.events import pointer_keys

Rewrite = Callable[[Record], Sequence[Record]]
"""One record becomes these."""

_PLAIN_HEADERS: Final = frozenset(
    {TIMESTAMP_HEADER, *(f"dead-letter-{name}" for name in ("reason", "partition", "offset", "attempts", "at"))}
)
_KIND = re.compile(r"[a-z][a-z0-9-]{0,19}\|")


def shift_times(pointer: str, now: Callable[[], float]) -> Rewrite:
    """Move all times by one amount, so that the first record happens now (`now`: seconds since 1970)."""
    shift: int | None = None

    def rewrite(record: Record) -> Sequence[Record]:
        nonlocal shift
        if record.timestamp == NO_TIME:
            return (record,)
        if shift is None:
            shift = round(now() * 1000) - record.timestamp
        by = timedelta(milliseconds=shift)
        value = _edited(record.value, pointer, lambda event: event | _moved(event, by))
        return (structs.replace(record, value=value, timestamp=record.timestamp + shift),)

    return rewrite


def multiply(pointer: str, times: int) -> Rewrite:
    """Make so many users of each: the first is the user itself, the others are called `ID~2`, `ID~3`, …."""

    def copy(record: Record, suffix: str) -> Record:
        value = _edited(record.value, pointer, lambda event: event | _suffixed(event, suffix))
        key = None if record.key is None else record.key + suffix.encode()
        return structs.replace(record, key=key, value=value)

    def rewrite(record: Record) -> Sequence[Record]:
        return (record, *(copy(record, f"~{number}") for number in range(2, times + 1)))

    return rewrite


class Anonymizer:
    """Replaces whatever may point to a person; the same secret gives the same names, and another one others.

    Kept are the event's type, vendor and times, the names of keys, and the kind of an id (`email|…`). The rest of an
    envelope becomes pseudonyms, zeros for numbers, and a value that holds no event is left out but for its length.
    """

    def __init__(self, secret: bytes, pointer: str) -> None:
        """Use this secret, of any length; it must not leave with the recording."""
        self._key = hashlib.blake2b(secret, digest_size=32).digest()
        self._pointer = pointer
        self._names = frozenset(pointer_keys(pointer))

    def rewrite(self, record: Record) -> Sequence[Record]:
        """Return the record without anybody in it."""
        return (
            structs.replace(
                record,
                key=None if record.key is None else self.identifier(record.key.decode(errors="replace")).encode(),
                value=None if record.value is None else self._value(record.value),
                headers=[self._header(header) for header in record.headers],
            ),
        )

    def identifier(self, text: str) -> str:
        """Return the id's pseudonym, of the same kind."""
        found = _KIND.match(text)
        kind = found[0] if found else ""
        rest = text.removeprefix(kind)
        return f"{kind}{self._digest(rest.lower() if contains_address(rest) else rest)}" if rest else text

    def _other(self, value: str | float) -> str | int:
        if not isinstance(value, str):
            return 0
        if contains_address(value):
            return f"{self._digest(value.strip().lower())}@example.invalid"
        return f"text-{self._digest(value)}"

    def _value(self, value: bytes) -> bytes:
        def clean(part: Any) -> Any:
            return scrub(part, self.identifier, self._other, names=self._names)

        try:
            return edit(value, self._pointer, clean, clean)
        except NoEvent:
            return b"%d bytes that were no event" % len(value)

    def _header(self, header: Header) -> Header:
        name, value = header
        if value is None or name in _PLAIN_HEADERS:
            return header
        return name, str(self._other(value.decode(errors="replace"))).encode()

    def _digest(self, text: str) -> str:
        return hashlib.blake2b(text.encode(errors="replace"), key=self._key, digest_size=12).hexdigest()


def _edited(value: bytes | None, pointer: str, event: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes | None:
    """Return the value with another event in it; as it is when it holds none."""
    if value is None:
        return None
    try:
        return edit(value, pointer, event, lambda whole: whole)
    except NoEvent:
        return value


def _suffixed(event: dict[str, Any], suffix: str) -> dict[str, Any]:
    user_id = event.get("userId")
    return {"userId": user_id + suffix} if isinstance(user_id, str) else {}


def _moved(event: dict[str, Any], by: timedelta) -> dict[str, Any]:
    found = {}
    for name in ("occured_at", "occurred_at"):
        try:
            at = datetime.fromisoformat(event[name])
            moved = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC) + by
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        found[name] = moved.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return found
