"""No response costs more than a bounded number of bytes and a bounded time, over real sockets."""

import asyncio
import gzip
import threading
import time
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from consumer.clients.bounds import LARGEST_BODY
from consumer.clients.errors import ApiError, TooLarge, Unavailable
from consumer.clients.http import Answer
from consumer.clients.session import open_session
from tests.unit.clients.raw_server import RawServer, Script, Send, after, endless, once, raw_server
from tests.unit.clients.scripted import Sender

pytestmark = pytest.mark.usefixtures("both_clients")

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HINT = b"HTTP/1.1 103 Early Hints\r\n\r\n"
PATIENCE = 10.0


async def get(url: str, *, patience: float = PATIENCE) -> Answer:
    async with open_session() as session:
        return await Sender("sesamy", url, session, timeout=patience).get(operation="list_contracts")


def response(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join([b"HTTP/1.1 " + status, length, *headers, b"", body])


def chunked(body: bytes, size: int) -> bytes:
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    return CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


WITHOUT_END: dict[str, tuple[Script, str]] = {
    "informational responses": (endless(HINT * 2000), "more than 20 informational responses"),
    "informational responses with headers": (
        endless((HINT[:-2] + b"Link: </a>\r\n\r\n") * 2000),
        "more than 20 informational responses",
    ),
    "chunks of one byte": (after(CHUNKED, b"1\r\nx\r\n" * 10_000), "more than 20000 lines, chunks and pieces"),
    "chunks of one byte, one line break each": (
        after(CHUNKED, b"1\nx\n" * 10_000),
        "not valid HTTP|more than 20000",
    ),
    "chunks with long extensions": (after(CHUNKED, b"1;" + b"a" * 4000 + b"\r\nx\r\n"), "more than 2097152 bytes"),
    "a body without a length": (after(OK + b"\r\n", b"x" * 65_536), "a body of more than 1048576 bytes"),
    "large chunks": (after(CHUNKED, b"10000\r\n" + b"x" * 65_536 + b"\r\n"), "a body of more than 1048576 bytes"),
    "headers": (after(OK, b"X-A: " + b"y" * 4000 + b"\r\n"), "not valid HTTP|more than 2097152 bytes"),
    "one header": (after(OK + b"X-A: ", b"y" * 65_536), "not valid HTTP|more than 2097152 bytes"),
    # Lines long enough for the parser's own bounds to come first; in one piece with the head or not.
    "trailers": (after(CHUNKED + b"0\r\n", b"X-A: " + b"y" * 4000 + b"\r\n"), "a response that is not valid HTTP"),
    "a compressed body": (
        after(OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"x")[:10], b"\x00" * 65_536),
        "a body",
    ),
}


@pytest.mark.parametrize(("script", "reason"), WITHOUT_END.values(), ids=WITHOUT_END)
async def test_a17_a_response_without_end_is_given_up_within_bounds_of_bytes_and_time(
    script: Script, reason: str
) -> None:
    with raw_server(script) as server:
        began, worked = time.monotonic(), time.thread_time()
        with pytest.raises(Unavailable, match=reason):
            await get(server.url)
        assert time.monotonic() - began < PATIENCE / 2
        assert time.thread_time() - worked < 1.0  # seconds for which the loop served nothing else
        assert server.sent < 16 * LARGEST_BODY  # what was read, and what the sockets' buffers took


LARGE: dict[str, bytes] = {
    "a long list": response(b"[" + b"1," * LARGEST_BODY + b"1]"),
    "a long list in chunks": chunked(b"x" * 8 * LARGEST_BODY, 65_536),
    "a gzip bomb": response(gzip.compress(bytes(64 * LARGEST_BODY)), b"Content-Encoding: gzip"),
    "a deflate bomb": response(zlib.compress(bytes(64 * LARGEST_BODY)), b"Content-Encoding: deflate"),
    "a bomb just over the bound": response(gzip.compress(bytes(LARGEST_BODY + 1)), b"Content-Encoding: gzip"),
}


@pytest.mark.parametrize("reply", LARGE.values(), ids=LARGE)
async def test_a17_a_body_of_more_than_a_mebibyte_is_a_failure_and_takes_no_more_memory(reply: bytes) -> None:
    with raw_server(once(reply)) as server:
        await warm_up()
        tracemalloc.start()
        try:
            with pytest.raises(TooLarge, match="HTTP 200: a body of"):
                await get(server.url)
            assert tracemalloc.get_traced_memory()[1] < 6 * LARGEST_BODY
        finally:
            tracemalloc.stop()


async def warm_up() -> None:
    with raw_server(once(response(b"{}"))) as server:
        await get(server.url)


WITHIN: dict[str, tuple[bytes, bytes]] = {
    "exactly a mebibyte": (response(b"x" * LARGEST_BODY), b"x" * LARGEST_BODY),
    "the same, compressed": (
        response(gzip.compress(b"x" * LARGEST_BODY), b"Content-Encoding: gzip"),
        b"x" * LARGEST_BODY,
    ),
    "some chunks of one byte": (chunked(b"[1, 2, 3]" * 500, 1), b"[1, 2, 3]" * 500),
    "many small chunks": (chunked(b"0123456789" * 50_000, 100), b"0123456789" * 50_000),
    "indented JSON": (response(b'    "name": "a value",\n' * 10_000), b'    "name": "a value",\n' * 10_000),
    "text that looks like HTTP": (
        response(rb'"HTTP/1.1 200 OK\nHTTP/1.1"' * 1000),
        rb'"HTTP/1.1 200 OK\nHTTP/1.1"' * 1000,
    ),
    "a few informational responses": (HINT * 10 + response(b"{}"), b"{}"),
    "deflate": (response(zlib.compress(b"{}"), b"Content-Encoding: Deflate"), b"{}"),
    "nothing, said to be compressed": (response(b"", b"Content-Encoding: gzip"), b""),
    "identity": (response(b"{}", b"Content-Encoding: identity"), b"{}"),
    "until the connection is closed": (OK + b"Connection: close\r\n\r\n{}", b"{}"),
}


@pytest.mark.parametrize(("reply", "body"), WITHIN.values(), ids=WITHIN)
async def test_a_response_within_the_bounds_is_read_whole(reply: bytes, body: bytes) -> None:
    def script(_: int, send: Send) -> None:
        send(reply)
        if b"Connection: close" in reply:
            raise ConnectionError

    with raw_server(script) as server:
        assert (await get(server.url)).body == body


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (response(b"no gzip", b"Content-Encoding: gzip"), "cannot be decompressed"),
        (response(gzip.compress(b"{}")[:-4], b"Content-Encoding: gzip"), "ends too early or too late"),
        (response(gzip.compress(b"{}") * 2, b"Content-Encoding: gzip"), "ends too early or too late"),
        (response(b"{}", b"Content-Encoding: br"), "not asked for"),
        (response(b"{}", b"Content-Encoding: gzip, gzip"), "not asked for"),
    ],
)
async def test_a_body_that_cannot_be_decompressed_is_a_failure(reply: bytes, reason: str) -> None:
    with raw_server(once(reply)) as server, pytest.raises(Unavailable, match=f"HTTP 200: .*{reason}"):
        await get(server.url)


async def test_the_body_of_an_error_is_cut_and_its_status_and_headers_count() -> None:
    for body, header in ((b"x" * 3 * LARGEST_BODY, b"X-Y: z"), (b"no gzip", b"Content-Encoding: gzip")):
        with raw_server(once(response(body, header, b"Retry-After: 7", status=b"429 Wait"))) as server:
            answer = await get(server.url)
            assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
            assert len(answer.body) <= LARGEST_BODY


async def test_a17_a_response_that_drips_is_given_up_when_its_time_is_over() -> None:
    dripping = raw_server(after(OK + b"\r\n", b"x", pause=0.01))
    with dripping as server, pytest.raises(Unavailable, match=r"HTTP 200: no complete answer within 0\.3 s"):
        await get(server.url, patience=0.3)


@pytest.mark.parametrize("excess", [b"x" * 2 * LARGEST_BODY, HINT * 100])
async def test_a_connection_with_a_response_over_the_bounds_is_not_used_again(excess: bytes) -> None:
    def script(number: int, send: Send) -> None:
        send((excess if excess.startswith(b"HTTP") else response(excess)) if number == 1 else response(b"{}"))

    with raw_server(script) as server:
        assert await two_requests(server) == [TooLarge, b"{}"]
        assert server.connections == 2


async def test_data_that_no_request_asked_for_closes_the_connection_and_is_nobodys_response() -> None:
    """A second response to one request would be taken for the response to the next: another user's contact."""

    idle, sent = threading.Event(), threading.Event()

    def script(number: int, send: Send) -> None:
        send(response(b"%d" % number))
        if number == 1:
            idle.wait(PATIENCE)
            send(response(b"stray"))
            sent.set()

    async def between() -> None:
        idle.set()
        await asyncio.to_thread(sent.wait, PATIENCE)
        await asyncio.sleep(0)  # for the loop to read what has arrived

    with raw_server(script) as server:
        assert await two_requests(server, between) == [b"1", b"2"]
        assert server.connections == 2


async def test_a_connection_is_used_again_after_a_response_within_the_bounds() -> None:
    with raw_server(once(response(b"x" * LARGEST_BODY))) as server:
        assert await two_requests(server) == [b"x" * LARGEST_BODY] * 2
        assert server.connections == 1


async def nothing() -> None:
    pass


async def two_requests(server: RawServer, between: Callable[[], Awaitable[None]] = nothing) -> list[Any]:
    results: list[Any] = []
    async with open_session() as session:
        sender = Sender("sesamy", server.url, session, timeout=PATIENCE)
        for _ in range(2):
            try:
                results.append((await sender.get()).body)
            except ApiError as error:
                results.append(type(error))
            await between()
    return results
