"""A dead letter as it lies in its topic, and what may be shown of it."""

from collections.abc import Collection, Sequence
from typing import Any, Final, Self

from msgspec import Struct, structs

from consumer.masking import mask_addresses
from consumer.replay.envelope import NoEvent, edit
from consumer.replay.record import Header, Record
from consumer.scrubbing import scrub
from schemas.events import MalformedEvent, decode_event, pointer_keys

_MARK: Final = "dead-letter-"

RETRIES_HEADER: Final = "sesamy-mailmojo-retries"
"""How often the record was put back. Not one of the marks, which do not survive when it becomes a dead letter again."""

_DIGITS: Final = 20
"""Digits that no partition, offset or count has."""

Place = tuple[int, int]
"""Partition and offset in the dead-letter topic."""


class StoredLetter(Struct, frozen=True, kw_only=True):
    """A record of the dead-letter topic and what its headers say; what they do not say is empty."""

    record: Record
    reason: str
    error: str
    topic: str
    partition: int | None
    offset: int | None
    attempts: str
    at: str
    truncated: bool
    """It is not the whole record: the value at least was not kept. It must never be put back."""
    retries: int
    user_id: str | None

    @classmethod
    def of(cls, record: Record, pointer: str = "") -> Self:
        """Read a record; `pointer` leads to the event in its value."""
        marks = {
            name.removeprefix(_MARK): (value or b"").decode(errors="replace")
            for name, value in record.headers
            if name.startswith(_MARK)
        }
        return cls(
            record=record,
            reason=marks.get("reason", ""),
            error=marks.get("error", ""),
            topic=marks.get("topic", ""),
            partition=_number(marks.get("partition")),
            offset=_number(marks.get("offset")),
            attempts=marks.get("attempts", ""),
            at=marks.get("at", ""),
            truncated=marks.get("truncated") == "true" or record.value is None,
            retries=_retries(record.headers),
            user_id=_user_id(record, pointer),
        )

    @property
    def place(self) -> Place:
        """Where it lies."""
        return (self.record.partition or 0, self.record.offset or 0)

    @property
    def original_headers(self) -> list[Header]:
        """The headers that the event had before it became a dead letter, without the count of retries."""
        return [
            (name, value)
            for name, value in self.record.headers
            if name != RETRIES_HEADER and not name.startswith(_MARK)
        ]


class Wanted(Struct, frozen=True, kw_only=True):
    """Which letters: of any of these where given. Times are the source's business."""

    places: Collection[Place] | None = None
    reasons: Collection[str] | None = None
    users: Collection[str] | None = None

    def matches(self, letter: StoredLetter) -> bool:
        """Tell whether the letter is meant."""
        return (
            (self.places is None or letter.place in self.places)
            and (self.reasons is None or letter.reason in self.reasons)
            and (self.users is None or letter.user_id in self.users)
        )


def masked(record: Record, pointer: str = "") -> Record:
    """Return the record as it may be shown: no address, and of its value only what an event is known to hold."""

    def clean(part: Any) -> Any:
        return scrub(part, mask_addresses, lambda _: "***", names=pointer_keys(pointer))

    value = record.value
    if value is not None:
        try:
            value = edit(value, pointer, clean, clean)
        except NoEvent:
            value = b"*** %d bytes that are no event" % len(value)
    return structs.replace(
        record,
        key=_masked(record.key),
        value=value,
        headers=[(name, _masked(content)) for name, content in record.headers],
    )


def _masked(data: bytes | None) -> bytes | None:
    return None if data is None else mask_addresses(data.decode(errors="replace")).encode()


def _user_id(record: Record, pointer: str) -> str | None:
    try:
        return decode_event(record.value or b"", pointer).user_id
    except MalformedEvent:
        return None if record.key is None else record.key.decode(errors="replace")


def _number(text: str | None) -> int | None:
    return int(text) if text and len(text) < _DIGITS and text.isascii() and text.isdecimal() else None


def _retries(headers: Sequence[Header]) -> int:
    found = [value for name, value in headers if name == RETRIES_HEADER]
    return _number((found[-1] or b"").decode(errors="replace")) or 0 if found else 0
