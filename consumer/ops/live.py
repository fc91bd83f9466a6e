"""The page for people and what keeps it live: server-sent events, made only while somebody looks."""

import asyncio
import base64
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

import orjson
from aiohttp import web

from consumer.printable import printable_values

INTERVAL: Final = 1.0
"""Seconds between events; a status is made once for all who look."""

MOST_VIEWERS: Final = 20
"""Streams at once; whoever comes later has a page that asks for `/status` now and then."""

WRITE_SECONDS: Final = 10.0
"""Until a viewer that receives nothing more is disconnected."""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Page:
    """`GET /`: one file, which loads nothing and may ask nothing but this server."""

    def __init__(self) -> None:
        html = (files("consumer.ops.dashboard") / "index.html").read_text(encoding="utf-8")
        self._body = html.encode()
        self._headers = _HEADERS | {"Content-Security-Policy": content_security_policy(html)}

    async def get(self, _: web.Request) -> web.Response:
        """Answer with the page."""
        return web.Response(body=self._body, content_type="text/html", charset="utf-8", headers=self._headers)


def content_security_policy(html: str) -> str:
    """Return the policy under which exactly the page's own script and style work, and nothing from elsewhere."""

    def digests(tag: str) -> str:
        blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        return " ".join(f"'sha256-{base64.b64encode(sha256(block.encode()).digest()).decode()}'" for block in blocks)

    return (
        f"default-src 'none'; script-src {digests('script')}; style-src {digests('style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class Events:
    """`GET /events`: first the last minutes as `history`, then a `status` a second."""

    def __init__(
        self,
        status: Callable[[], Mapping[str, Any]],
        history: Callable[[], Mapping[str, Any]],
        *,
        most_viewers: int = MOST_VIEWERS,
    ) -> None:
        self._most_viewers = most_viewers
        self._status = status
        self._history = history
        self._viewers = 0
        self._closing = asyncio.Event()
        self._made_at = float("-inf")
        self._made = b""

    async def close(self, _: web.Application) -> None:
        """End all streams: a page that is open somewhere keeps nothing from stopping."""
        self._closing.set()

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Send events until either side ends."""
        if self._viewers >= self._most_viewers or self._closing.is_set():
            return web.Response(status=503, text="too many viewers; ask for /status\n", headers=_HEADERS)
        response = web.StreamResponse(headers=_HEADERS | {"Content-Type": "text/event-stream"})
        self._viewers += 1
        try:
            await response.prepare(request)
            await _write(response, _event("history", orjson.dumps(printable_values(self._history()))))
            while not self._closing.is_set():
                await _write(response, self._event())
                try:
                    async with asyncio.timeout(INTERVAL):
                        await self._closing.wait()
                except TimeoutError:
                    continue
        except ConnectionError:  # the page was closed
            pass
        except TimeoutError:  # its browser reads nothing more
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._viewers -= 1
        return response

    def _event(self) -> bytes:
        now = asyncio.get_running_loop().time()
        if now - self._made_at > INTERVAL / 2:
            self._made_at, self._made = now, _event("status", orjson.dumps(printable_values(self._status())))
        return self._made


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(data)


def _event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
