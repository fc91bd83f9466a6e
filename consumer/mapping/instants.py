"""Points in time as Sesamy writes them: ISO 8601, with an offset, `Z`, or only a date."""

from contextlib import suppress
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

_LONGEST_DATE = len("YYYY-MM-DD")
_COMPACT_DATE = len("YYYYMMDD")


class UnreadableState(ValueError):
    """A value that decides a field cannot be read. Names the field, never the value.

    Clearing the field instead would delete what is right on the strength of garbage.
    """

    @property
    def field(self) -> str:
        """Which one, such as `contract.expiresAt`: the first word of the text."""
        return str(self).partition(" ")[0]


def instant(text: str, name: str) -> datetime:
    """Parse the value of the field `name`. A time without an offset is UTC (assumption). Raises `UnreadableState`."""
    trimmed = text.strip().upper()
    try:
        # Seconds since 1970 could pass for a date in an early year.
        compact = trimmed.isdigit() and len(trimmed) != _COMPACT_DATE
        moment = datetime.fromisoformat("" if compact else trimmed)
    except ValueError:
        raise UnreadableState(f"{name} is not an ISO 8601 time") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def day(text: str, name: str, zone: ZoneInfo) -> str:
    """Return the calendar day in `zone` as `YYYY-MM-DD`. Raises `UnreadableState`.

    A bare date is that day in every zone.
    """
    if len(bare := text.strip()) <= _LONGEST_DATE:
        with suppress(ValueError):
            return date.fromisoformat(bare).isoformat()
    moment = instant(text, name)
    try:
        return moment.astimezone(zone).date().isoformat()
    except OverflowError:  # "for ever" is sometimes the last second that there is: it has no tomorrow
        return moment.date().isoformat()
