"""Connections that never become a request: whoever opens many of them would keep everybody else out."""

import asyncio
from typing import Final

from aiohttp import web

HEAD_SECONDS: Final = 10.0
"""For the head of a connection's first request. The others are bounded by `KEEP_ALIVE_SECONDS`."""

KEEP_ALIVE_SECONDS: Final = 75.0
"""Until the head of a connection's next request."""

_LOOK_EVERY: Final = 1.0


async def cut_the_silent(server: web.Server, heard: set[object]) -> None:
    """Cut every connection of the server that is not among the `heard` in time, until cancelled."""
    now = asyncio.get_running_loop().time
    since: dict[object, float] = {}
    while True:
        connections = server.connections
        heard.intersection_update(connections)
        since = {connection: since.get(connection, now()) for connection in connections if connection not in heard}
        for connection in connections:
            if now() - since.get(connection, now()) >= HEAD_SECONDS and connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(_LOOK_EVERY)
