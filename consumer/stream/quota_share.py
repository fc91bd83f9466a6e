"""This instance's part of the account's quotas: its partitions, divided by those that the topic has (promise P6)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from consumer.failure import Failure

_log = structlog.get_logger("quota_share")

_INTERVAL: Final = 5.0
"""Seconds between two counts of the topic's partitions."""


class QuotaShare:
    """Follows the assignment and the topic.

    A total that is too large wastes some quota, one that is too small exceeds it. So a lower count is believed only
    when it is seen twice in a row (a broker's metadata may lag), and an assignment has no share before a first count.
    """

    def __init__(
        self, count: Callable[[], Awaitable[int]], changed: Callable[[float], None], *, timeout: float
    ) -> None:
        """Follow the topic that `count` counts the partitions of, in `timeout` seconds; `changed` is told the share."""
        self._count = count
        self._changed = changed
        self._timeout = timeout
        self._assigned: frozenset[int] = frozenset()
        self._known: Callable[[], int] = int
        self._counts = (0, 0)
        self._share = 0.0

    def assign(self, partitions: frozenset[int], known: Callable[[], int]) -> None:
        """Begin an assignment; `known` returns how many partitions the consumer knows, which may lag, too."""
        self._assigned, self._known, self._counts = partitions, known, (0, 0)
        self._apply()

    def release(self) -> None:
        """End the assignment: from now on the share is 0."""
        self.assign(frozenset(), int)

    def counted(self, total: int) -> None:
        """Take a fresh count of the topic's partitions; 0 is none."""
        if total:
            self._counts = (self._counts[1], total)
            self._apply()

    async def run(self) -> None:
        """Count the partitions again and again, until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL)
            if not self._assigned:
                continue
            try:
                async with asyncio.timeout(self._timeout):
                    total = await self._count()
            except (KafkaError, OSError, Failure) as error:
                _log.warning("topic.not_counted", error=repr(error))
            else:
                self.counted(total)

    def _apply(self) -> None:
        share = 0.0
        if self._assigned and any(self._counts):
            share = len(self._assigned) / max(*self._counts, self._known(), max(self._assigned) + 1)
        if share != self._share:
            self._share = share
            self._changed(share)
