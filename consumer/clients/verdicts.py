"""What an answer means: the one place that turns a status into an error."""

from itertools import islice
from typing import Any, Final

from consumer.clients.errors import Api, ApiError, Rejected, Throttled, Unauthorized, Unavailable
from consumer.clients.http import Answer
from consumer.clients.waits import asked_to_wait
from consumer.masking import mask_addresses
from schemas.decoding import decode_json

_DETAIL_KEYS: Final = ("detail", "title", "message", "error", "errors")
_DETAIL_LENGTH: Final = 200
_LOOKED_AT: Final = 20 * _DETAIL_LENGTH
_ENTRIES: Final = 20
_DEPTH: Final = 8
"""An error body may be anything: no more of it is looked at than could be shown."""


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
    elif status == 429 or (status == 503 and asked_to_wait(answer, now) is not None):
        kind = Throttled
    else:
        kind = Unavailable
    return kind(api, operation, status, detail(answer.body))


def detail(body: bytes) -> str:
    """Return what an error body says, on one line, without addresses and cut to 200 characters."""
    said = _said(_json(body), _DEPTH)[:_LOOKED_AT] or body[:_LOOKED_AT].decode(errors="replace")
    return mask_addresses(" ".join(said.split()))[:_DETAIL_LENGTH]


def _json(body: bytes) -> Any:
    try:
        return decode_json(body)
    except ValueError:
        return None


def _said(value: Any, depth: int) -> str:
    """Return the text in an error body of whatever shape; empty when there is none."""
    if isinstance(value, str):
        return value
    if depth == 0:
        return ""
    if isinstance(value, list):
        return "; ".join(text for item in value[:_ENTRIES] if (text := _said(item, depth - 1)))
    if isinstance(value, dict):
        said = next(filter(None, (_said(value[key], depth - 1) for key in _DETAIL_KEYS if key in value)), "")
        # A dict under `errors` has the names of fields for keys.
        entries = islice(value.items(), _ENTRIES)
        return said or "; ".join(f"{key}: {text}" for key, item in entries if (text := _said(item, depth - 1)))
    return ""
