"""What a failing call most likely needs: one clause that names the setting, for `/readyz` and `check`."""

from typing import Final

from consumer.clients.errors import Api, ApiError, Throttled, Unauthorized, UnknownList

_URLS: Final[dict[Api, str]] = {"sesamy": "SESAMY_API_URL", "mailmojo": "MAILMOJO_API_URL"}
_NOT_FOUND: Final = 404
_FORBIDDEN: Final = 403


def remedy(error: ApiError) -> str:
    """Return what to check, without a full stop."""
    if isinstance(error, UnknownList):
        return "Mailmojo does not know the list; check MAILMOJO_LIST_ID"
    if isinstance(error, Throttled):
        return "its quota is used up; try again later"
    if isinstance(error, Unauthorized):
        return _credentials(error)
    if error.operation == "get_token":
        return "check SESAMY_TOKEN_URL and the network"
    url = _URLS[error.api]
    if error.status is None:
        return f"check {url} and the network"
    if error.status == _NOT_FOUND or error.status < 400:  # an answer of something else than the API
        return f"check {url}"
    return f"check {url}, or wait until {error.api.capitalize()} recovers"


def _credentials(error: ApiError) -> str:
    if error.api == "mailmojo":
        return "the credentials are refused; check MAILMOJO_API_TOKEN"
    settings = "SESAMY_CLIENT_ID, SESAMY_CLIENT_SECRET and SESAMY_AUDIENCE"
    if error.status == _FORBIDDEN and error.operation != "get_token":
        return f"these credentials may not use this call; check their scopes at Sesamy, and {settings}"
    return f"the credentials are refused; check {settings}"
