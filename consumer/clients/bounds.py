"""Bounds what one response may cost, in bytes, in CPU time and in memory, and reads its body within them."""

import asyncio
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Final

import aiohttp
from aiohttp.connector import Connection

LARGEST_BODY: Final = 1024 * 1024
"""Bytes of a body, after decompression; a page of 100 contracts is well under it."""

_LARGEST_RESPONSE: Final = 2 * LARGEST_BODY
"""Bytes on the wire: headers, informational responses, chunk sizes and body together."""

_MOST_LINES: Final = 20_000
"""Line breaks and reads from the socket; each header and each chunk costs time and has at least one of them.

Indented JSON has line breaks of its own, about 10,000 in a page of 100 contracts.
"""

_MOST_STATUS_LINES: Final = 20
"""Informational responses (1xx) before the response; each of them costs as much as a response."""

_NOT_COMPRESSED: Final = frozenset({"", "identity"})
_COMPRESSED: Final = frozenset({"gzip", "x-gzip", "deflate"})

_AUTO_DETECT: Final = 32 + zlib.MAX_WBITS
"""Has zlib accept the headers of gzip and of zlib."""


class ResponseTooLargeError(Exception):
    """The response exceeds a bound; its connection is closed. The text names the bound."""


class UnreadableResponseError(Exception):
    """The body cannot be decompressed. The text gives the reason and quotes nothing."""


class Progress:
    """How far a request has come, for the text of its failure."""

    __slots__ = ("refusal", "sent", "status")

    def __init__(self) -> None:
        self.refusal: BaseException | None = None
        """What prevented the request."""
        self.sent = False
        self.status: int | None = None

    def allow(self, sending: "Sending") -> AbstractContextManager[None]:
        """Ask whether the request may be sent. What `sending` raises is the refusal, and is raised."""
        try:
            return sending()
        except BaseException as error:
            self.refusal = error
            raise


Sending = Callable[[], AbstractContextManager[None]]
"""Called before a request is sent; an exception prevents it. The context lasts until the response was read."""

progress: ContextVar[Progress] = ContextVar("progress")
"""Of the request that the current task makes through a `ClientSession`."""


class BoundedResponse(aiohttp.ClientResponse):
    """A response of a `ClientSession`. Its connection counts what it receives; what exceeds the bounds closes it."""

    _meter: "Meter | None" = None
    _number = 0

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Read status and headers. Raises `ResponseTooLargeError`, or as aiohttp's."""
        progress.get().sent = True
        transport, handler = connection.transport, connection.protocol
        if transport is not None and handler is not None:
            self._meter = Meter.of(transport, handler)
            self._number = self._meter.begin()
        try:
            return await super().start(connection)
        except BaseException as error:
            self._give_up(error)
            raise

    async def body(self) -> bytes:
        """Return the decompressed body. Raises as `read_body`."""
        try:
            body, whole = await read_body(self.status, self.headers, self.content)
        except BaseException as error:
            self._give_up(error)
            raise
        if not whole:
            self._give_up()
        elif self._meter is not None:
            self._meter.end(self._number)
        return body

    def _give_up(self, error: BaseException | None = None) -> None:
        """Have nothing more sent or received. Raises `ResponseTooLargeError` if that is the reason for the error."""
        if self._meter is not None:
            self._meter.abort()
        self.close()
        if self._meter is not None and isinstance(error, Exception):
            self._meter.refuse_excess()


async def read_body(status: int, headers: Mapping[str, str], content: aiohttp.StreamReader) -> tuple[bytes, bool]:
    """Return the decompressed body, and whether it is whole; when not, its connection is of no further use.

    The body of an error is cut instead of refused: its status and headers count, and nothing else depends on it.

    Raises:
        ResponseTooLargeError: it exceeds a bound.
        UnreadableResponseError: it cannot be decompressed.
        aiohttp.ClientError: it broke off.
    """
    announced = int(headers.get("Content-Length", 0))
    if status < 400 and announced > LARGEST_BODY:
        raise ResponseTooLargeError(f"a body of {announced} bytes, of which {LARGEST_BODY} are read")
    raw = await _read_raw(content)
    encoding = headers.get("Content-Encoding")
    body = raw
    if raw and encoding is not None:
        try:
            body = _decompressed(raw, encoding.strip().lower())
        except UnreadableResponseError:
            if status < 400:
                raise
            body = b""
    whole = len(raw) <= LARGEST_BODY >= len(body)
    if not whole and status < 400:
        raise ResponseTooLargeError(f"a body of more than {LARGEST_BODY} bytes")
    return body[:LARGEST_BODY], whole


async def _read_raw(content: aiohttp.StreamReader) -> bytes:
    """Return the body as it was received, or the first part of one that is too large."""
    first = await content.readany()
    if content.at_eof():
        return first
    parts, size = [first], len(first)
    while size <= LARGEST_BODY and not content.at_eof():
        parts.append(await content.readany())
        size += len(parts[-1])
    return b"".join(parts)


class Meter(asyncio.Protocol):
    """Stands between a connection's transport and aiohttp's parser, which bounds no sums of what it parses."""

    def __init__(self, transport: asyncio.Transport, handler: asyncio.Protocol) -> None:
        self.excess: str | None = None
        self._transport = transport
        self._handler = handler
        self._number = 0
        self._in_use = False
        self._bytes = self._lines = self._status_lines = 0

    @classmethod
    def of(cls, transport: asyncio.Transport, handler: asyncio.Protocol) -> "Meter":
        """Return the meter of this connection, which has one from its first response on."""
        meter = transport.get_protocol()
        if not isinstance(meter, cls):
            meter = cls(transport, handler)
            transport.set_protocol(meter)
        return meter

    def begin(self) -> int:
        """Count for a new response, and return its number on this connection."""
        self._number += 1
        self._in_use = True
        self._bytes = self._lines = self._status_lines = 0
        return self._number

    def end(self, number: int) -> None:
        """Expect nothing more, unless the connection was taken for another response already."""
        if number == self._number:
            self._in_use = False

    def refuse_excess(self) -> None:
        """Raise `ResponseTooLargeError` if that is why the connection was closed."""
        if self.excess is not None:
            raise ResponseTooLargeError(self.excess) from None

    def abort(self) -> None:
        """Close the connection, and drop what the socket has not taken yet: closing alone would still send it."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Pass the data on, or close the connection before it costs more."""
        self._bytes += len(data)
        self._lines += data.count(b"\n") + 1
        self._status_lines += data.count(b"\nHTTP/")
        if not self._in_use:
            self.excess = "data that no request asked for"  # and that would be taken for the next one's response
        elif self._bytes > _LARGEST_RESPONSE:
            self.excess = f"more than {_LARGEST_RESPONSE} bytes for one response"
        elif self._lines > _MOST_LINES:
            self.excess = f"more than {_MOST_LINES} lines, chunks and pieces in one response"
        elif self._status_lines > _MOST_STATUS_LINES:
            self.excess = f"more than {_MOST_STATUS_LINES} informational responses"
        if self.excess is None:
            self._handler.data_received(data)
        else:
            self.abort()

    def eof_received(self) -> bool | None:
        """Pass on."""
        return self._handler.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """Pass on."""
        self._handler.connection_lost(error)

    def pause_writing(self) -> None:
        """Pass on."""
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self._handler.resume_writing()


def _decompressed(raw: bytes, encoding: str) -> bytes:
    """Return the content, or just more of it than is allowed."""
    if encoding in _NOT_COMPRESSED:
        return raw
    if encoding not in _COMPRESSED:
        raise UnreadableResponseError("a content encoding that was not asked for")
    inflating = zlib.decompressobj(_AUTO_DETECT)
    try:
        body = inflating.decompress(raw, LARGEST_BODY + 1)
    except zlib.error:
        raise UnreadableResponseError("a body that cannot be decompressed") from None
    if len(body) <= LARGEST_BODY and (not inflating.eof or inflating.unused_data):
        raise UnreadableResponseError("a compressed body that ends too early or too late")
    return body
