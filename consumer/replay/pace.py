"""When each record is due, and how late it was: a slow destination shows, it does not slow the schedule."""

import asyncio
from collections.abc import Awaitable, Callable

from consumer.clock import Clock
from consumer.replay.record import NO_TIME, Record

Due = Callable[[Record], float | None]
"""Seconds after the start at which the next record is due; None is at once. Called once for each, in order."""


def at_once(_record: Record) -> None:
    """Due when it is its turn: flat out."""


def at_rate(per_second: float) -> Due:
    """So many a second, evenly."""
    count = 0

    def due(_record: Record) -> float:
        nonlocal count
        count += 1
        return (count - 1) / per_second

    return due


def at_speed(factor: float) -> Due:
    """As far apart as they were recorded, divided by the factor. One without a time is due with the one before it."""
    first: int | None = None
    latest = 0

    def due(record: Record) -> float:
        nonlocal first, latest
        if record.timestamp != NO_TIME:
            first = record.timestamp if first is None else first
            latest = max(latest, record.timestamp)
        return 0.0 if first is None else (latest - first) / 1000 / factor

    return due


class Pacer:
    """Holds each record until it is due, and takes note of how late it was stored."""

    def __init__(self, due: Due, clock: Clock, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self.stored = 0
        self.next_due: float | None = None
        """When the record is due that is being waited for; None while none is."""
        self.most = 0.0
        """Seconds that the latest of all was late."""
        self.paced = due is not at_once
        self._latest = 0.0
        self._unstored_since = 0.0
        """When a record was due that is not stored yet, or the last that is."""
        self._given_out = 0
        self._due = due
        self._clock = clock
        self._sleep = sleep
        self._start = clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    @property
    def late(self) -> float:
        """Seconds that the last stored record was late; longer while others wait to be stored."""
        if self._given_out > self.stored:
            return max(self._latest, self.elapsed - self._unstored_since)
        return self._latest

    async def wait(self, record: Record) -> float | None:
        """Wait until the record is due and return when that was; None when it is due at once."""
        due = self._due(record)
        if due is None:
            return None
        if self.stored == 0 and due == 0:
            self._start = self._clock()  # connecting does not count
        if (early := due - self.elapsed) > 0:
            self.next_due = due
            await self._sleep(early)
            self.next_due = None
        if self._given_out == self.stored:
            self._unstored_since = due
        self._given_out += 1
        return due

    def acknowledged(self, due: float | None) -> None:
        """Take note that a record with this due time is stored."""
        self.stored += 1
        if due is not None:
            self._unstored_since = max(self._unstored_since, due)
            self._latest = self.elapsed - due
            self.most = max(self.most, self._latest)
