"""All of Sesamy's users, in as few calls as the API allows."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, Protocol

from msgspec import Struct

from consumer.clients.errors import ApiError, Rejected, TooLarge, Unauthorized, Unavailable
from consumer.clients.sesamy import ListedUser
from consumer.settings import SyncSettings
from schemas.decoding import Page

_LIMITS: Final = (1000, 100)
"""Users to ask for at a time; the second when the API refuses the first or its answer is too large."""


class Listing(Protocol):
    """Where users are listed."""

    async def users(self, offset: int, limit: int) -> Page[ListedUser]:
        """Return users from `offset` on. Raises `ApiError`."""


class Users(Struct, frozen=True):
    """Some users in a row; `offset` is the number of those before them."""

    offset: int
    users: Sequence[ListedUser]
    total: int | None


class UserPages:
    """Follows the pages until there is nothing more, whatever the API says of its lists.

    Users come and go while a long list is read, so its total may change from page to page; what counts is that of the
    last one.
    """

    def __init__(
        self, listing: Listing, retries: SyncSettings, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        """Ask again as patiently as a sync does (`sync.max_attempts`, `.retry_base`, `.retry_cap`)."""
        self._listing = listing
        self._retries = retries
        self._sleep = sleep
        self._limit = _LIMITS[0]
        self._longest = 0

    async def after(self, offset: int) -> AsyncIterator[Users]:
        """Yield all users but the first `offset`. Raises `ApiError` when a page cannot be had."""
        before = None
        while True:
            page = await self._page(offset)
            if not page.items:
                return
            if page.items == before:
                raise Unavailable("sesamy", "list_users", 200, "pages repeat: the API ignores the offset")
            yield Users(offset, page.items, page.total)
            count, before = len(page.items), page.items
            offset += count
            self._longest = max(self._longest, count)
            # Without a total a page shorter than asked for may be one that the API cut: only a page shorter than
            # another is the last. More than asked for is all there is.
            if count > self._limit or (
                count < self._longest and not page.more if page.total is None else offset >= page.total
            ):
                return

    async def _page(self, offset: int) -> Page[ListedUser]:
        attempts = 0
        while True:
            try:
                return await self._listing.users(offset, self._limit)
            except (Rejected, TooLarge):
                if self._limit == _LIMITS[-1]:
                    raise
                self._limit, self._longest = _LIMITS[-1], 0
            except ApiError as error:
                attempts += 1
                if isinstance(error, Unauthorized) or attempts >= self._retries.max_attempts:
                    raise
                await self._sleep(min(self._retries.retry_cap, self._retries.retry_base * 2 ** (attempts - 1)))
