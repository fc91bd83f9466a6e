"""What goes into the `Authorization` header of each API, and what to do when it is refused."""

import math
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

import msgspec
from yarl import URL

from consumer.clients.errors import Rejected, Unauthorized, Unavailable
from consumer.clients.single_flight import SingleFlight
from consumer.clients.verdicts import error_for, seconds_to_wait
from consumer.clients.wire import Wire
from consumer.clock import Clock, suspended_time
from consumer.masking import remember_secret
from consumer.secret import Secret
from schemas.sesamy import Token

_OPERATION: Final = "get_token"

_MARGIN: Final = 60.0
"""Seconds before its end at which a token is replaced; a tenth of its life when that is less."""


class StaticToken:
    """A token from the settings, used as it is (`reference/mailmojo.md`, basics). Read again when it is refused."""

    def __init__(self, token: Secret) -> None:
        self._token = token

    async def authorization(self) -> str:
        """Return the header's value."""
        return f"Bearer {self._token.value}"

    async def refused(self, used: str) -> bool:
        """Read the token's file again, and return whether it holds another one than was used."""
        await self._token.reload()
        return await self.authorization() != used


class ClientCredentials:
    """Sesamy's token, fetched with client id and secret and kept until shortly before it expires.

    Token requests go to a host of their own and do not count against the Management API's quota.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: Secret,
        wire: Wire,
        *,
        audience: str | None = None,
        pause: Callable[[float], None],
        clock: Clock = suspended_time,
        wall_clock: Clock = time.time,
    ) -> None:
        """Fetch from `token_url`; `pause` is told for how many seconds the token endpoint wants no calls."""
        self._token_url = URL(token_url, encoded=True)
        self._client_id = client_id
        self._client_secret = client_secret
        self._wire = wire
        self._audience = audience
        self._pause = pause
        self._clock = clock
        self._wall_clock = wall_clock
        self._header = ""
        self._expires = -math.inf
        self._fetch_once = SingleFlight(self._fetch)

    async def authorization(self) -> str:
        """Return the header's value, with a new token when there is none or it is about to expire.

        Raises:
            Unauthorized: the token endpoint refuses client id and secret, also after the secret was read again.
            Throttled: it asks to wait.
            Unavailable: it has no usable answer.
        """
        if self._clock() >= self._expires:
            await self._fetch_once()
        return self._header

    async def refused(self, used: str) -> bool:
        """Drop the token that was refused, unless somebody did already, and return whether there is another now."""
        if self._header == used:
            self._expires = -math.inf
            await self._client_secret.reload()
        return await self.authorization() != used

    async def _fetch(self) -> None:
        try:
            token = await self._ask()
        except Unauthorized:
            if not await self._client_secret.reload():
                raise
            token = await self._ask()
        remember_secret(token.access_token)
        self._header = f"Bearer {token.access_token}"
        self._expires = self._clock() + token.expires_in - min(_MARGIN, token.expires_in / 10)

    async def _ask(self) -> Token:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": self._client_secret.value,
        }
        if self._audience:
            form["audience"] = self._audience
        answer = await self._wire.send(
            "POST",
            self._token_url,
            operation=_OPERATION,
            # JSON bodies are refused with 403 (`reference/sesamy.md`, Management API).
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
        )
        if wait := seconds_to_wait(answer, self._wall_clock()):
            self._pause(wait)
        error = error_for("sesamy", _OPERATION, answer, self._wall_clock())
        if isinstance(error, Rejected):  # OAuth answers 400 and 401 for wrong credentials (RFC 6749, 5.2)
            raise Unauthorized(error.api, error.operation, error.status, error.detail)
        if error:
            raise error
        try:
            return msgspec.json.decode(answer.body, type=Token, strict=False)
        except ValueError:
            raise Unavailable("sesamy", _OPERATION, answer.status, "an answer that holds no token") from None
