"""For how long an API wants no more calls. Its dates are compared with its own clock, not with ours."""

import calendar
import math
from email.utils import parsedate_tz
from typing import Any, Final

from consumer.clients.http import Answer
from schemas.decoding import decode_json

_LONGEST_WAIT: Final = 3600.0
"""Seconds. Neither reference bounds a wait; an hour's pause is noticed and harmless, a year's would be an outage."""

_DEFAULT_WAIT: Final = 1.0
"""Seconds when the API asks to wait and names no time that lies ahead."""

_LEAST_TIMESTAMP: Final = 1e8
_LEAST_MILLISECONDS: Final = 1e11
"""`X-RateLimit-Reset` is documented as unix seconds; other APIs send milliseconds, or the seconds that are left.

A number below 1e8 would be a moment before March 1973, one from 1e11 on a moment after the year 5000.
"""


def seconds_to_wait(answer: Answer, now: float) -> float:
    """Return for how long the API wants no more calls; 0 when it does not say so, never more than an hour.

    `Retry-After` (seconds or an HTTP date) and `retry_after` in the body on 429 and 5xx; on every answer
    `X-RateLimit-Reset` once `X-RateLimit-Remaining` is 0 (`docs/reference/sesamy.md`, limits).

    Dates count from the answer's own `Date`, so that neither clock has to be right; `now` (our clock, unix seconds)
    is used only when there is none.
    """
    remaining = _number(answer.headers.get("X-RateLimit-Remaining"))
    exhausted = remaining is not None and remaining <= 0
    if not (exhausted or _may_ask(answer.status)):
        return 0.0
    their_now = _their_now(answer, now)
    wait = asked_to_wait(answer, now)
    waits = [0.0]
    if wait is not None:
        waits.append(wait if wait > 0 else _DEFAULT_WAIT)
    elif answer.status == 429:
        waits.append(_DEFAULT_WAIT)
    if exhausted:
        waits.append(_until_reset(answer.headers.get("X-RateLimit-Reset"), their_now))
    return min(max(waits), _LONGEST_WAIT)


def asked_to_wait(answer: Answer, now: float) -> float | None:
    """Return the seconds that a 429 or 5xx asks for, as they are; None when it names no time that can be read."""
    if not _may_ask(answer.status):
        return None
    their_now = _their_now(answer, now)
    wait = _wait(answer.headers.get("Retry-After"), their_now)
    if wait is not None:
        return wait
    try:
        body = decode_json(answer.body)
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    inner = body.get("error")
    wait = _wait(inner.get("retry_after"), their_now) if isinstance(inner, dict) else None
    return wait if wait is not None else _wait(body.get("retry_after"), their_now)


def unix_time(text: str, now: float) -> float | None:
    """Return the unix seconds of an HTTP date in any format of RFC 9110, 5.6.7; None when it is none.

    A missing zone means UTC. A two-digit year more than 50 years ahead of `now` is one of the past.
    """
    try:
        parts = parsedate_tz(text) or parsedate_tz(f"{text} GMT")
        if parts is None:
            return None
        year, month, day, hour, minute, second = parts[:6]
        if not (1 <= month <= 12 and 1 <= day <= 31 and 0 <= hour < 24 and 0 <= minute < 60 and 0 <= second <= 60):
            return None
        if _has_short_year(text):
            year = _full_year(year % 100, now)
        return float(calendar.timegm((year, month, day, hour, minute, second)) - (parts[9] or 0))
    except (ValueError, OverflowError, IndexError, TypeError):  # the standard library's parser is lenient, not total
        return None


def _may_ask(status: int) -> bool:
    return status == 429 or 500 <= status < 600


def _has_short_year(text: str) -> bool:
    """Tell an RFC 850 date, such as `Sunday, 06-Nov-94 08:49:37 GMT`."""
    day = text.partition(",")[2].split()[:1]
    return bool(day) and len(day[0].rpartition("-")[2]) == 2 and day[0].count("-") == 2


def _full_year(two_digits: int, now: float) -> int:
    this_year = 1970 + int(now // 31_556_952)
    year = this_year - this_year % 100 + two_digits
    if year > this_year + 50:
        return year - 100
    return year + 100 if year <= this_year - 50 else year


def _their_now(answer: Answer, now: float) -> float:
    """Return what the API's clock shows: the answer's `Date`, and its `Age` when a cache kept it."""
    date = unix_time(answer.headers.get("Date", ""), now)
    if date is None:
        return now
    age = _number(answer.headers.get("Age"))
    return date + age if age is not None and 0 <= age <= _LONGEST_WAIT else date


def _wait(value: Any, their_now: float) -> float | None:
    """Return the seconds that are meant by a number of seconds or an HTTP date."""
    seconds = _number(value)
    if seconds is not None:
        return seconds
    moment = unix_time(value, their_now) if isinstance(value, str) else None
    return None if moment is None else moment - their_now


def _until_reset(value: str | None, their_now: float) -> float:
    number = _number(value)
    if number is None:
        return _wait(value, their_now) or 0.0
    if number < _LEAST_TIMESTAMP:
        return number
    return (number / 1000 if number >= _LEAST_MILLISECONDS else number) - their_now


def _number(value: Any) -> float | None:
    """Return a number, also one that is text; None for NaN. What is too large for a float is infinite."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return math.inf if isinstance(value, int) and value > 0 else None
    except ValueError:
        return None
    return None if math.isnan(number) else number
