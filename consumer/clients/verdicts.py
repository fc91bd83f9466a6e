"""What an answer means: the one place that turns a status into an error, and headers into a wait."""

import math
from email.utils import parsedate_to_datetime
from typing import Any, Final

from consumer.clients.errors import Api, ApiError, Rejected, Throttled, Unauthorized, Unavailable
from consumer.clients.wire import Answer
from consumer.masking import mask_addresses
from schemas.decoding import decode_json

_LONGEST_WAIT: Final = 3600.0
"""Seconds. Neither reference bounds a wait; an hour's pause is noticed and harmless, a year's would be an outage."""

_DEFAULT_WAIT: Final = 1.0
"""Seconds after a 429 that names no time."""

_DETAIL_KEYS: Final = ("detail", "title", "message", "error", "errors")
_DETAIL_LENGTH: Final = 200


def error_for(api: Api, operation: str, answer: Answer, now: float) -> ApiError | None:
    """Return the error that the answer stands for; None when the request was done (2xx)."""
    status = answer.status
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return Unavailable(api, operation, status, "a redirect came back, which is never followed; is the URL right?")
    if status in {400, 409, 422}:
        kind: type[ApiError] = Rejected
    elif status in {401, 403}:
        kind = Unauthorized
    elif status == 429 or (status == 503 and _asked_to_wait(answer, now) is not None):
        kind = Throttled
    else:
        kind = Unavailable
    return kind(api, operation, status, detail(answer.body))


def seconds_to_wait(answer: Answer, now: float) -> float:
    """Return for how long the API wants no more calls; 0 when it does not say so. `now` is unix seconds.

    `Retry-After` (seconds or an HTTP date) and `retry_after` in the body on 429 and 503; on every answer
    `X-RateLimit-Reset` once `X-RateLimit-Remaining` is 0 (`reference/sesamy.md`, limits).
    """
    remaining = answer.headers.get("X-RateLimit-Remaining")
    asks = answer.status in {429, 503}
    if not (asks or remaining):
        return 0.0
    waits = [0.0]
    if asks:
        asked = _asked_to_wait(answer, now)
        waits.append(_DEFAULT_WAIT if asked is None and answer.status == 429 else asked or 0.0)
    if _number(remaining) == 0:
        reset = _number(answer.headers.get("X-RateLimit-Reset"))
        waits.append(reset - now if reset is not None else 0.0)
    return min(max(waits), _LONGEST_WAIT)


def detail(body: bytes) -> str:
    """Return what an error body says, on one line, without addresses and cut to 200 characters."""
    text = _said(_json(body)) or body[: 20 * _DETAIL_LENGTH].decode(errors="replace")
    return mask_addresses(" ".join(text.split()))[:_DETAIL_LENGTH]


def _asked_to_wait(answer: Answer, now: float) -> float | None:
    header = answer.headers.get("Retry-After")
    if header is not None:
        seconds = _number(header)
        if seconds is not None:
            return seconds
        try:
            return parsedate_to_datetime(header).timestamp() - now
        except (ValueError, OverflowError):
            pass
    body = _json(answer.body)
    if not isinstance(body, dict):
        return None
    inner = body.get("error")
    within = _number(inner.get("retry_after")) if isinstance(inner, dict) else None
    return within if within is not None else _number(body.get("retry_after"))


def _number(value: Any) -> float | None:
    if not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _json(body: bytes) -> Any:
    try:
        return decode_json(body)
    except ValueError:
        return None


def _said(value: Any) -> str:
    """Return the text in an error body of whatever shape; empty when there is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(filter(None, map(_said, value)))
    if isinstance(value, dict):
        said = next(filter(None, (_said(value[key]) for key in _DETAIL_KEYS if key in value)), "")
        # A dict under `errors` has the names of fields for keys.
        return said or "; ".join(f"{key}: {text}" for key, item in value.items() if (text := _said(item)))
    return ""
