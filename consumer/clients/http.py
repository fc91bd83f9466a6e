"""One HTTP/1.1 request and its response, on the connections and the parser of aiohttp.

`ClientSession` writes a request from a task that starts a turn of the event loop after the call. A process that was
frozen in that turn would write without knowing that it lost its partitions. Here the caller's check and the write are
one synchronous step: first a connection is obtained, then `before_sending` is called, then the bytes are written, with
no await in between. A request also costs a third of the CPU (docs/performance.md).

What aiohttp does not document and this module needs is listed in `missing_parts`. Where a part is missing,
`SessionClient` serves instead: it promises the same, except that its check precedes the bytes by a turn of the loop.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from msgspec import Struct
from multidict import CIMultiDictProxy
from yarl import URL

_READ_CHUNK: Final = 64 * 1024
_MOST_INFORMATIONAL: Final = 10
"""Responses with a status of 1xx before the final one."""

Sending = Callable[[], AbstractContextManager[None]]
"""Called right before the request is written; the context lasts until the response was read or given up."""


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds of each request; durations in seconds."""

    connect: float = 5.0
    """For a new connection: name resolution, TCP and TLS together."""
    total: float = 10.0
    """From the beginning of the request, the connection included, to the last byte of the response."""
    body: int = 1024 * 1024
    """Bytes of a response's body, after decompression."""


class Response(Struct, frozen=True):
    """A whole response."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class ConnectTimeout(TimeoutError):
    """There was no connection in time; nothing was sent."""


class TooLarge(aiohttp.ClientError):
    """The response is larger than the limits allow."""


class HttpClient(Protocol):
    """Sends requests to one origin."""

    async def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        sending: Sending = nullcontext,
    ) -> Response:
        """Send one request, exactly once, and return its response. Redirects are not followed.

        Args:
            method: such as `GET`.
            target: path and query, percent-encoded; sent unchanged.
            headers: all but Host, Content-Length and the client's own.
            body: sent with its length; None sends none.
            sending: what it raises prevents the request.

        Raises:
            ValueError: the target or a header holds what cannot be sent.
            ConnectTimeout: no connection within `Limits.connect`.
            TimeoutError: no whole response within `Limits.total`.
            TooLarge: the response exceeds `Limits.body`.
            aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError: no connection, or no proper response.
        """


class ConnectionClient:
    """Writes requests itself, on connections of an aiohttp connector. Implements `HttpClient`.

    Pooling, name resolution, happy eyeballs, TLS, proxies and keep-alive are the connector's.
    """

    def __init__(
        self,
        origin: URL,
        connector: aiohttp.BaseConnector,
        *,
        headers: Mapping[str, str],
        limits: Limits,
        proxy: URL | None = None,
        proxy_auth: aiohttp.BasicAuth | None = None,
    ) -> None:
        """Send to `origin` (scheme, host and port); `headers` go with every request."""
        host = origin.host_port_subcomponent or ""
        self._common = _lines({"Host": host, **headers})
        self._connector = connector
        self._limits = limits
        # The connector asks a request where to connect to; this one is never sent.
        self._template = aiohttp.ClientRequest(
            "GET", origin, loop=asyncio.get_running_loop(), proxy=proxy, proxy_auth=proxy_auth
        )
        self._no_timeout = aiohttp.ClientTimeout(total=None)

    async def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        sending: Sending = nullcontext,
    ) -> Response:
        """See `HttpClient`."""
        if body is not None:
            headers = {**headers, "Content-Length": str(len(body))}
        head = f"{method} {_checked(target)} HTTP/1.1\r\n{self._common}{_lines(headers)}\r\n".encode("latin-1")
        async with asyncio.timeout(self._limits.total):
            connection, protocol, transport = await self._connect()
            written = complete = False
            try:
                protocol.set_response_params(read_until_eof=True, read_bufsize=_READ_CHUNK)
                with sending():
                    written = True
                    transport.write(head if body is None else head + body)
                    response = await self._read(protocol)
                    complete = True
            finally:
                # A connection on which a response is still to come is of no use to the next request.
                if complete or not written:
                    connection.release()
                else:
                    connection.close()
            return response

    async def _connect(self) -> tuple[Connection, ResponseHandler, asyncio.Transport]:
        """Return a connection that is open and silent, from the pool or new."""
        while True:
            try:
                async with asyncio.timeout(self._limits.connect) as limit:
                    connection = await self._connector.connect(self._template, [], self._no_timeout)
            except TimeoutError:
                if limit.expired():
                    raise ConnectTimeout from None
                raise
            protocol, transport = connection.protocol, connection.transport
            # A server may hang up, or send what was not asked for, while a connection waits in the pool.
            if protocol is not None and transport is not None and not (connection.closed or protocol.should_close):
                # uvloop keeps what is written for the end of the loop's turn, unless its buffer may hold nothing.
                transport.set_write_buffer_limits(high=0)
                return connection, protocol, transport
            connection.close()

    async def _read(self, protocol: ResponseHandler) -> Response:
        for _ in range(_MOST_INFORMATIONAL + 1):
            message, payload = await protocol.read()
            if message.code >= 200 or message.code == 101:
                break
        else:
            raise TooLarge(f"more than {_MOST_INFORMATIONAL} informational responses")
        if message.code == 101:
            raise aiohttp.ClientPayloadError("the server changes to another protocol")
        body = bytearray()
        while not payload.at_eof():
            body += await payload.readany()
            if len(body) > self._limits.body:
                raise TooLarge(f"a body of more than {self._limits.body} bytes")
        return Response(message.code, message.headers, bytes(body))


class SessionClient:
    """Sends requests through a `ClientSession`. Implements `HttpClient` where aiohttp's parts are not as expected."""

    def __init__(
        self,
        origin: URL,
        session: aiohttp.ClientSession,
        *,
        headers: Mapping[str, str],
        limits: Limits,
        proxy: URL | None = None,
        proxy_auth: aiohttp.BasicAuth | None = None,
    ) -> None:
        """Send to `origin` (scheme, host and port) with this session; `headers` go with every request."""
        self._origin = origin
        self._session = session
        self._headers = dict(headers)
        self._limits = limits
        self._proxy, self._proxy_auth = proxy, proxy_auth
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.connect)

    async def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        sending: Sending = nullcontext,
    ) -> Response:
        """See `HttpClient`."""
        _lines(headers)
        url = self._origin.with_path(_checked(target), encoded=True)
        async with asyncio.timeout(self._limits.total):
            try:
                with sending():
                    async with self._session.request(
                        method,
                        url,
                        data=body,
                        headers={**self._headers, **headers},
                        allow_redirects=False,
                        proxy=self._proxy,
                        proxy_auth=self._proxy_auth,
                        timeout=self._timeout,
                    ) as response:
                        return Response(response.status, response.headers, await self._read(response))
            except aiohttp.ConnectionTimeoutError:
                raise ConnectTimeout from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        while not response.content.at_eof():
            body += await response.content.readany()
            if len(body) > self._limits.body:
                response.close()
                raise TooLarge(f"a body of more than {self._limits.body} bytes")
        return bytes(body)


def missing_parts() -> str | None:
    """Return what this aiohttp lacks for `ConnectionClient`, in words; None when nothing."""
    needed: list[tuple[object, str, set[str]]] = [
        (aiohttp.BaseConnector, "connect", {"req", "traces", "timeout"}),
        (ResponseHandler, "set_response_params", {"read_until_eof", "read_bufsize"}),
        (ResponseHandler, "read", set()),
        (aiohttp, "ClientRequest", {"method", "url", "loop", "proxy", "proxy_auth"}),
    ]
    for owner, name, parameters in needed:
        part = getattr(owner, name, None)
        if part is None:
            return name
        if lacking := parameters - inspect.signature(part).parameters.keys():
            return f"{', '.join(sorted(lacking))} of {name}"
    if lacking := {"protocol", "transport", "closed", "close", "release"} - set(dir(Connection)):
        return f"{', '.join(sorted(lacking))} of Connection"
    return None


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{_checked(name)}: {_checked(value, spaces=True)}\r\n" for name, value in headers.items())


def _checked(text: str, *, spaces: bool = False) -> str:
    """Return the text if it may stand in the head of a request. Raises `ValueError`, which does not quote it."""
    if not (text.isprintable() and text.isascii()) or (" " in text and not spaces):
        raise ValueError("a request's target or header holds a character that cannot be sent")
    return text
