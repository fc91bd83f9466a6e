"""What both fakes share: one request on its way through faults, quota, credentials and handler into the log."""

import asyncio
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote

import orjson
from aiohttp import web
from msgspec import Struct

from consumer.sandbox.answers import Answers
from consumer.sandbox.faults import Allowance, ApiName, Faults, Rule
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

    def __init__(self, request: web.BaseRequest, api: ApiName) -> None:
        self.api = api
        self.method = request.method
        self.target = request.raw_path
        self.headers = request.headers
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
    def start(self, request: web.BaseRequest) -> Call:
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
        call = self.start(request)
        start, start_unix, status = self.clock(), self.wall(), CUT
        try:
            if call.method not in _NO_BODY:
                call.body = await request.read()
            handler, refusal = self._routed(call)
            keys = tuple(key for key in (call.user_id, call.address) if key)
            allowance = self.faults.take(call.api)
            fate = self.faults.fate(call.api, call.operation, keys, call.method)
            rule = fate.rule
            if fate.delay:
                await asyncio.sleep(fate.delay / 2)
            early = rule is not None and rule.stage == "before"
            if rule is not None and early:
                reply = self._fault(call, rule)
            elif allowance is not None and allowance.wait:
                reply = self.throttled(allowance.wait)
            else:
                reply = self._answer(call, handler, refusal)
            if fate.delay and not (rule is not None and early and rule.cut):
                await asyncio.sleep(fate.delay / 2)
            if rule is not None:
                if rule.cut:
                    return self._cut(request)
                if not early:
                    reply = self._fault(call, rule)
            status = reply.status
            date = {"Date": formatdate(self.wall(), usegmt=True)}
            headers = date | (self.quota_headers(allowance) if allowance else {}) | reply.headers | fate.headers
            return web.Response(body=reply.body, status=status, content_type=reply.content_type, headers=headers)
        except ConnectionError:  # the client went away while it was sending its body
            return web.Response()
        finally:
            self.log.add(self._record(call, start, start_unix, status))

    def _routed(self, call: Call) -> tuple[Handler | None, Refusal | None]:
        try:
            return self.route(call), None
        except Refusal as refusal:
            return None, refusal

    def _answer(self, call: Call, handler: Handler | None, refusal: Refusal | None) -> Reply:
        try:
            if handler is None:
                assert refusal is not None  # noqa: S101 - `_routed` returns one of the two
                raise refusal
            self.authorize(call)
            return handler(call)
        except Refusal as raised:
            if raised.violation:
                call.violations.append(raised.violation)
            return self.failure(call, raised.status, raised.text)

    def _fault(self, call: Call, rule: Rule) -> Reply:
        status = rule.status or 200
        if rule.body is not None or status < 400:
            return Reply(status, (rule.body or "").encode(errors="surrogatepass"), rule.content_type)
        return self.throttled(1.0) if status == 429 else self.failure(call, status, f"injected: {status}")

    @staticmethod
    def _cut(request: web.BaseRequest) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()  # never sent

    def _record(self, call: Call, start: float, start_unix: float, status: int) -> Record:
        applied = call.applied
        read = call.version_read
        return Record(
            number=self.log.count + 1,
            api=call.api,
            operation=call.operation,
            method=call.method,
            path=call.target,
            start=start,
            end=self.clock(),
            start_unix=start_unix,
            end_unix=self.wall(),
            status=status,
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
