"""What the instances serve on their admin ports, asked for all through a run: nothing of it may be personal (P8)."""

import asyncio
from collections import defaultdict
from typing import Final

import aiohttp

from tests.chaos.group import Group

PATHS: Final = ("/", "/livez", "/readyz", "/status", "/metrics", "/events")
_EVERY: Final = 0.5
_PATIENCE: Final = aiohttp.ClientTimeout(total=1)
"""Seconds for an answer: an instance that is frozen has none."""


class Served:
    """Keeps every answer of every path."""

    def __init__(self, group: Group) -> None:
        self.texts: defaultdict[str, list[str]] = defaultdict(list)
        self._group = group

    async def run(self) -> None:
        """Ask until cancelled."""
        async with aiohttp.ClientSession(timeout=_PATIENCE) as session:
            while True:
                for name in self._group.names:
                    if (port := self._port(name)) is not None:
                        await asyncio.gather(*(self._ask(session, port, path) for path in PATHS))
                await asyncio.sleep(_EVERY)

    def findings(self) -> list[str]:
        """Return which paths never answered, and whether a sentinel was not 0."""
        silent = [f"{path} was never served" for path in PATHS if not self.texts[path]]
        lines = {line for text in self.texts["/metrics"] for line in text.splitlines() if "_violations_total" in line}
        return silent + [f"a sentinel says {line}" for line in lines if line[0] != "#" and float(line.split()[1])]

    def _port(self, name: str) -> int | None:
        listening = self._group[name].events("admin.listening") if name in self._group.names else []
        return listening[0]["port"] if listening else None

    async def _ask(self, session: aiohttp.ClientSession, port: int, path: str) -> None:
        try:
            async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                stream = path == "/events"  # has no end
                text = await (answer.content.readuntil(b"\n\n") if stream else answer.read())
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError):
            return  # killed, frozen or not there yet
        self.texts[path].append(text.decode())
