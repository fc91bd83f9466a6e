"""The connections of a process: one session, and how long requests may take on it."""

import math
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

import aiohttp

from consumer.clients.bounds import BoundedResponse

READ_TIMEOUT: Final = 10.0
"""Seconds for a request, from obtaining its connection to the end of its response, unless the caller sets another."""

WRITE_TIMEOUT: Final = 5.0
"""The same for an API that is written to: a process that lost its partitions may still land a write this long (P2)."""

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for a new connection: address, TCP, proxy and TLS."""


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
        # The whole request is bounded by `HttpClient`. aiohttp would round 5 s and more up to a whole second.
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout, ceil_threshold=math.inf),
    )
    # aiohttp 3.14 sends GET, PUT and DELETE once more by itself when the connection breaks: past every quota, and with
    # nobody knowing. It has no public switch for that; a test over a real socket notices when this one goes.
    session._retry_connection = False  # noqa: SLF001 - see above
    async with session:
        yield session
