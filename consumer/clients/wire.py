"""One request on a socket: bounded in time and size, sent exactly once, counted. Nothing here knows a quota."""

import errno
import math
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import Histogram
from yarl import URL

from consumer.clients.bounds import (
    BoundedResponse,
    Progress,
    ResponseTooLargeError,
    Sending,
    UnreadableResponseError,
)
from consumer.clients.deadlines import Deadlines
from consumer.clients.errors import Api, ApiError, LocalFault, TooLarge, Unavailable, Unreachable
from consumer.clients.http import Answer, HttpClient, HttpClientFactory, SessionClient
from consumer.ops.metrics import Metrics
from consumer.settings.proxies import Proxies, Proxy

READ_TIMEOUT: Final = 10.0
"""Seconds from sending a request to its whole answer, unless whoever calls has less patience."""

WRITE_TIMEOUT: Final = 5.0
"""The same for an API that is written to: a process that lost its partitions may still land a write this long (P2)."""

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for a new connection: address, TCP, proxy and TLS."""

_LOCAL_ERRORS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EAGAIN}
)
_LOCAL_LOOKUP_ERRORS: Final = frozenset({socket.EAI_MEMORY, socket.EAI_SYSTEM})
"""What says that this process or its machine has too little of something."""

_ESCAPES: Final = {code: quote(chr(code), safe="") for code in range(128)}
"""For `str.translate`, which takes a third of the time that `quote` does."""


@lru_cache(maxsize=4096)
def segment(text: str) -> str:
    """Return the text as one path segment, with nothing safe (`docs/reference/mailmojo.md`, basics).

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
async def open_session(
    *, connect_timeout: float = CONNECT_TIMEOUT, tls: ssl.SSLContext | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """Open the one session of a process.

    The number of connections is bounded by that of the requests under way; a bound of its own would have requests wait
    for a free connection, and take that for a slow server. Cookies are neither kept nor sent. aiohttp does not look
    into the environment (`trust_env`): beside the proxies it would take credentials from a .netrc file. `tls` replaces
    the authorities of the machine.
    """
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls or True),
        cookie_jar=aiohttp.DummyCookieJar(),
        response_class=BoundedResponse,
        auto_decompress=False,  # `BoundedResponse` does, within bounds
        headers={
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": f"sesamy-mailmojo/{version('sesamy-mailmojo')}",
        },
        # The whole request is bounded by its wire. aiohttp would round 5 s and more up to a whole second.
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout, ceil_threshold=math.inf),
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
        proxies: Proxies | None = None,
        client: HttpClientFactory = SessionClient,
    ) -> None:
        """Send with this session, through one `client` for each origin.

        `inject` adds the trace context to headers, where requests are traced.
        """
        self._api = api
        self._session = session
        self._metrics = metrics
        self._durations: dict[tuple[str, str], Histogram] = {}
        self._deadlines = Deadlines(timeout)
        self._inject = inject
        self._proxies = proxies or Proxies()
        self._client = client
        self._routes: dict[tuple[str, str], _Route] = {}

    async def send(
        self,
        method: str,
        url: URL,
        *,
        operation: str,
        headers: dict[str, str],
        body: bytes | None = None,
        sending: Sending = nullcontext,
    ) -> Answer:
        """Send one request and return its answer. Redirects are not followed.

        `headers` is the request's own: the trace context is put into it. `sending` is called right before the bytes
        are sent (`http.py`), and what it raises prevents the request and is raised.

        Raises:
            Unavailable: no answer, not in time (`Unreachable`: no connection), unreadable or too large (`TooLarge`).
            LocalFault: this process could not send it.
        """
        if self._inject is not None:
            self._inject(headers)
        began = time.perf_counter()
        status = "error"
        route = self._routes.get((url.scheme, url.raw_authority)) or self._route(url)
        state = Progress()
        try:
            client = route.client or self._open(route, url)
            answer = await client.request(method, url.raw_path_qs, headers, body, sending=sending, state=state)
            status = str(answer.status)
        # Nothing is chained: the texts of these errors hold the URL, and so the contact's address (promise P8).
        except Exception as error:
            if error is state.refusal:
                raise
            raise self._failure(operation, error, state, route) from None
        finally:
            if state.refusal is None:
                self._duration_of(operation, status).observe(time.perf_counter() - began)
        return answer

    def _duration_of(self, operation: str, status: str) -> Histogram:
        # Looking labels up takes as long as counting.
        found = self._durations.get((operation, status))
        if found is None:
            found = self._metrics.api_request_duration.labels(self._api, operation, status)
            self._durations[operation, status] = found
        return found

    def _route(self, url: URL) -> "_Route":
        proxy = self._proxies.of(url.host or "", url.port or 443) if url.scheme == "https" else None
        route = self._routes[url.scheme, url.raw_authority] = _Route(proxy)
        return route

    def _open(self, route: "_Route", url: URL) -> HttpClient:
        route.client = self._client(url.origin(), self._session, deadlines=self._deadlines, **route.options)
        return route.client

    def _failure(self, operation: str, error: Exception, state: Progress, route: "_Route") -> ApiError:
        """Return what the error means, without host or URL."""
        about = (self._api, operation, state.status)
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return Unreachable(*about, f"no connection within {self._session.timeout.connect:g} s{route.through}")
        if isinstance(error, TimeoutError) and error.errno is None:
            if state.sent:
                answer = "no answer" if state.status is None else "no complete answer"
                return Unavailable(*about, f"{answer} within {self._deadlines.seconds:g} s")
            return Unreachable(*about, f"no connection within {self._deadlines.seconds:g} s{route.through}")
        if isinstance(error, ResponseTooLargeError):
            return TooLarge(*about, str(error))
        if isinstance(error, UnreadableResponseError):
            return Unavailable(*about, str(error))
        if _is_local(error):
            return LocalFault(*about, _reason(error))
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return Unreachable(*about, f"no connection{route.through}, which answered HTTP {error.status}")
        if isinstance(error, aiohttp.ClientConnectorError):
            return Unreachable(*about, f"{_reason(error)}{route.through}")
        return Unavailable(*about, _reason(error))


class _Route:
    """The way to one host: directly, or through a proxy."""

    def __init__(self, proxy: Proxy | None) -> None:
        self.client: HttpClient | None = None
        self.options: dict[str, Any] = {}
        self.through = ""
        """For the text of an error: which setting led there."""
        if proxy is not None:
            self.through = f" through the proxy of {proxy.variable}"
            self.options["proxy"] = URL(proxy.url)
            if proxy.authorization.value:
                self.options["proxy_headers"] = {"Proxy-Authorization": proxy.authorization.value}


def _cause(error: Exception) -> Exception:
    return error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error


def _is_local(error: Exception) -> bool:
    """Tell a fault of this process or its machine from one of the network or the server."""
    cause = _cause(error)
    if isinstance(cause, socket.gaierror):
        return cause.errno in _LOCAL_LOOKUP_ERRORS
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError):
        return cause.errno in _LOCAL_ERRORS
    # An unexpected exception is a mistake in this program, or in a library.
    return not isinstance(error, aiohttp.ClientError | HttpProcessingError | ValueError | OSError | EOFError)


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"the server's certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        return "a response that is not valid HTTP"
    cause = _cause(error)
    if isinstance(cause, ssl.SSLError):
        return f"no TLS connection: {getattr(cause, 'reason', None) or type(cause).__name__}"
    if isinstance(cause, OSError) and cause.strerror:
        return f"{type(error).__name__}: {cause.strerror}"
    return type(error).__name__
