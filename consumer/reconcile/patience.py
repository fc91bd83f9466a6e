"""Failures of a long walk over many contacts: whose fault they are, and when to give up."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from consumer.clients.errors import ApiError, Throttled, TooLarge, Unauthorized, UnknownList
from consumer.settings import SyncSettings

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[object]]

_TRIES: Final = 3
"""Times that one contact is tried, each time after all others."""

_IN_A_ROW: Final = 10
"""Failures without a success between them that are not the contacts' fault any more (as for refusals in `run`)."""


def says_no(error: ApiError) -> bool:
    """Tell whether the same request would fail again: refused, or answered with more than is read."""
    return not error.retryable or isinstance(error, TooLarge)


async def patiently(call: Callable[[], Awaitable[T]], retries: SyncSettings, sleep: Sleep = asyncio.sleep) -> T:
    """Make a call that everything after it needs, as often as a sync is tried. Raises the last `ApiError`."""
    attempts = 0
    while True:
        try:
            return await call()
        except ApiError as error:
            attempts += 1
            if says_no(error) or _is_a_setting(error) or attempts >= retries.max_attempts:
                raise
            await sleep(_pause(retries, attempts))


async def each(
    items: Iterable[T],
    do: Callable[[T], Awaitable[None]],
    failed: Callable[[T, ApiError], None],
    retries: SyncSettings,
    sleep: Sleep = asyncio.sleep,
) -> None:
    """Do something for each item, one after the other; what fails is tried again after the others.

    `failed` is told of an item that is given up. Raises `ApiError` for what is nobody's fault alone: credentials, an
    unknown list, ten failures in a row.
    """
    waiting = deque((item, 1) for item in items)
    in_a_row = 0
    while waiting:
        item, tries = waiting.popleft()
        try:
            await do(item)
        except ApiError as error:
            in_a_row += 1
            too_large = error.retryable and says_no(error)
            if _is_a_setting(error):
                raise
            if too_large or tries >= _TRIES:
                failed(item, error)
            else:
                waiting.append((item, tries if isinstance(error, Throttled) else tries + 1))
            if in_a_row >= _IN_A_ROW:
                raise
            if error.retryable and not too_large:
                await sleep(_pause(retries, in_a_row))
        else:
            in_a_row = 0


def _is_a_setting(error: ApiError) -> bool:
    return isinstance(error, Unauthorized | UnknownList)


def _pause(retries: SyncSettings, attempts: int) -> float:
    return min(retries.retry_cap, retries.retry_base * 2.0 ** (attempts - 1))
