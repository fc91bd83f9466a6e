"""The HTTP side of `ingest`: one request on its way to a stored event, or to an answer that says what is wrong."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import aiohttp
import orjson
import structlog
from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError

from consumer.clock import Clock
from consumer.ingest.bodies import ENCODINGS, BodyTooLarge, UnreadableBody, decompress
from consumer.ingest.gate import Gate
from consumer.ingest.metrics import IngestMetrics
from consumer.ingest.store import NotStored, Store, TooLarge
from consumer.ops.tracing import Carried, carried
from consumer.ports.connections import bounded
from schemas.events import MalformedEvent, decode_event

_log = structlog.get_logger("ingest")

PATH: Final = "/events"

MOST_IN_FLIGHT: Final = 1000
"""Requests that may wait for the broker. Those beyond are told to come again: memory stays bounded, whatever comes."""

RETRY_AFTER: Final = 5
"""Seconds, in the answer to what could not be stored."""

_BODY_SECONDS: Final = 10.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Endpoint:
    """Takes webhooks at `POST /events`. 202 means stored; whatever else is answered, the sender still has the event."""

    def __init__(
        self,
        gate: Gate,
        store: Store,
        metrics: IngestMetrics,
        *,
        header: str,
        max_body: int,
        value_pointer: str | None,
        clock: Clock,
        most_in_flight: int = MOST_IN_FLIGHT,
    ) -> None:
        self.in_flight = 0
        self._gate = gate
        self._store = store
        self._metrics = metrics
        self._header = header
        self._max_body = max_body
        self._pointer = value_pointer or ""
        self._clock = clock
        self._most_in_flight = most_in_flight

    def app(self) -> web.Application:
        """Return it as an application to serve."""
        app = web.Application(client_max_size=self._max_body, middlewares=[bounded, self._answer])
        # One route for everything: aiohttp's own for an unknown path would grant `Expect: 100-continue`.
        app.router.add_route("*", "/{path:.*}", self._route, expect_handler=_grant_later)
        return app

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Make every refusal JSON, and count every answer."""
        begun = self._clock()
        try:
            response = await handler(request)
        except web.HTTPException as refusal:
            response = _refuse(refusal.status, f"{refusal.reason}; events are taken at POST {PATH}")
        self._metrics.requests.labels(str(response.status)).inc()
        self._metrics.duration.observe(self._clock() - begun)
        return response

    async def _route(self, request: web.Request) -> web.Response:
        if request.path != PATH:
            return _refuse(404, f"Not Found; events are taken at POST {PATH}")
        if request.method != "POST":
            return _refuse(405, f"Method Not Allowed; events are taken at POST {PATH}", {"Allow": "POST"})
        return await self._take(request)

    async def _take(self, request: web.Request) -> web.Response:
        if not await self._gate.admits(request.headers.getall(self._header, [])):
            return _refuse(401, f"the header {self._header} does not hold the secret")
        if self.in_flight >= self._most_in_flight:
            return _later("too many events are on their way to the broker")
        self.in_flight += 1
        try:
            response = await self._store_event(request)
        finally:
            self.in_flight -= 1
        if 400 <= response.status < 500 and isinstance(response.body, bytes):
            _log.warning("ingest.refused", status=response.status, error=orjson.loads(response.body)["error"])
        return response

    async def _store_event(self, request: web.Request) -> web.Response:
        kind = request.content_type
        if "Content-Type" in request.headers and kind != "application/json" and not kind.endswith("+json"):
            return _refuse(415, "an event is sent as application/json")
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ENCODINGS:
            return _refuse(415, "an event may be compressed with gzip or deflate", {"Accept-Encoding": "gzip, deflate"})
        too_large = f"an event has {self._max_body} bytes at most"
        if (request.content_length or 0) > self._max_body:
            return _refuse(413, too_large)
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                await _grant(request)
                value = decompress(await request.read(), encoding, self._max_body)
        except (web.HTTPRequestEntityTooLarge, BodyTooLarge):
            return _refuse(413, too_large)
        except TimeoutError:
            return _refuse(408, f"the body did not come within {_BODY_SECONDS:g} s")
        except (UnreadableBody, aiohttp.ClientError, web.RequestPayloadError, HttpProcessingError, ConnectionError):
            return _refuse(400, "the body cannot be read")
        try:
            event = decode_event(value, self._pointer)
        except MalformedEvent as error:
            return _refuse(400, str(error))
        try:
            place = await self._store.put(event.user_id, value, _trace(request))
        except NotStored:
            return _later("the event could not be stored now")
        except TooLarge:
            return _refuse(413, "the topic takes no record of this size")
        return _json({"partition": place.partition, "offset": place.offset}, HTTPStatus.ACCEPTED)


async def _grant_later(_: web.Request) -> None:
    """Grant nothing yet to a client that asks before it sends its body: first it must show the secret."""


async def _grant(request: web.Request) -> None:
    """Let a client that waits for it (`Expect: 100-continue`) send its body."""
    if request.version >= HttpVersion11 and request.headers.get("Expect", "").strip().lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the response has not begun; aiohttp's own handler does the same


def _trace(request: web.Request) -> Carried | None:
    """Return the trace context that the request came with; two are none, two states are one (W3C Trace Context, 3)."""
    parents, states = (request.headers.getall(name, []) for name in ("traceparent", "tracestate"))
    if len(parents) != 1:
        return None
    sent = {"traceparent": parents[0], "tracestate": ",".join(states)}
    return carried((name, value.encode(errors="replace")) for name, value in sent.items())


def _refuse(status: int, error: str, headers: dict[str, str] | None = None) -> web.Response:
    return _json({"error": error}, status, headers)


def _later(error: str) -> web.Response:
    return _refuse(503, error, {"Retry-After": str(RETRY_AFTER)})


def _json(body: object, status: int, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")
