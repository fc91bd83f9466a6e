"""Malformed records on their way to the dead-letter topic, beside the polling that found them."""

import asyncio
from collections import deque
from itertools import chain
from typing import Final

from aiokafka import ConsumerRecord
from msgspec import Struct

from consumer.records.fetching import UndecodableRecord
from consumer.stream.dead_letters import DeadLetterError, DeadLetters, Letter
from consumer.stream.flight import Waiting
from consumer.stream.ledger import Ledger

_AT_ONCE: Final = 100
_RETRY_AFTER: Final = 2.0
"""Seconds until a dead-letter topic that refused is tried again."""


class _Malformed(Struct, frozen=True):
    letter: Letter
    event: Waiting
    generation: int
    error: str


class MalformedRecords:
    """Stores them in batches, in order, until stored: their offsets wait, the program does not."""

    def __init__(self, dead_letters: DeadLetters, ledger: Ledger) -> None:
        self.bytes_waiting = 0
        self._dead_letters = dead_letters
        self._ledger = ledger
        self._records: deque[_Malformed] = deque()
        self._batch: list[_Malformed] = []
        self._generation = 0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """Return how many are not stored yet."""
        return len(self._batch) + len(self._records)

    def oldest_arrival(self) -> float | None:
        """Return when the oldest record that is not stored was read; None without one."""
        oldest = next(chain(self._batch, self._records), None)
        return None if oldest is None else oldest.event.arrived_at

    def put(self, record: ConsumerRecord[bytes, bytes], event: Waiting, generation: int, error: str) -> None:
        """Take a record that is no event; `error` says why, without its content."""
        letter = letter_of(record)
        self._generation = generation
        self._records.append(_Malformed(letter, event, generation, error))
        self.bytes_waiting += len(letter.value or b"")
        self._arrived.set()

    async def run(self) -> None:
        """Store what arrives, until cancelled."""
        while True:
            await self._arrived.wait()
            batch = self._batch = [self._records.popleft() for _ in range(min(_AT_ONCE, len(self._records)))]
            self._idle.clear()
            try:
                async with asyncio.TaskGroup() as tasks:
                    stored = [tasks.create_task(self._store(malformed)) for malformed in batch]
            finally:
                self._idle.set()
                self._batch = []
            failed = [malformed for malformed, task in zip(batch, stored, strict=True) if not task.result()]
            if failed and failed[0].generation == self._generation:
                self._records.extendleft(reversed(failed))
                await asyncio.sleep(_RETRY_AFTER)
            if not self._records:
                self._arrived.clear()

    async def settle(self, budget: float) -> None:
        """Begin no more, and wait, for `budget` seconds at the most, until what is being stored is stored."""
        self._arrived.clear()
        try:
            async with asyncio.timeout(budget):
                await self._idle.wait()
        except TimeoutError:
            return

    def drop(self) -> None:
        """Forget what is not stored: the next owner of its partition reads it again."""
        self._records.clear()
        self._batch = []
        self._generation = 0
        self.bytes_waiting = 0

    async def _store(self, malformed: _Malformed) -> bool:
        try:
            await self._dead_letters.store(malformed.letter, "malformed", malformed.error, 0)
        except DeadLetterError:
            return False
        self.bytes_waiting = max(0, self.bytes_waiting - len(malformed.letter.value or b""))
        self._ledger.done(malformed.generation, malformed.event, "dead_lettered")
        return True


def letter_of(record: ConsumerRecord[bytes, bytes]) -> Letter:
    """Return the record as a letter, whole; without its content, of which nothing is known, if it is undecodable."""
    return Letter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=record.headers,
        truncated=isinstance(record, UndecodableRecord),
    )
