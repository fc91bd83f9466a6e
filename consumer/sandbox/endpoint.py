"""What both fakes share: one request on its way through faults, quota, credentials and handler into the log."""

import asyncio
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote

import orjson
from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from consumer.sandbox.answers import Answers
from consumer.sandbox.faults import Allowance, ApiName, Fate, Faults, Rule
from consumer.sandbox.log import CUT, Record, RequestLog
from consumer.sandbox.world import Applied, World

_ENCODED = re.compile(r"(?:[A-Za-z0-9_.~-]|%[0-9A-Fa-f]{2})*")
_NO_BODY = frozenset({"GET", "DELETE", "HEAD"})


class Reply(Struct, frozen=True):
    """An answer before it becomes a response."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = {}

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> "Reply":
        """Return a JSON answer."""
        return cls(status, orjson.dumps(value), headers=headers or {})


class Refusal(Exception):
    """The request gets an error; with a `violation` it is one that no correct client sends."""

    def __init__(self, status: int, text: str, *, violation: str | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.violation = status, text, violation


def broken_rule(rule: str, status: int = 400) -> Refusal:
    """Return the refusal of a request that breaks a rule of the references."""
    return Refusal(status, rule, violation=rule)


class Call:
    """One request: what came, what it is about, and what it did."""

    def __init__(self, api: ApiName, method: str, target: str, headers: Mapping[str, str]) -> None:
        """Take a request; `target` is the raw path and query, and names of `headers` are in any case."""
        self.api = api
        self.method = method
        self.target = target
        self.headers = headers
        self.path, _, self._query = self.target.partition("?")
        self.body = b""
        self.operation = "unknown"
        self.user_id: str | None = None
        self.address: str | None = None
        self.write = False
        self.applied: Applied | None = None
        self.version_read: int | None = None
        self.user_version: int | None = None
        self.violations: list[str] = []

    def text(self, encoded: str) -> str:
        """Return what a path segment or a query value stands for.

        Raises:
            Refusal: it is not fully percent-encoded (`a+b@x.no` is `a%2Bb%40x.no`).
        """
        if not _ENCODED.fullmatch(encoded) or encoded in {".", ".."}:
            raise broken_rule("ids and addresses in a URL are percent-encoded with nothing safe")
        try:
            return unquote(encoded, errors="strict")
        except UnicodeDecodeError:
            raise broken_rule("what is percent-encoded is UTF-8") from None

    def query(self, *known: str) -> dict[str, str]:
        """Return the query's values.

        Raises:
            Refusal: a parameter is not `known`, comes twice, or is not percent-encoded.
        """
        values: dict[str, str] = {}
        for pair in filter(None, self._query.split("&")):
            name, _, value = pair.partition("=")
            if name not in known:
                raise broken_rule(f"no query parameter is called {name!r}")
            if name in values:
                raise broken_rule(f"the query parameter {name} comes once")
            values[name] = self.text(value)
        return values

    def json(self) -> dict[str, Any]:
        """Return the body's object.

        Raises:
            Refusal: it is not JSON, or does not say so.
        """
        if self.content_type != "application/json":
            raise broken_rule("a body is sent as application/json", 415)
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise broken_rule("the body is JSON") from None
        if not isinstance(value, dict):
            raise broken_rule("the body is an object")
        return value

    @property
    def content_type(self) -> str:
        """The body's type without its parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def bearer(self) -> str:
        """Return the token of the Authorization header.

        Raises:
            Refusal: there is none.
        """
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            raise broken_rule("every request carries `Authorization: Bearer <token>`", 401)
        return token


Handler = Callable[[Call], Reply]


class Endpoint(ABC):
    """One fake API: a handler of aiohttp's low-level server, which leaves the raw target as it came."""

    def __init__(
        self,
        world: World,
        answers: Answers,
        faults: Faults,
        log: RequestLog,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Serve `world` as `answers` say."""
        self.world, self.answers, self.faults, self.log = world, answers, faults, log
        self.clock, self.wall = clock, wall

    @abstractmethod
    def start(self, method: str, target: str, headers: Mapping[str, str]) -> Call:
        """Return the call of a request."""

    @abstractmethod
    def route(self, call: Call) -> Handler:
        """Return what answers the call, and say in the call what it is about.

        Raises:
            Refusal: there is no such path or method.
        """

    @abstractmethod
    def authorize(self, call: Call) -> None:
        """Check the credentials.

        Raises:
            Refusal: they are missing or wrong.
        """

    @abstractmethod
    def failure(self, call: Call, status: int, text: str) -> Reply:
        """Return an error in this API's shape."""

    @abstractmethod
    def throttled(self, wait: float) -> Reply:
        """Return the 429 that asks for a pause of `wait` seconds."""

    def quota_headers(self, allowance: Allowance) -> dict[str, str]:
        """Return the `X-RateLimit-…` headers."""
        return {
            "X-RateLimit-Limit": str(allowance.limit),
            "X-RateLimit-Remaining": str(allowance.remaining),
            "X-RateLimit-Reset": str(int(self.wall() + (allowance.wait or allowance.until_full)) + 1),
        }

    def retry_date(self, wait: float) -> str:
        """Return the HTTP date in `wait` seconds, rounded up."""
        return formatdate(int(self.wall() + wait) + 1, usegmt=True)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request and log it, whatever becomes of it."""
        call = self.start(request.method, request.raw_path, request.headers)
        visit = Visit(self, call)
        try:
            if call.method not in _NO_BODY:
                call.body = await request.read()
            visit.arrive()
            if visit.pause:
                await asyncio.sleep(visit.pause)
            visit.take_effect()
            if visit.pause and not visit.is_over:
                await asyncio.sleep(visit.pause)
            reply = visit.answer()
            if reply is None:
                return self._cut(request)
            return web.Response(
                body=reply.body, status=reply.status, content_type=reply.content_type, headers=reply.headers
            )
        except ConnectionError:  # the client went away while it was sending its body
            return web.Response()
        finally:
            visit.log()

    @staticmethod
    def _cut(request: web.BaseRequest) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()  # never sent


class Visit:
    """One request at an endpoint, without a socket: it arrives, takes effect, and is answered.

    `pause` seconds lie between each of these steps and the next.
    """

    def __init__(self, endpoint: Endpoint, call: Call) -> None:
        self._endpoint = endpoint
        self._call = call
        self._start, self._start_unix = endpoint.clock(), endpoint.wall()
        self._status = CUT
        self._handler: Handler | None = None
        self._refusal: Refusal | None = None
        self._allowance: Allowance | None = None
        self._fate = Fate()
        self._reply: Reply | None = None
        self.pause = 0.0
        self.is_over = False
        """Nothing more comes: the connection was closed before the request took effect."""

    def arrive(self) -> None:
        """Find what the request asks for, count it, and decide what goes wrong with it. Its body is there."""
        call, faults = self._call, self._endpoint.faults
        try:
            self._handler = self._endpoint.route(call)
        except Refusal as refusal:
            self._refusal = refusal
        keys = tuple(key for key in (call.user_id, call.address) if key)
        self._allowance = faults.take(call.api)
        self._fate = faults.fate(call.api, call.operation, keys, call.method)
        self.pause = self._fate.delay / 2

    def take_effect(self) -> None:
        """Do what the request asks for, unless a fault or a quota prevents it."""
        rule, allowance = self._fate.rule, self._allowance
        if rule is not None and rule.stage == "before":
            self._reply, self.is_over = self._fault(rule), rule.cut
        elif allowance is not None and allowance.wait:
            self._reply = self._endpoint.throttled(allowance.wait)
        else:
            self._reply = self._handled()

    def answer(self) -> Reply | None:
        """Return the answer with all its headers; None if the connection is closed instead."""
        rule, reply = self._fate.rule, self._reply
        if reply is None or (rule is not None and rule.cut):
            return None
        if rule is not None and rule.stage == "after":
            reply = self._fault(rule)
        self._status = reply.status
        date = {"Date": formatdate(self._endpoint.wall(), usegmt=True)}
        quota = self._endpoint.quota_headers(self._allowance) if self._allowance else {}
        return replace(reply, headers=date | quota | reply.headers | self._fate.headers)

    def log(self) -> None:
        """Log the request; one that was not answered is logged as cut."""
        call, endpoint = self._call, self._endpoint
        applied, read = call.applied, call.version_read
        record = Record(
            number=endpoint.log.count + 1,
            api=call.api,
            operation=call.operation,
            method=call.method,
            path=call.target,
            start=self._start,
            end=endpoint.clock(),
            start_unix=self._start_unix,
            end_unix=endpoint.wall(),
            status=self._status,
            write=call.write,
            user_id=call.user_id,
            address=call.address,
            change=applied.serial if applied else None,
            contact_before=applied.before.version if applied and applied.before else read,
            contact_after=applied.after.version if applied else read,
            user_version=call.user_version,
            damage=applied.damage if applied else (),
            violations=tuple(call.violations),
            traceparent=call.headers.get("traceparent"),
        )
        endpoint.log.add(record)

    def _handled(self) -> Reply:
        call, endpoint = self._call, self._endpoint
        try:
            if self._refusal is not None:
                raise self._refusal
            assert self._handler is not None  # noqa: S101 - `arrive` finds one of the two
            endpoint.authorize(call)
            return self._handler(call)
        except Refusal as raised:
            if raised.violation:
                call.violations.append(raised.violation)
            return endpoint.failure(call, raised.status, raised.text)

    def _fault(self, rule: Rule) -> Reply:
        status = rule.status or 200
        if rule.body is not None or status < 400:
            return Reply(status, (rule.body or "").encode(errors="surrogatepass"), rule.content_type)
        if status == 429:
            return self._endpoint.throttled(1.0)
        return self._endpoint.failure(self._call, status, f"injected: {status}")
