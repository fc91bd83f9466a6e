"""Starts the partitions of an assignment one by one: a partition without a leader delays only itself (promise P5)."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import structlog
from aiokafka.errors import KafkaError
from msgspec import Struct

from consumer.clock import Clock
from consumer.failure import Failure
from consumer.stream.start_offsets import Layout, LogEndBehind, Start

_log = structlog.get_logger("partition_starts")

_RETRY_AFTER: Final = 0.5
_RETRY_CAP: Final = 4.0


class Lookup(Protocol):
    """Where partitions start; see `consumer.stream.start_offsets.StartOffsets`."""

    async def layout(self) -> Layout:
        """Return the topic's leaders and the group's commits."""

    async def find(self, partitions: Iterable[int], layout: Layout) -> dict[int, Start]:
        """Return where these partitions start."""


class WaitingPartition(Struct, frozen=True):
    """An assigned partition that could not be started yet."""

    since: float
    """When it was first tried, unix seconds."""
    reason: str


class PartitionStarts:
    """Finds where each partition starts. One assignment at a time: `begin`, `take` when told, `end`."""

    def __init__(self, lookup: Lookup, *, timeout: float, wall_clock: Clock, counted: Callable[[int], None]) -> None:
        """Look up within `timeout` seconds each time; `counted` is told how many partitions the topic has."""
        self.waiting: dict[int, WaitingPartition] = {}
        """The partitions that do not start, those not tried yet left out."""
        self._lookup = lookup
        self._timeout = timeout
        self._wall_clock = wall_clock
        self._counted = counted
        self._pending: set[int] = set()
        self._found: dict[int, Start] = {}
        self._task: asyncio.Task[None] | None = None

    def begin(self, partitions: Iterable[int], found: Callable[[], None]) -> None:
        """Look for the starts of these partitions in the background; `found` is called when there are some to take."""
        self._pending = set(partitions)
        self._found, self.waiting = {}, {}
        if self._pending:
            self._task = asyncio.create_task(self._run(found), name="partition-starts")

    def reasons(self) -> str:
        """Return for people why partitions wait; empty if none does."""
        return "; ".join(f"partition {partition}: {it.reason}" for partition, it in sorted(self.waiting.items()))

    def take(self) -> dict[int, Start]:
        """Return the starts found since the last call.

        Raises:
            Exception: what ended the search, if it was none of the expected errors.
        """
        if self._task is not None and self._task.done():
            self._task.result()
        found, self._found = self._found, {}
        return found

    async def end(self) -> None:
        """Look no further; what was found and not taken counts for nothing."""
        task, self._task = self._task, None
        self._pending, self._found, self.waiting = set(), {}, {}
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self, found: Callable[[], None]) -> None:
        delay, attempts = _RETRY_AFTER, 0
        while True:
            try:
                async with asyncio.timeout(self._timeout):
                    layout = await self._lookup.layout()
            except (KafkaError, OSError, Failure) as error:
                self._wait(self._pending, f"the group's commits cannot be read ({_name(error)})")
            else:
                self._counted(len(layout.leaders))
                # All of a leader's at once, and one by one when that failed: one of them may be the reason.
                groups = self._by_leader(layout) if not attempts else [{one} for one in self._with_leader(layout)]
                async with asyncio.TaskGroup() as tasks:
                    for group in groups:
                        tasks.create_task(self._find(group, layout, found))
            if not self._pending:
                return
            attempts += 1
            await asyncio.sleep(delay)
            delay = min(delay * 2, _RETRY_CAP)

    def _with_leader(self, layout: Layout) -> list[int]:
        leaderless = {partition for partition in self._pending if layout.leaders.get(partition, -1) < 0}
        self._wait(leaderless, "it has no leader" if layout.leaders else "the topic does not exist")
        return sorted(self._pending - leaderless)

    def _by_leader(self, layout: Layout) -> list[set[int]]:
        groups: dict[int, set[int]] = defaultdict(set)
        for partition in self._with_leader(layout):
            groups[layout.leaders[partition]].add(partition)
        return list(groups.values())

    async def _find(self, group: set[int], layout: Layout, found: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                starts = await self._lookup.find(group, layout)
        except (KafkaError, OSError, LogEndBehind) as error:
            self._wait(group, f"its leader does not tell where it begins ({_name(error)})")
            return
        self._found |= starts
        self._pending -= group
        for partition in group:
            self.waiting.pop(partition, None)
        found()

    def _wait(self, partitions: Iterable[int], reason: str) -> None:
        for partition in partitions:
            known = self.waiting.get(partition)
            if known is None or known.reason != reason:
                _log.warning("partition.waiting", partition=partition, reason=reason)
            self.waiting[partition] = WaitingPartition(known.since if known else self._wall_clock(), reason)


def _name(error: BaseException) -> str:
    return str(error) or type(error).__name__
