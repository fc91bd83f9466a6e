"""The events of a load test: invented, or recorded before, and what a right program does with each."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import orjson

from consumer.loadtest.plan import LoadPlan
from consumer.replay import pace
from consumer.replay.files import FileSink, FileSource
from consumer.replay.pace import Pacer
from consumer.replay.record import Record
from consumer.replay.run import Replay
from consumer.replay.topics import TopicSource
from consumer.sandbox.population import ORDINARY, USERS, Seed, seed_of
from consumer.settings import Settings
from schemas.events import STANDARD_EVENT_TYPES, SYNC_REQUEST, MalformedEvent, decode_event

_BATCH: Final = 500
_LINE_ENDS: Final = frozenset("\r\n")
_KNOWN: Final = frozenset({*STANDARD_EVENT_TYPES, SYNC_REQUEST})


class Invented:
    """A source of invented events, the same for the same plan but for their times."""

    def __init__(self, plan: LoadPlan, vendor_id: str) -> None:
        """Invent the plan's events, of this vendor."""
        self._plan = plan
        self._vendor_id = vendor_id
        self._given = 0

    @property
    def progress(self) -> float:
        """How much of it was given out, from 0 to 1."""
        return self._given / self._plan.events

    async def batches(self) -> AsyncIterator[list[Record]]:
        """Yield all events."""
        numbers, types = self._numbers(), random.Random(self._plan.seed)  # noqa: S311 - a load, no secrets
        while self._given < self._plan.events:
            length = min(_BATCH, self._plan.events - self._given)
            batch = [self._event(next(numbers), types.choice(STANDARD_EVENT_TYPES)) for _ in range(length)]
            self._given += length
            yield batch
            await asyncio.sleep(0)

    def _numbers(self) -> Iterator[int]:
        plan, dice = self._plan, random.Random(self._plan.seed + 1)  # noqa: S311 - as above
        if plan.zipf is None:
            while True:
                yield dice.randrange(plan.users)
        weights = list(accumulate(rank**-plan.zipf for rank in range(1, plan.users + 1)))
        users = range(plan.users)
        while True:
            yield from dice.choices(users, cum_weights=weights, k=_BATCH)

    def _event(self, number: int, event_type: str) -> Record:
        user_id = seed_of(self._plan.seed, number, kinds(self._plan)).user_id
        value = {
            "eventType": event_type,
            "vendorId": self._vendor_id,
            "userId": user_id,
            "occured_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        return Record(key=user_id.encode(), value=orjson.dumps(value))


def kinds(plan: LoadPlan) -> tuple[str, ...]:
    """Return the kinds of users that the sandbox has; recorded users are such that a sync writes their contact."""
    return ORDINARY if plan.ordinary or plan.source else USERS


def people(plan: LoadPlan, ids: Sequence[str]) -> dict[str, Seed]:
    """Return the sandbox's users by id: those of a recording, or the plan's invented ones."""
    count = len(ids) if plan.source else plan.users
    seeds = (
        seed_of(plan.seed, number, kinds(plan), given_id=ids[number] if plan.source else "") for number in range(count)
    )
    return {seed.user_id: seed for seed in seeds}


async def record_topic(settings: Settings, topic: str, path: Path, limit: int) -> None:
    """Write what a topic holds now into a file: the replay then reads a disk, and the real topic's brokers rest.

    Raises:
        Failure: the topic does not exist, or cannot be read.
    """
    pacer = Pacer(pace.at_once, time.monotonic)
    source, sink = TopicSource(settings.kafka, topic), FileSink(path, pacer.acknowledged)
    async with source, sink:
        await Replay(source, sink, pacer, limit=limit or None).run(whole)


async def whole(work: Coroutine[Any, Any, None]) -> bool:
    """Do the work of a replay that nobody but a cancellation interrupts."""
    await work
    return True


class Expectation:
    """What the contract says of a record (`docs/contract.md`, the topic), with the instances' settings."""

    def __init__(self, settings: Settings) -> None:
        self._pointer = settings.kafka.value_pointer or ""
        self._vendor_id = settings.sesamy.vendor_id
        self._guests = settings.sync.guest_prefixes

    def of(self, record: Record) -> tuple[str | None, str]:
        """Return the user to be synced and "", or None and the outcome of a record that asks for no sync."""
        if record.value is None:
            return None, "skipped_tombstone"
        try:
            event = decode_event(record.value, self._pointer)
        except MalformedEvent:
            return None, "dead_lettered"
        if event.event_type not in _KNOWN:
            return None, "skipped_type"
        if self._vendor_id is not None and event.vendor_id != self._vendor_id:
            return None, "skipped_vendor"
        if event.user_id.startswith(self._guests):
            return None, "skipped_guest"
        return event.user_id, ""


async def user_ids(path: Path, expectation: Expectation, limit: int) -> list[str]:
    """Return the users of a file whom its events, at most `limit` (0: all), ask to sync, as they first occur.

    One whose id has more than one line is left out: the sandbox takes a list with an id a line, and knows no such user.
    """
    found: dict[str, None] = {}
    read = 0
    async with FileSource(path) as source:
        async for batch in source.batches():
            for record in batch[: limit - read] if limit else batch:
                user_id, _ = expectation.of(record)
                if user_id is not None and _LINE_ENDS.isdisjoint(user_id):
                    found[user_id] = None
            read += len(batch)
            if limit and read >= limit:
                break
    return list(found)
