"""One request on a socket: bounded in time and size, sent exactly once, counted. Nothing here knows a quota."""

import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from importlib.metadata import version
from typing import Final
from urllib.parse import quote

import aiohttp
from msgspec import Struct
from multidict import CIMultiDictProxy
from prometheus_client import Histogram
from yarl import URL

from consumer.clients.deadlines import Deadlines
from consumer.clients.errors import Api, Unavailable
from consumer.ops.metrics import Metrics

READ_TIMEOUT: Final = 10.0
"""Seconds from sending a request to its whole answer, unless whoever calls has less patience."""

WRITE_TIMEOUT: Final = 5.0
"""The same for an API that is written to: a process that lost its partitions may still land a write this long (P2)."""

_CONNECT_TIMEOUT: Final = 5.0
_LARGEST_ANSWER: Final = 8 * 1024 * 1024
"""Bytes; a page of 100 contracts is well under one MiB."""

_ESCAPES: Final = {code: quote(chr(code), safe="") for code in range(128)}
"""For `str.translate`, which takes a third of the time that `quote` does."""


class Answer(Struct, frozen=True):
    """What came back, whatever its status."""

    status: int
    body: bytes
    headers: CIMultiDictProxy[str]


@lru_cache(maxsize=4096)
def segment(text: str) -> str:
    """Return the text as one path segment, with nothing safe (`reference/mailmojo.md`, basics).

    Kept for a while, since one sync asks for the same user and address five times.
    """
    return text.translate(_ESCAPES) if text.isascii() else quote(text, safe="")


def exact_url(base: URL, path: str, query: str) -> URL:
    """Return the URL of an encoded path and query behind `base`, exactly as they are.

    Parsed from text, yarl would turn %40 into @ and resolve `..`, and take three times as long. It does not mind a
    query at the end of an encoded path.
    """
    whole = base.raw_path.rstrip("/") + path
    return base.with_path(f"{whole}?{query}" if query else whole, encoded=True)


@asynccontextmanager
async def open_session(concurrency: int) -> AsyncIterator[aiohttp.ClientSession]:
    """Open the one session of a process that syncs this many users at a time.

    A time-out would include the wait for a free connection, so there is one for every request that may be open: three
    reads a user, and a few for probes and tokens. Cookies are neither kept nor sent.
    """
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=3 * concurrency + 8),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "application/json", "User-Agent": f"sesamy-mailmojo/{version('sesamy-mailmojo')}"},
        # The whole request is bounded by its wire, to the moment: aiohttp rounds 5 s and more up to a whole second.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
    )
    # aiohttp 3.14 sends GET, PUT and DELETE once more by itself when the connection breaks: past every quota, and with
    # nobody knowing. It has no public switch for that; a test over a real socket notices when this one goes.
    session._retry_connection = False  # noqa: SLF001 - see above
    async with session:
        yield session


class Wire:
    """Sends requests of one API."""

    def __init__(
        self,
        api: Api,
        session: aiohttp.ClientSession,
        metrics: Metrics,
        *,
        timeout: float = READ_TIMEOUT,
        inject: Callable[[dict[str, str]], None] | None = None,
    ) -> None:
        """Send with this session; `inject` adds the trace context to headers, where somebody traces."""
        self._api = api
        self._session = session
        self._metrics = metrics
        self._durations: dict[tuple[str, str], Histogram] = {}
        self._deadlines = Deadlines(timeout)
        self._inject = inject

    async def send(
        self, method: str, url: URL, *, operation: str, headers: dict[str, str], body: bytes | None = None
    ) -> Answer:
        """Send one request and return its answer. Redirects are not followed.

        `headers` is the request's own: the trace context is put into it.

        Raises:
            Unavailable: no answer, not in time, or too large a one.
        """
        if self._inject is not None:
            self._inject(headers)
        began = time.perf_counter()
        status = "error"
        try:
            with self._deadlines.begin():
                # Not as a context: a response that is read to its end has given its connection back already.
                response = await self._session.request(method, url, data=body, headers=headers, allow_redirects=False)
                answer = Answer(response.status, await self._read(response, operation), response.headers)
                status = str(answer.status)
        # Nothing is chained: the texts of these errors hold the URL, and so the contact's address (promise P8).
        except TimeoutError:
            raise Unavailable(self._api, operation, None, f"no answer within {self._deadlines.seconds:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(self._api, operation, None, _reason(error)) from None
        finally:
            self._duration_of(operation, status).observe(time.perf_counter() - began)
        return answer

    def _duration_of(self, operation: str, status: str) -> Histogram:
        # Looking labels up takes as long as counting.
        found = self._durations.get((operation, status))
        if found is None:
            found = self._metrics.api_request_duration.labels(self._api, operation, status)
            self._durations[operation, status] = found
        return found

    async def _read(self, response: aiohttp.ClientResponse, operation: str) -> bytes:
        content = response.content
        try:
            body = await content.readany()
            while len(body) <= _LARGEST_ANSWER and not content.at_eof():
                body += await content.readany()
        except BaseException:
            response.close()
            raise
        if len(body) > _LARGEST_ANSWER:
            response.close()
            raise Unavailable(self._api, operation, response.status, f"an answer larger than {_LARGEST_ANSWER} bytes")
        return body


def _reason(error: Exception) -> str:
    """Return why there is no answer, without host or URL."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"the server's certificate is not trusted: {error.certificate_error}"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ssl.SSLError):
        return f"no TLS connection: {cause.reason}"
    if isinstance(cause, OSError) and cause.strerror:
        return f"{type(error).__name__}: {cause.strerror}"
    return type(error).__name__
