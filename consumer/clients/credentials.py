"""What goes into the `Authorization` header of each API, and what to do when it is refused."""

import math
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

from yarl import URL

from consumer.clients.bounds import Progress
from consumer.clients.errors import ApiError, Rejected, Unauthorized, Unavailable
from consumer.clients.http import Answer, HttpClient
from consumer.clients.observer import RequestObserver
from consumer.clients.single_flight import SingleFlight
from consumer.clients.tokens import decode_token, error_code
from consumer.clients.verdicts import error_for
from consumer.clients.waits import seconds_to_wait
from consumer.clock import Clock, suspended_time
from consumer.masking import remember_secret
from consumer.ops.metrics import Metrics
from consumer.secret import Secret
from schemas.sesamy import Token

_OPERATION: Final = "get_token"

_MARGIN: Final = 60.0
"""Seconds before its end at which a token is replaced; a tenth of its life when that is less."""

_BETWEEN_REPLACEMENTS: Final = 60.0
"""Seconds. A 403 for one user or one path is no reason for another token: what the token may do, it may do."""

_AFTER_FAILURE: Final = 2.0
"""Seconds for which a failed token request fails all who need a token."""

_BETWEEN_READS: Final = 5.0
"""Seconds between two looks into the file of a token that is refused."""


class StaticToken:
    """A token from the settings, sent unchanged (`docs/reference/mailmojo.md`, basics); read again after a 401."""

    def __init__(self, token: Secret, *, clock: Clock = suspended_time) -> None:
        self._token = token
        self._clock = clock
        self._next_read = -math.inf
        self._read_once = SingleFlight(self._read)

    async def authorization(self) -> str:
        """Return the header's value."""
        return f"Bearer {self._token.value}"

    async def refused(self, used: str) -> bool:
        """Read the token's file again, every few seconds at most, and return whether it holds another token."""
        if await self.authorization() == used:
            await self._read_once()
        return await self.authorization() != used

    async def _read(self) -> None:
        if self._clock() >= self._next_read:
            self._next_read = self._clock() + _BETWEEN_READS
            await self._token.reload()


class ClientCredentials:
    """Sesamy's token, fetched with client id and secret and kept until shortly before it expires.

    Token requests go to a host of their own and do not count against the Management API's quota.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: Secret,
        http: HttpClient,
        *,
        metrics: Metrics,
        audience: str | None = None,
        pause: Callable[[float], None],
        inject: Callable[[dict[str, str]], None] | None = None,
        clock: Clock = suspended_time,
        wall_clock: Clock = time.time,
    ) -> None:
        """Fetch from `token_url` with `http`, which sends to its origin.

        `pause` is told for how many seconds the token endpoint wants no calls. `inject` adds the trace context to a
        request's headers.
        """
        self._target = URL(token_url, encoded=True).raw_path_qs
        self._client_id = client_id
        self._client_secret = client_secret
        self._http = http
        self._observer = RequestObserver("sesamy", http, metrics, inject)
        self._audience = audience
        self._pause = pause
        self._clock = clock
        self._wall_clock = wall_clock
        self._header = ""
        self._expires = -math.inf
        self._next_replacement = -math.inf
        self._failure: ApiError | None = None
        self._failed_until = -math.inf
        self._fetch_once = SingleFlight(self._fetch)
        self._replace_once = SingleFlight(self._replace)

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
        """Replace the token that was refused, once a minute at most, and return whether there is another one now.

        A token that cannot be replaced stays in use: other calls may still accept it.
        """
        if self._header == used:
            await self._replace_once()
        return self._header != used

    async def _replace(self) -> None:
        if self._clock() < self._next_replacement:
            return
        self._next_replacement = self._clock() + _BETWEEN_REPLACEMENTS
        await self._client_secret.reload()
        try:
            await self._fetch_once()
        except ApiError:
            self._next_replacement = self._failed_until

    async def _fetch(self) -> None:
        if self._failure is not None and self._clock() < self._failed_until:
            raise type(self._failure)(*self._failure.args)
        self._failure = None
        try:
            token = await self._ask()
        except ApiError as error:
            self._failure = error
            self._failed_until = max(self._failed_until, self._clock() + _AFTER_FAILURE)
            raise
        remember_secret(token.access_token)
        self._header = f"Bearer {token.access_token}"
        self._expires = self._clock() + token.expires_in - min(_MARGIN, token.expires_in / 10)

    async def _ask(self) -> Token:
        try:
            return await self._request()
        except Unauthorized:
            if not await self._client_secret.reload():
                raise
            return await self._request()

    async def _request(self) -> Token:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": self._client_secret.value,
        }
        if self._audience:
            form["audience"] = self._audience
        # JSON bodies are refused with 403 (`docs/reference/sesamy.md`, Management API).
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        state, began = Progress(), self._observer.begin(headers)
        try:
            answer = await self._http.request("POST", self._target, headers, urlencode(form).encode(), state=state)
        except BaseException as cause:
            if failure := self._observer.failed(_OPERATION, began, cause, state):
                raise failure from None
            raise
        self._observer.answered(_OPERATION, began, answer.status)
        if wait := seconds_to_wait(answer, self._wall_clock()):
            self._failed_until = max(self._failed_until, self._clock() + wait)
            self._pause(wait)
        if error := self._error_for(answer):
            raise error
        try:
            return decode_token(answer.body)
        except ValueError as error:
            raise Unavailable("sesamy", _OPERATION, answer.status, str(error)) from None

    def _error_for(self, answer: Answer) -> ApiError | None:
        """Return the error that the answer stands for, without its body: that may repeat the secret (promise P8)."""
        error = error_for("sesamy", _OPERATION, answer, self._wall_clock())
        if error is None:
            return None
        # OAuth answers 400 and 401 for wrong credentials (RFC 6749, 5.2).
        kind = Unauthorized if isinstance(error, Rejected) else type(error)
        detail = error.detail if 300 <= answer.status < 400 else error_code(answer.body)
        return kind(error.api, error.operation, error.status, detail)
