"""The one way to send a request to an API: through a permit of its quota, with its credentials, read by one table."""

import time
from collections.abc import Collection, Coroutine, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from yarl import URL

from consumer.clients.errors import Api, Unauthorized
from consumer.clients.guard import RequestGuard
from consumer.clients.http import Answer
from consumer.clients.quota import Permits, QuotaGate
from consumer.clients.verdicts import error_for
from consumer.clients.waits import seconds_to_wait
from consumer.clients.wire import Wire, exact_url, segment
from consumer.clock import Clock

_encode = msgspec.json.Encoder().encode  # keeps a `msgspec.Raw` as it came


class Credentials(Protocol):
    """What goes into the `Authorization` header."""

    async def authorization(self) -> str:
        """Return the header's value, fetching it if need be. Raises `ApiError`."""

    async def refused(self, used: str) -> bool:
        """Take note that the API refused this value, and return whether there is another one to try once."""


class _Request(Struct, frozen=True):
    method: str
    path: str
    query: str
    operation: str
    body: bytes | None


class Turn(Permits):
    """A turn at the quota, as a context: requests go out here and nowhere else. Unused permits go back at its end."""

    def __init__(self, transport: "Transport", gate: QuotaGate, permits: int, guard: RequestGuard | None) -> None:
        super().__init__(gate, permits)
        self.api = transport.api
        self.guard = guard
        self._transport = transport

    def request(
        self,
        method: str,
        path: str,
        *,
        operation: str,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        accept: Collection[int] = (),
    ) -> Coroutine[Any, Any, Answer]:
        """Send one request as soon as the quota allows, and return its answer: 2xx, or a status in `accept`.

        `path` is percent-encoded already (`wire.segment`). Nothing is ever sent again, except a GET, once,
        after 401/403 with other credentials: whoever asked for a write may no longer be entitled to it by then.

        Raises:
            ApiError: every other answer, or none; see `errors.py`.
            Exception: what the turn's guard raised instead of letting the request be sent.
        """
        query = "&".join([f"{name}={segment(str(value))}" for name, value in params.items()]) if params else ""
        request = _Request(method, path, query, operation, None if json is None else _encode(json))
        return self._transport.exchange(self, request, accept)

    def answered(self, operation: str, answer: Answer) -> None:
        """Tell the guard that the answer's content was as expected, too. Called by whoever decoded it."""
        if self.guard is not None:
            self.guard.answered(self.api, operation, answer.body)


class Transport:
    """One API's requests."""

    def __init__(
        self,
        api: Api,
        base_url: str,
        wire: Wire,
        gate: QuotaGate,
        credentials: Credentials,
        *,
        wall_clock: Clock = time.time,
    ) -> None:
        """Send to `base_url`; `wall_clock` (unix seconds) stands in for an answer's missing `Date`."""
        self.api: Api = api
        self._base_url = URL(base_url.rstrip("/"), encoded=True)
        self._wire = wire
        self._gate = gate
        self._credentials = credentials
        self._wall_clock = wall_clock

    def turn(self, permits: int, guard: RequestGuard | None = None) -> Turn:
        """Return a context that begins with one's turn and so many permits of the quota.

        `guard` decides about each request of it at the moment of sending.
        """
        return Turn(self, self._gate, permits, guard)

    async def exchange(self, turn: Turn, request: _Request, accept: Collection[int]) -> Answer:
        """Do what `Turn.request` promises."""
        url = exact_url(self._base_url, request.path, request.query)
        for attempt in (1, 2):
            credentials = await self._credentials.authorization()
            headers = self._headers(request, credentials)
            # The permit comes last: after it only a connection is waited for, or requests would bunch up.
            await turn.spend()
            answer = await self._send(turn, request, url, headers)
            if wait := seconds_to_wait(answer, self._wall_clock()):
                self._gate.close(wait)
            if 200 <= answer.status < 300:
                return answer
            refused = attempt == 1 and answer.status in {401, 403} and await self._credentials.refused(credentials)
            if not refused or request.method != "GET":
                break
        if answer.status in accept:
            return answer
        if error := error_for(self.api, request.operation, answer, self._wall_clock()):
            raise error
        return answer

    async def _send(self, turn: Turn, request: _Request, url: URL, headers: dict[str, str]) -> Answer:
        """Send, and ask the guard in the same step: what it knows must not grow old in between (promise P2)."""
        return await self._wire.send(
            request.method,
            url,
            operation=request.operation,
            headers=headers,
            body=request.body,
            sending=nullcontext if turn.guard is None else partial(self._allow, turn, turn.guard, request),
        )

    def _allow(self, turn: Turn, guard: RequestGuard, request: _Request) -> AbstractContextManager[None]:
        try:
            return guard.sending(self.api, request.operation, writes=request.method != "GET")
        except BaseException:
            turn.unspend()
            raise

    def _headers(self, request: _Request, credentials: str) -> dict[str, str]:
        if not (credentials.isascii() and credentials.isprintable()):
            raise Unauthorized(self.api, request.operation, None, "the token holds what no header can carry")
        if request.body is None:
            return {"Authorization": credentials}
        return {"Authorization": credentials, "Content-Type": "application/json"}
