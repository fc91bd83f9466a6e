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
from typing import Final, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from msgspec import Struct
from multidict import CIMultiDictProxy
from yarl import URL

from consumer.clients.bounds import BoundedResponse, Meter, Progress, Sending, progress, read_body
from consumer.clients.deadlines import Deadlines

_READ_CHUNK: Final = 64 * 1024


class Answer(Struct, frozen=True):
    """What came back, whatever its status."""

    status: int
    body: bytes
    headers: CIMultiDictProxy[str]


class HttpClient(Protocol):
    """Sends requests to one origin."""

    def __init__(
        self,
        origin: URL,
        session: aiohttp.ClientSession,
        *,
        deadlines: Deadlines,
        proxy: URL | None = None,
        proxy_headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send to `origin` (scheme, host and port) on the connections of `session`, with its headers.

        `deadlines` bound each request, from obtaining its connection to the last byte of its response. The session's
        own time-out bounds the connecting.
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
        """Send one request, exactly once, and return its response. Redirects are not followed.

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


HttpClientFactory = Callable[..., HttpClient]
"""Makes a client; the arguments are those of `HttpClient.__init__`."""


class ConnectionClient(HttpClient):
    """Writes requests itself, on connections of the session's connector.

    Pooling, name resolution, happy eyeballs, TLS, proxies and keep-alive are the connector's.
    """

    def __init__(
        self,
        origin: URL,
        session: aiohttp.ClientSession,
        *,
        deadlines: Deadlines,
        proxy: URL | None = None,
        proxy_headers: Mapping[str, str] | None = None,
    ) -> None:
        """See `HttpClient`."""
        if session.connector is None:
            raise RuntimeError("the session is closed")
        self._connector = session.connector
        self._connecting = session.timeout
        self._deadlines = deadlines
        host = {"Host": origin.host_port_subcomponent or ""}
        self._common = _lines({**host, **session.headers})
        # The connector asks a request where to connect to; this one is never sent. The connector puts a `Host` into a
        # proxy's headers, and keeps connections by these: they must be the same for the first request and the second.
        self._template = aiohttp.ClientRequest(
            "GET",
            origin,
            loop=asyncio.get_running_loop(),
            proxy=proxy,
            proxy_headers={**host, **proxy_headers} if proxy_headers else None,
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
        data = f"{method} {_checked(target)} HTTP/1.1\r\n{self._common}{_lines(headers)}\r\n".encode("ascii")
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
                    connection.close()

    async def _connect(self) -> tuple[Connection, ResponseHandler, asyncio.Transport]:
        """Return a connection that is open and silent, from the pool or new."""
        while True:
            try:
                connection = await self._connector.connect(self._template, [], self._connecting)
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
    """Sends requests through the session: the cold ones, and all where aiohttp's parts are not as expected."""

    def __init__(
        self,
        origin: URL,
        session: aiohttp.ClientSession,
        *,
        deadlines: Deadlines,
        proxy: URL | None = None,
        proxy_headers: Mapping[str, str] | None = None,
    ) -> None:
        """See `HttpClient`. The session's responses are `BoundedResponse`s."""
        self._origin = origin
        self._session = session
        self._deadlines = deadlines
        self._proxy, self._proxy_headers = proxy, proxy_headers

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
        url = self._origin.with_path(_checked(target), encoded=True)
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
    return "".join([f"{_checked(name)}: {_checked(value, spaces=True)}\r\n" for name, value in headers.items()])


def _checked(text: str, *, spaces: bool = False) -> str:
    """Return the text if it may stand in the head of a request. Raises `ValueError`, which does not quote it."""
    if not (text.isprintable() and text.isascii()) or (" " in text and not spaces):
        raise ValueError("a request's target or header holds a character that cannot be sent")
    return text
