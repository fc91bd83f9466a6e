"""One HTTP/1.1 request and its response, on the connections and the parser of aiohttp.

`ClientSession` writes a request from a task that starts a turn of the event loop after the call. A process that was
frozen in that turn would write without knowing that it lost its partitions. Here the caller's check and the write are
one synchronous step: first a connection is obtained, then the caller's check is made, then the bytes are written, with
no await in between. A request also costs less CPU.

What aiohttp does not document and this module needs is listed in `missing_parts`. Where a part is missing,
`SessionClient` serves instead: it promises the same, except that its check precedes the bytes by a turn of the loop.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cached_property
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from msgspec import Struct
from multidict import CIMultiDictProxy
from yarl import URL

from consumer.clients.bounds import BoundedResponse, Meter, Progress, Sending, progress, read_body
from consumer.clients.deadlines import Deadlines
from consumer.settings.proxies import Proxies

_READ_CHUNK: Final = 64 * 1024


class Answer(Struct, frozen=True):
    """What came back, whatever its status."""

    status: int
    body: bytes
    headers: CIMultiDictProxy[str]


class HttpClient:
    """Sends requests to one origin."""

    def __init__(
        self, origin: URL, session: aiohttp.ClientSession, *, timeout: float, proxies: Proxies | None = None
    ) -> None:
        """Send to `origin` (scheme, host and port) on the connections of `session`, with its headers.

        `timeout` bounds each request in seconds, from obtaining its connection to the last byte of its response. The
        session's own time-out bounds the connecting.
        """
        self._origin = origin
        self._session = session
        self._connecting = session.timeout
        self.timeout = timeout
        self._deadlines = Deadlines(timeout)
        self.connect_timeout = self._connecting.connect
        self.through = ""
        """For the text of an error: which setting leads through a proxy."""
        self._proxy: URL | None = None
        self._proxy_headers: dict[str, str] | None = None
        if (
            proxies is not None
            and origin.scheme == "https"
            and (proxy := proxies.of(origin.host or "", origin.port or 443))
        ):
            self.through = f" through the proxy of {proxy.variable}"
            self._proxy = URL(proxy.url)
            if proxy.authorization.value:
                self._proxy_headers = {"Proxy-Authorization": proxy.authorization.value}

    async def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        sending: Sending = nullcontext,
        state: Progress | None = None,
    ) -> Answer:
        """Send one request, exactly once, and return its response. Redirects are not followed.

        When it fails or is cancelled after it was sent, its connection is closed, and bytes that the socket has not
        taken yet are never sent.

        Args:
            method: such as `GET`.
            target: path and query, percent-encoded; sent unchanged.
            headers: all but Host, Content-Length and the session's.
            body: sent with its length; None sends none.
            sending: what it raises prevents the request.
            state: told how far the request has come.

        Raises:
            ValueError: the target or a header holds what cannot be sent.
            aiohttp.ConnectionTimeoutError: no connection in time.
            TimeoutError: no whole response in time.
            ResponseTooLargeError, UnreadableResponseError: the response exceeds the bounds of `bounds.py`.
            aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError: no connection, or no proper response.
        """
        raise NotImplementedError


HttpClientFactory = Callable[..., HttpClient]
"""Makes a client; the arguments are those of `HttpClient.__init__`."""


class ConnectionClient(HttpClient):
    """Writes requests itself, on connections of the session's connector.

    Pooling, name resolution, happy eyeballs, TLS, proxies and keep-alive are the connector's.
    """

    @cached_property
    def _host(self) -> dict[str, str]:
        return {"Host": self._origin.host_port_subcomponent or ""}

    @cached_property
    def _common(self) -> str:
        return _lines({**self._host, **self._session.headers})

    @cached_property
    def _template(self) -> "aiohttp.ClientRequest":
        """What the connector asks where to connect to; it is never sent.

        The connector puts a `Host` into a proxy's headers, and keeps connections by these: they must be the same for
        the first request and the second.
        """
        return aiohttp.ClientRequest(
            "GET",
            self._origin,
            loop=asyncio.get_running_loop(),
            proxy=self._proxy,
            proxy_headers={**self._host, **self._proxy_headers} if self._proxy_headers else None,
        )

    async def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        sending: Sending = nullcontext,
        state: Progress | None = None,
    ) -> Answer:
        """See `HttpClient`."""
        state = state or Progress()
        if body is not None:
            headers = {**headers, "Content-Length": str(len(body))}
        _check(target, spaces=False)
        data = f"{method} {target} HTTP/1.1\r\n{self._common}{_lines(headers)}\r\n".encode("ascii")
        if body is not None:
            data += body
        with self._deadlines.begin():
            connection, handler, transport = await self._connect()
            reusable = True
            try:
                meter = Meter.of(transport, handler)
                handler.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=_READ_CHUNK)
                with state.allow(sending):
                    # From here on a connection with a response that is still to come is of no use to the next request.
                    state.sent, reusable = True, False
                    number = meter.begin()
                    transport.write(data)
                    try:
                        answer, reusable = await self._read(handler, state)
                    except Exception:
                        meter.refuse_excess()
                        raise
                    meter.end(number)
                    return answer
            finally:
                if reusable:
                    connection.release()
                else:
                    transport.abort()  # closing would still send what the socket has not taken yet
                    connection.close()

    async def _connect(self) -> tuple[Connection, ResponseHandler, asyncio.Transport]:
        """Return a connection that is open and silent, from the pool or new."""
        connector = self._session.connector
        if connector is None:
            raise RuntimeError("the session is closed")
        while True:
            try:
                connection = await connector.connect(self._template, [], self._connecting)
            except TimeoutError:
                raise aiohttp.ConnectionTimeoutError("no connection in time") from None
            handler, transport = connection.protocol, connection.transport
            # A server may hang up, or send what was not asked for, while a connection waits in the pool.
            if handler is not None and transport is not None and not (connection.closed or handler.should_close):
                # uvloop keeps what is written for the end of the loop's turn, unless its buffer may hold nothing.
                transport.set_write_buffer_limits(high=0)
                return connection, handler, transport
            connection.close()

    async def _read(self, handler: ResponseHandler, state: Progress) -> tuple[Answer, bool]:
        """Return the response, and whether it is whole. The meter bounds the number of informational ones."""
        message, payload = await handler.read()
        while message.code < 200:
            if message.code == 101:
                raise aiohttp.ClientPayloadError("the server changes to another protocol")
            message, payload = await handler.read()
        state.status = message.code
        body, whole = await read_body(message.code, message.headers, payload)
        return Answer(message.code, body, message.headers), whole


class SessionClient(HttpClient):
    """Sends requests through the session: the cold ones, and all where aiohttp's parts are not as expected.

    The session's responses are `BoundedResponse`s.
    """

    async def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        sending: Sending = nullcontext,
        state: Progress | None = None,
    ) -> Answer:
        """See `HttpClient`."""
        state = state or Progress()
        progress.set(state)
        _lines(headers)
        _check(target, spaces=False)
        url = self._origin.with_path(target, encoded=True)
        with self._deadlines.begin(), state.allow(sending):
            # Not as a context: a response that is read to its end has given its connection back already.
            response = await self._session.request(
                method,
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                proxy=self._proxy,
                proxy_headers=self._proxy_headers,
            )
            state.status = response.status
            # aioresponses answers with a class of its own.
            content = await (response.body() if isinstance(response, BoundedResponse) else response.read())
            return Answer(response.status, content, response.headers)


def missing_parts() -> str | None:
    """Return what this aiohttp lacks for `ConnectionClient`, in words; None when nothing."""
    needed: list[tuple[object, str, set[str]]] = [
        (aiohttp.BaseConnector, "connect", {"req", "traces", "timeout"}),
        (ResponseHandler, "set_response_params", {"read_until_eof", "auto_decompress", "read_bufsize"}),
        (ResponseHandler, "read", set()),
        (ResponseHandler, "should_close", set()),
        (aiohttp, "ClientRequest", {"method", "url", "loop", "proxy", "proxy_headers"}),
    ]
    for owner, name, parameters in needed:
        part = getattr(owner, name, None)
        if part is None:
            return name
        if parameters and (lacking := parameters - inspect.signature(part).parameters.keys()):
            return f"{', '.join(sorted(lacking))} of {name}"
    if lacking := {"protocol", "transport", "closed", "close", "release"} - set(dir(Connection)):
        return f"{', '.join(sorted(lacking))} of Connection"
    return None


def _lines(headers: Mapping[str, str]) -> str:
    _check("".join([*headers, *headers.values()]), spaces=True)
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


def _check(text: str, *, spaces: bool) -> None:
    """Raise `ValueError` unless the text may stand in the head of a request; it is not quoted."""
    if not (text.isprintable() and text.isascii()) or (" " in text and not spaces):
        raise ValueError("a request's target or header holds a character that cannot be sent")
