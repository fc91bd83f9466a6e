"""Lists of both APIs: what one page of an answer holds, and how a whole list is read.

Every reader of a list comes through `read_page`: a page that is null, reports an error, or does not go with its total
is a failure of the call, never an empty list. Between pages a list may change, so one whose total changes, or is
reached only with entries that came before, is read once more from its beginning.
"""

import re
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, TypeVar

from consumer.clients.errors import Unavailable
from consumer.clients.http import Answer
from consumer.clients.transport import Turn
from schemas.decoding import Contradiction, Page, decode_page

T = TypeVar("T")

_NOT_WHOLE: Final = {202: "no answer yet", 206: "a part of the answer, which was not asked for", 207: "many answers"}
"""What statuses below 300 say of a read, other than that this is it."""

_NEXT: Final = re.compile(r""";\s*rel\s*=\s*["']?[^"',;]*\bnext\b""", re.IGNORECASE)
"""In a `Link` header (RFC 8288): there is a next page."""

_WALKS: Final = 3
"""Times that a list is begun which changes while it is read."""


class _ListChangedError(Exception):
    """What was read so far and the next page do not belong to one state of the list."""


def read(turn: Turn, operation: str, answer: Answer, decode: Callable[[bytes], T]) -> T:
    """Return what the answer's body holds, and tell the turn's guard that it was as expected.

    Raises:
        Unavailable: the body cannot be read, or contradicts itself.
    """
    api = turn.api
    if answer.status in _NOT_WHOLE:
        raise Unavailable(api, operation, answer.status, _NOT_WHOLE[answer.status])
    try:
        found = decode(answer.body)
    except Contradiction as error:
        raise Unavailable(api, operation, answer.status, f"an answer that contradicts itself: {error}") from None
    except ValueError as error:  # msgspec's errors name the place, never the value
        raise Unavailable(api, operation, answer.status, f"an unreadable answer: {error}") from None
    turn.answered(operation, answer)
    return found


def read_page(
    turn: Turn,
    operation: str,
    answer: Answer,
    kind: type[T],
    *names: str,
    offset: int | None = 0,
    check: Callable[[T], None] = lambda _: None,
) -> Page[T]:
    """Return the page in the answer, which may be wrapped in one of `names`; see `schemas.decoding.decode_page`.

    `check` looks at each item and raises `Contradiction` for one that cannot be on the list.
    """

    def decode(body: bytes) -> Page[T]:
        totals = answer.headers.getall("X-Total-Count", ())
        more = any(_NEXT.search(link) for link in answer.headers.getall("Link", ()))
        page = decode_page(body, kind, *names, offset=offset, totals=totals, more=more)
        for item in page.items:
            check(item)
        return page

    return read(turn, operation, answer, decode)


async def read_whole(
    turn: Turn,
    operation: str,
    fetch: Callable[[int], Awaitable[tuple[Page[T], int | None]]],
    key: Callable[[T], Hashable],
) -> list[T]:
    """Read a whole list.

    Args:
        turn: the turn that `fetch` uses.
        operation: the call's name.
        fetch: returns the page from an offset on, and how many items it was asked for, None for all.
        key: tells one item from another.

    Raises:
        ApiError: a page cannot be had, or the pages do not make one list.
    """
    for _ in range(_WALKS):
        try:
            return await _walk(turn, operation, fetch, key)
        except _ListChangedError:
            continue
    raise Unavailable(turn.api, operation, 200, f"the list changed while it was read, {_WALKS} times")


async def _walk(
    turn: Turn,
    operation: str,
    fetch: Callable[[int], Awaitable[tuple[Page[T], int | None]]],
    key: Callable[[T], Hashable],
) -> list[T]:
    found: list[T] = []
    seen: set[Hashable] = set()
    offset = 0
    total: int | None = None
    while True:
        page, asked = await fetch(offset)
        if None not in {total, page.total} and page.total != total:
            raise _ListChangedError
        total = page.total if total is None else total
        fresh = [item for item in page.items if key(item) not in seen]
        if page.items and not fresh:
            raise Unavailable(turn.api, operation, 200, "pages repeat: the API ignores the offset")
        found += fresh
        seen.update(map(key, fresh))
        offset += len(page.items)
        if total is not None and offset < total and not page.items:
            raise Unavailable(turn.api, operation, 200, f"the list ends after {offset} of {total} items")
        if _is_last(page, offset, asked, total):
            if total is not None and len(found) < total:  # entries came again, so others were passed over
                raise _ListChangedError
            return found


def _is_last(page: Page[T], received: int, asked: int | None, total: int | None) -> bool:
    if total is not None:
        return received >= total  # a short page may be one that the API cut
    if page.more and page.items:
        return False
    # More than was asked for: the API does not page, and this was all.
    return not page.items or asked is None or len(page.items) != asked
