"""The one way to send a request to an API: through a permit of its quota, with its credentials, read by one table."""

import time
from collections.abc import Collection, Mapping
from typing import Any, Protocol, Self

import orjson
from msgspec import Struct
from yarl import URL

from consumer.clients.errors import Api, Unauthorized
from consumer.clients.quota import Permits, QuotaGate
from consumer.clients.verdicts import error_for, seconds_to_wait
from consumer.clients.wire import Answer, Wire, exact_url, segment
from consumer.clock import Clock


class Credentials(Protocol):
    """What goes into the `Authorization` header."""

    async def authorization(self) -> str:
        """Return the header's value, fetching it if need be. Raises `ApiError`."""

    async def refused(self, used: str) -> bool:
        """Take note that the API refused this value, and return whether there is another one to try once."""


class Turn:
    """A turn at the quota, as a context: requests go out here and nowhere else. Unused permits go back at its end."""

    def __init__(self, transport: "Transport", permits: Permits) -> None:
        self._transport = transport
        self._permits = permits

    async def __aenter__(self) -> Self:
        await self._permits.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._permits.__aexit__(*error)

    async def ready(self) -> None:
        """Wait until the next request of this turn can go out at once. For a caller who looks at a clock before it."""
        await self._permits.ready()

    async def request(
        self,
        method: str,
        path: str,
        *,
        operation: str,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        accept: Collection[int] = (),
    ) -> Answer:
        """Send one request as soon as the quota allows, and return its answer: 2xx, or a status in `accept`.

        `path` is percent-encoded already (`wire.segment`). Nothing is ever sent again, except a GET, once,
        after 401/403 with other credentials: whoever asked for a write may no longer be entitled to it by then.

        Raises:
            ApiError: every other answer, or none; see `errors.py`.
        """
        query = "&".join([f"{name}={segment(str(value))}" for name, value in params.items()]) if params else ""
        request = _Request(method, path, query, operation, None if json is None else orjson.dumps(json))
        return await self._transport.exchange(self._permits, request, accept)


class _Request(Struct, frozen=True):
    method: str
    path: str
    query: str
    operation: str
    body: bytes | None


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
        """Send to `base_url`; `wall_clock` (unix seconds) is what dates in headers are compared with."""
        self._api: Api = api
        self._base_url = URL(base_url.rstrip("/"), encoded=True)
        self._wire = wire
        self._gate = gate
        self._credentials = credentials
        self._wall_clock = wall_clock

    def turn(self, permits: int) -> Turn:
        """Return a context that begins with one's turn and so many permits of the quota."""
        return Turn(self, self._gate.turn(permits))

    async def exchange(self, permits: Permits, request: _Request, accept: Collection[int]) -> Answer:
        """Do what `Turn.request` promises."""
        credentials = await self._credentials.authorization()
        answer = await self._send(permits, request, credentials)
        if 200 <= answer.status < 300:
            return answer
        refused = answer.status in {401, 403} and await self._credentials.refused(credentials)
        if refused and request.method == "GET":
            answer = await self._send(permits, request, await self._credentials.authorization())
        if answer.status in accept:
            return answer
        if error := error_for(self._api, request.operation, answer, self._wall_clock()):
            raise error
        return answer

    async def _send(self, permits: Permits, request: _Request, credentials: str) -> Answer:
        if not (credentials.isascii() and credentials.isprintable()):
            raise Unauthorized(self._api, request.operation, None, "the token holds what no header can carry")
        headers = {"Authorization": credentials}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        url = exact_url(self._base_url, request.path, request.query)
        # The permit comes last: between it and the request nothing may wait, or requests would bunch up.
        await permits.spend()
        answer = await self._wire.send(
            request.method, url, operation=request.operation, headers=headers, body=request.body
        )
        if wait := seconds_to_wait(answer, self._wall_clock()):
            self._gate.close(wait)
        return answer
