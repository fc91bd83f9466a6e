"""The one way to send a request to an API: through a permit of its quota, with its credentials, read by one table."""

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from functools import lru_cache, partial
from typing import Any, Protocol
from urllib.parse import quote

import msgspec
from yarl import URL

from consumer.clients.bounds import Progress
from consumer.clients.errors import Api, Unauthorized
from consumer.clients.guard import RequestGuard
from consumer.clients.http import Answer, HttpClient
from consumer.clients.observer import RequestObserver
from consumer.clients.quota import Permits, QuotaGate
from consumer.clients.verdicts import error_for
from consumer.clients.waits import seconds_to_wait
from consumer.clock import Clock
from consumer.ops.metrics import Metrics

_encode = msgspec.json.Encoder().encode  # keeps a `msgspec.Raw` as it came


@lru_cache(maxsize=4096)
def segment(text: str) -> str:
    """Return the text as one path segment, with nothing safe (`docs/reference/mailmojo.md`, basics).

    Kept for a while, since one sync asks for the same user and address six times.
    """
    return quote(text, safe="")


class Credentials(Protocol):
    """What goes into the `Authorization` header."""

    async def authorization(self) -> str:
        """Return the header's value, fetching it if need be. Raises `ApiError`."""

    async def refused(self, used: str) -> bool:
        """Take note that the API refused this value, and return whether there is another one to try once."""


class Turn(Permits):
    """A turn at the quota, as a context: requests go out here and nowhere else. Unused permits go back at its end."""

    def __init__(self, transport: "Transport", permits: int, guard: RequestGuard | None) -> None:
        super().__init__(transport.gate, permits)
        self.api = transport.api
        self.guard = guard
        self._transport = transport

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

        `path` is percent-encoded already (`segment`). Nothing is ever sent again, except a GET, once, after 401/403
        with other credentials: whoever asked for a write may no longer be entitled to it by then.

        Raises:
            ApiError: every other answer, or none; see `errors.py`.
            Exception: what the turn's guard raised instead of letting the request be sent.
        """
        its = self._transport
        query = "&".join([f"{name}={segment(str(value))}" for name, value in params.items()]) if params else ""
        target = f"{its.base_path}{path}?{query}" if query else f"{its.base_path}{path}"
        body = None if json is None else _encode(json)
        # The guard is asked in the step that sends: what it knows must not grow old in between (promise P2).
        guard = self.guard
        sending = nullcontext if guard is None else partial(guard.sending, self.api, operation, writes=method != "GET")
        for attempt in (1, 2):
            credentials = await its.credentials.authorization()
            if not (credentials.isascii() and credentials.isprintable()):
                raise Unauthorized(self.api, operation, None, "the token holds what no header can carry")
            headers = {"Authorization": credentials}
            if body is not None:
                headers["Content-Type"] = "application/json"
            # The permit comes last: after it only a connection is waited for, or requests would bunch up.
            await self.spend()
            state, began = Progress(), its.observer.begin(headers)
            try:
                answer = await its.http.request(method, target, headers, body, sending=sending, state=state)
            except BaseException as cause:
                if cause is state.refusal:
                    self.unspend()
                    raise
                if failure := its.observer.failed(operation, began, cause, state):
                    # Not chained: the texts of these errors hold the URL, and so the contact's address (promise P8).
                    raise failure from None
                raise
            its.observer.answered(operation, began, answer.status)
            if wait := seconds_to_wait(answer, its.wall_clock()):
                its.gate.close(wait)
            if 200 <= answer.status < 300:
                return answer
            refused = attempt == 1 and answer.status in {401, 403} and await its.credentials.refused(credentials)
            if not refused or method != "GET":
                break
        if answer.status not in accept and (error := error_for(self.api, operation, answer, its.wall_clock())):
            raise error
        return answer

    def answered(self, operation: str, answer: Answer) -> None:
        """Tell the guard that the answer's content was as expected, too. Called by whoever decoded it."""
        if self.guard is not None:
            self.guard.answered(self.api, operation, answer.body)


class Transport:
    """What the requests of one API have in common."""

    def __init__(
        self,
        api: Api,
        base_url: str,
        http: HttpClient,
        gate: QuotaGate,
        credentials: Credentials,
        *,
        metrics: Metrics,
        inject: Callable[[dict[str, str]], None] | None = None,
        wall_clock: Clock = time.time,
    ) -> None:
        """Send with `http` to its origin, behind the path of `base_url`.

        `inject` adds the trace context to a request's headers. `wall_clock` (unix seconds) stands in for an answer's
        missing `Date`.
        """
        self.api: Api = api
        self.base_path = URL(base_url, encoded=True).raw_path.rstrip("/")
        self.http = http
        self.observer = RequestObserver(api, http, metrics, inject)
        self.gate = gate
        self.credentials = credentials
        self.wall_clock = wall_clock

    def turn(self, permits: int, guard: RequestGuard | None = None) -> Turn:
        """Return a context that begins with one's turn and so many permits of the quota.

        `guard` decides about each request of it at the moment of sending.
        """
        return Turn(self, permits, guard)
