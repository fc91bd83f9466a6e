"""One recorded event, and its line in an NDJSON file (docs/replay.md)."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import orjson
from msgspec import Struct

NO_TIME: Final = -1
"""The timestamp of a record without one."""

TIMESTAMP_HEADER: Final = "replay-timestamp"
"""What a record's timestamp becomes in a topic: Kafka's own says when it was replayed."""

_TRUNCATED: Final = ("dead-letter-truncated", b"true")

Header = tuple[str, bytes | None]


class Record(Struct, frozen=True, gc=False, kw_only=True):
    """A record as it was stored, with its place. `timestamp` is in milliseconds since 1970, or `NO_TIME`."""

    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[Header] = ()
    timestamp: int = NO_TIME
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None

    @property
    def is_truncated(self) -> bool:
        """Whether it is a dead letter without all of its record: replayed, it would be an event that nothing sent."""
        return _TRUNCATED in self.headers

    @property
    def place(self) -> str:
        """Where it was read, for people."""
        return f"{self.topic or 'record'}/{self.partition}/{self.offset}"


class UnreadableLine(ValueError):
    """A line that holds no record. The message says what is wrong and quotes nothing of it."""


class _Base64(Struct, frozen=True):
    """Bytes that are no UTF-8."""

    base64: bytes


class _Line(Struct, frozen=True, omit_defaults=True):
    key: str | _Base64 | None = None
    value: Any = None
    headers: tuple[tuple[str, str | _Base64 | None], ...] = ()
    timestamp: int = NO_TIME
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None


_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


def to_line(record: Record) -> bytes:
    """Return the record as one line of JSON, newline included, from which `from_line` makes the same bytes."""
    line = _Line(
        key=_text(record.key),
        value=_text(record.value),
        headers=tuple((name, _text(value)) for name, value in record.headers),
        timestamp=record.timestamp,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
    )
    return _encode(line) + b"\n"


def from_line(line: bytes) -> Record:
    """Return the record of a line. A value may also stand there as JSON instead of as text.

    Raises:
        UnreadableLine: it holds none.
    """
    try:
        found = _decode(line)
        return Record(
            key=_bytes(found.key),
            value=_value(found.value),
            headers=[(name, _bytes(value)) for name, value in found.headers],
            timestamp=found.timestamp,
            topic=found.topic,
            partition=found.partition,
            offset=found.offset,
        )
    except (ValueError, RecursionError) as error:  # msgspec's errors name the place, never the value
        reason = str(error) if isinstance(error, msgspec.MsgspecError) else "not readable as JSON in UTF-8"
        raise UnreadableLine(reason) from None


def _text(data: bytes | None) -> str | _Base64 | None:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _Base64(data)


def _bytes(text: str | _Base64 | None) -> bytes | None:
    return text.base64 if isinstance(text, _Base64) else None if text is None else text.encode()


def _value(value: Any) -> bytes | None:
    if value is None or isinstance(value, str):
        return _bytes(value)
    if isinstance(value, dict) and value.keys() == {"base64"}:
        return msgspec.convert(value, _Base64).base64
    return orjson.dumps(value)
