"""One writer per e-mail address: two users with one address must not write the same contact at once (promise P2)."""

import asyncio


class AddressLocks:
    """A lock per address that exists only while somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[str, _Lock] = {}

    def hold(self, address: str) -> "_Held":
        """Return a context that holds the address; waiters are served in order."""
        return _Held(self._locks, address)


class _Lock(asyncio.Lock):
    users = 0
    """Who holds it or waits for it."""


class _Held:
    def __init__(self, locks: dict[str, _Lock], address: str) -> None:
        self._locks, self._address = locks, address

    async def __aenter__(self) -> None:
        lock = self._locks.setdefault(self._address, _Lock())
        lock.users += 1
        try:
            await lock.acquire()
        except asyncio.CancelledError:
            self._leave(lock)
            raise

    async def __aexit__(self, *_: object) -> None:
        lock = self._locks[self._address]
        lock.release()
        self._leave(lock)

    def _leave(self, lock: _Lock) -> None:
        lock.users -= 1
        if not lock.users:
            del self._locks[self._address]
