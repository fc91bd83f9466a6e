"""Reads the responses of an OAuth token endpoint, and never quotes them: they may repeat what they were sent."""

import json
import math
import re
from typing import Any, Final

from schemas.sesamy import Token

_DEFAULT_LIFE: Final = 86_400.0
"""Seconds; what `docs/reference/sesamy.md` documents."""

_SHORTEST_LIFE: Final = 1.0
_LONGEST_LIFE: Final = 366 * 86_400.0
"""Seconds. A life outside of these bounds is a mistake: a token per request, or one for ever."""

_ACCESS_TOKEN: Final = re.compile(r"[!-~]{1,16384}")
"""Visible ASCII (RFC 6749, appendix A.12), and of a length that servers accept in a header."""

_ERROR_CODES: Final = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_response_type",
        "invalid_scope",
        "access_denied",
        "server_error",
        "temporarily_unavailable",
        "invalid_token",
        "insufficient_scope",
    }
)
"""RFC 6749, 4.1.2.1 and 5.2; RFC 6750, 3.1."""


def decode_token(body: bytes) -> Token:
    """Return the token; its `expires_in` is a usable number of seconds, whatever the response says.

    Raises:
        ValueError: there is no usable token. The text gives the reason and holds nothing of the response, except an
            error code that is a registered one.
    """
    response = _object(body)
    if response is None:
        raise ValueError("the response is not a JSON object")
    if response.get("error"):
        raise ValueError(f"the response contains an error{_in_brackets(error_code(body))}")
    token = response.get("access_token")
    if token is None:
        raise ValueError("the response holds no access_token")
    if not isinstance(token, str) or not token.strip():
        raise ValueError("access_token in the response is empty or not text")
    if not _ACCESS_TOKEN.fullmatch(token):
        raise ValueError("access_token in the response holds what no header can carry")
    return Token(access_token=token, expires_in=_life(response.get("expires_in")))


def error_code(body: bytes) -> str:
    """Return the OAuth error code in an error response; empty when it has none that is registered."""
    code = (_object(body) or {}).get("error")
    return code if isinstance(code, str) and code in _ERROR_CODES else ""


def _in_brackets(code: str) -> str:
    return f" ({code})" if code else ""


def _object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object. NaN and numbers of any size are taken: what is wrong with them is found later."""
    try:
        decoded = json.loads(body, parse_int=float)
    except (ValueError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) else None


def _life(value: object) -> float:
    """Return the seconds that a token lives. Missing and nonsensical values must not cause a token per request."""
    if isinstance(value, bool) or not isinstance(value, str | float):
        return _DEFAULT_LIFE
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    return seconds if _SHORTEST_LIFE <= seconds <= _LONGEST_LIFE else _DEFAULT_LIFE
