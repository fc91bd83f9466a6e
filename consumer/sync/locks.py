"""One writer per e-mail address: two users with one address must not write the same contact at once (promise P2)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class AddressLocks:
    """A lock per address that exists only while somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, address: str) -> AsyncIterator[None]:
        """Hold the address; waiters are served in order."""
        lock, users = self._locks.get(address, (asyncio.Lock(), 0))
        self._locks[address] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(address)
            if users > 1:
                self._locks[address] = (lock, users - 1)
