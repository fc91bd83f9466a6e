"""Values with the same meaning, however Mailmojo spells them (`docs/reference/mailmojo.md`, rule 3).

How values of account fields come back is unknown: in their type, or all as text (`"true"`, `"3"`), booleans as 0 and
1, dates with a time. "No value" is `null`, `""` or a missing key.
"""

import re
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from msgspec import Raw

from schemas.coercion import NUMBER, as_truth
from schemas.json_text import decode_tolerantly
from schemas.verbatim import value_of

_DATE: Final = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?:(?P<local>2[23]:00(?::00(?:\.0+)?)?(?:[Zz]|[+-]00:?00))"
    r"|\d\d:?\d\d[0-9:.,]*(?:[Zz]|[+-]\d\d:?\d\d)?))?",
    re.ASCII,
)
"""A day, perhaps with a time. `local`: midnight of the next day in Norway, told in UTC (assumption)."""


def is_blank(value: Any) -> bool:
    """Tell whether it stands for no value."""
    return value_of(value) in (None, "")


def same(kind: str | None, wanted: Any, shown: Any) -> bool:
    """Tell whether a field of this type (`text`, `boolean`, `number`, `date`) shows the wanted value."""
    shown = value_of(shown)
    if wanted == shown and type(wanted) is type(shown):
        return True
    if wanted in (None, "") or shown in (None, ""):
        return wanted in (None, "") and shown in (None, "")
    if kind == "boolean":
        return as_truth(wanted) is not None and as_truth(wanted) is as_truth(shown)
    if kind == "number":
        return _as_decimal(wanted) is not None and _as_decimal(wanted) == _as_decimal(shown)
    if kind == "date":
        return _as_day(wanted) is not None and _as_day(wanted) == _as_day(shown)
    # A text of digits may come back as a number.
    if isinstance(shown, bool) or not isinstance(shown, int | float):
        return False
    return _as_decimal(wanted) is not None and _as_decimal(wanted) == _as_decimal(shown)


def same_foreign(sent: Any, shown: Any) -> bool:
    """Tell whether a value that is not ours, and whose type is not known, came back with the same meaning."""
    try:
        if value_of(sent) == value_of(shown):
            return True
    except RecursionError:
        return bytes(sent) == bytes(shown) if isinstance(sent, Raw) and isinstance(shown, Raw) else False
    one, other = _exactly(sent), _exactly(shown)
    if one == other and isinstance(one, bool) == isinstance(other, bool):
        return True
    return any(same(kind, one, other) for kind in ("text", "number", "boolean", "date"))


def _exactly(value: Any) -> Any:
    """Return what a value holds, with every digit of a number."""
    if not isinstance(value, Raw):
        return value
    body = bytes(value)
    number = _as_decimal(body.decode()) if body[:1].isdigit() or body[:1] == b"-" else None
    if number is not None:
        return number
    try:
        return decode_tolerantly(body)
    except ValueError:
        return body


def _as_decimal(value: Any) -> Decimal | None:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    try:
        return Decimal(text) if NUMBER.fullmatch(text) else None
    except InvalidOperation:  # an exponent beyond all bounds
        return None


def _as_day(value: Any) -> str | None:
    """Return the calendar day as it is written, or the next one where its midnight is told in UTC."""
    if not isinstance(value, str):
        return None
    match = _DATE.fullmatch(value.strip())
    if match is None:
        return None
    if match["local"] is None:
        return match["day"]
    try:
        return (date.fromisoformat(match["day"]) + timedelta(days=1)).isoformat()
    except (ValueError, OverflowError):
        return None
