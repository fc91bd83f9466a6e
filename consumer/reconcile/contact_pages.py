"""One of Mailmojo's lists of contacts, read to its end as far as the API lets.

`docs/reference/mailmojo.md` knows `limit` alone. Unknown: whether an `offset` is taken, ignored or refused; how many
come at most; in which order. So each page is asked for from a few contacts before the end of the last one: when those
come again, the offset counts contacts and the order held, and nothing can have been missed between the pages.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from consumer.clients.errors import Rejected, TooLarge, Unavailable
from consumer.mapping.person import normalised
from schemas.decoding import Page

Item = dict[str, Any]
Fetch = Callable[[int, int], Awaitable[Page[Item]]]
"""Returns the contacts for a limit and an offset. Raises `ApiError`."""

_LIMITS: Final = (500, 100)
"""Contacts to ask for at a time; the second when the first is refused, or too large an answer."""

_OVERLAP: Final = 10
"""Contacts of a page that are asked for again with the next: so many may leave the list between the two."""

_ROUND: Final = 10
"""A bound of the API's own is a multiple of this (assumption)."""


class ContactPages:
    """Reads one list, once."""

    def __init__(self, fetch: Fetch, limits: Sequence[int] = _LIMITS, operation: str = "list_subscribers") -> None:
        """Ask for the first of `limits`, as the API takes them; `operation` is the call's name in errors."""
        self._fetch = fetch
        self._limits = list(limits)
        self._operation = operation
        self._seen: set[int] = set()
        self._total: int | None = None
        self._more = False
        self.cut: str | None = None
        """Why there may be more than what was read; None when that was everything."""

    async def all(self) -> AsyncIterator[list[Item]]:
        """Yield each contact once.

        Raises:
            ApiError: a page cannot be had, or the list ends before the total that the API names.
        """
        page = await self._first()
        count = position = longest = len(page)
        # An offset that is ignored brings these again, even when some of them left the list meanwhile.
        beginning = {_key(item) for item in page[: max(1, position // 4)]}
        yield self._fresh(page)
        while page:
            overlap = min(_OVERLAP, longest // 2)
            try:
                page = await self._page(self._limits[0], position - overlap)
                keys = {_key(item) for item in page}
            except Rejected:
                keys = beginning  # as good as an offset that is ignored
            if keys & beginning:
                if position > count:
                    self.cut = f"Mailmojo lists no more than the first {position:,}"
                    return
                async for more in self._by_limit(count):
                    yield more
                return
            if overlap and self._seen.isdisjoint(keys) and (keys or self._total is None):
                self.cut = "the list changed while it was read, or has no order"
            position, longest = position - overlap + len(page), max(longest, len(page))
            fresh = self._fresh(page)
            if not fresh:
                break
            yield fresh
        self._check_total()

    async def _page(self, limit: int, offset: int) -> Sequence[Item]:
        page = await self._fetch(limit, offset)
        if page.total is not None:
            self._total = page.total
        self._more = page.more
        return page.items

    def _check_total(self) -> None:
        """Refuse a list that ends early. One that changed while it was read cannot be compared with its total."""
        missing = 0 if self._total is None else self._total - len(self._seen)
        if missing > 0 and self.cut is None:
            raise Unavailable(
                "mailmojo", self._operation, 200, f"the list ends after {len(self._seen)} of {self._total} contacts"
            )

    async def _first(self) -> Sequence[Item]:
        while True:
            try:
                return await self._page(self._limits[0], 0)
            except (Rejected, TooLarge):
                if len(self._limits) == 1:
                    raise
                del self._limits[0]

    async def _by_limit(self, count: int) -> AsyncIterator[list[Item]]:
        """Without an offset a longer list takes a larger limit, as long as that brings more."""
        limit = self._limits[0]
        while count >= limit:
            limit *= 4
            try:
                page = await self._page(limit, 0)
            except (Rejected, TooLarge):
                page = []
            if len(page) <= count:
                break
            count = len(page)
            yield self._fresh(page)
        if self._total is not None:
            if self._total > len(self._seen):
                self.cut = f"Mailmojo lists {len(self._seen):,} of {self._total:,} and takes no offset"
        elif self._more or count % _ROUND == 0:
            self.cut = f"Mailmojo lists {count:,} at a time and takes no offset, so there may be more"

    def _fresh(self, page: Sequence[Item]) -> list[Item]:
        fresh = []
        for item in page:
            if (key := _key(item)) not in self._seen:
                self._seen.add(key)
                fresh.append(item)
        return fresh


def _key(item: Item) -> int:
    email = item.get("email")
    return hash(normalised(email) if isinstance(email, str) else repr(item))
