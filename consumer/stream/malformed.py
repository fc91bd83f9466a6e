"""Malformed records on their way to the dead-letter topic, beside the polling that found them."""

import asyncio
from collections import deque
from itertools import chain, islice
from typing import Final

import structlog
from aiokafka import ConsumerRecord
from msgspec import Struct

from consumer.records.fetching import UndecodableRecord
from consumer.stream.dead_letters import DeadLetterError, DeadLetters, Letter
from consumer.stream.ledger import Ledger
from consumer.stream.pending import Waiting

_log = structlog.get_logger("malformed")

_AT_ONCE: Final = 100
_BYTES_AT_ONCE: Final = 2 << 20
"""On its way to the broker a record takes several times its size."""

_RETRY_AFTER: Final = 2.0
"""Seconds until a dead-letter topic that refused is tried again."""


class _Malformed(Struct, frozen=True):
    letter: Letter
    event: Waiting
    generation: int
    error: str


class MalformedRecords:
    """Stores them in batches until stored: their offsets wait, the program does not.

    One that the topic refuses is tried again after those that came later, so that it holds back nothing but itself.
    """

    def __init__(self, dead_letters: DeadLetters, ledger: Ledger) -> None:
        self.bytes_waiting = 0
        self._dead_letters = dead_letters
        self._ledger = ledger
        self._records: deque[_Malformed] = deque()
        self._batch: list[_Malformed] = []
        self._refused: deque[tuple[float, _Malformed]] = deque()
        """Those that could not be stored, and when to try again."""
        self._generation = 0
        self._work = asyncio.Event()
        """There is something to store, and it may be stored."""
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """Return how many are not stored yet."""
        return len(self._batch) + len(self._records) + len(self._refused)

    def oldest_arrival(self) -> float | None:
        """Return when the oldest record that is not stored was read; None without one."""
        refused = (malformed for _, malformed in self._refused)
        everything = chain(self._batch, islice(self._records, 1), refused)
        return min((malformed.event.arrived_at for malformed in everything), default=None)

    def put(self, record: ConsumerRecord[bytes, bytes], event: Waiting, generation: int, error: str) -> None:
        """Take a record that is no event; `error` says why, without its content."""
        letter = letter_of(record)
        self._generation = generation
        self._records.append(_Malformed(letter, event, generation, error))
        self.bytes_waiting += letter.size
        self._work.set()
        self._arrived.set()

    async def run(self) -> None:
        """Store what arrives, until cancelled."""
        while True:
            await self._work.wait()
            batch = self._batch = self._next_batch()
            if not batch:
                await self._until_due()
                continue
            self._idle.clear()
            try:
                async with asyncio.TaskGroup() as tasks:
                    stored = [tasks.create_task(self._store(malformed)) for malformed in batch]
            finally:
                self._idle.set()
                self._batch = []
            due = asyncio.get_running_loop().time() + _RETRY_AFTER
            for malformed, task in zip(batch, stored, strict=True):
                if not task.result() and malformed.generation == self._generation:
                    self._refused.append((due, malformed))
            if not (self._records or self._refused):
                self._work.clear()

    def _next_batch(self) -> list[_Malformed]:
        batch: list[_Malformed] = []
        size, now = 0, asyncio.get_running_loop().time()
        while len(batch) < _AT_ONCE and size < _BYTES_AT_ONCE:
            if self._records:
                malformed = self._records.popleft()
            elif self._refused and self._refused[0][0] <= now:
                malformed = self._refused.popleft()[1]
            else:
                break
            batch.append(malformed)
            size += malformed.letter.size
        return batch

    async def _until_due(self) -> None:
        self._arrived.clear()
        try:
            async with asyncio.timeout_at(self._refused[0][0] if self._refused else None):
                await self._arrived.wait()
        except TimeoutError:
            return

    async def settle(self, budget: float) -> None:
        """Begin no more, and wait, for `budget` seconds at the most, until what is being stored is stored."""
        self._work.clear()
        try:
            async with asyncio.timeout(budget):
                await self._idle.wait()
        except TimeoutError:
            return

    def drop(self) -> None:
        """Forget what is not stored: the next owner of its partition reads it again."""
        self._records.clear()
        self._refused.clear()
        self._batch = []
        self._generation = 0
        self.bytes_waiting = 0

    async def _store(self, malformed: _Malformed) -> bool:
        try:
            await self._dead_letters.store(malformed.letter, "malformed", malformed.error, 0)
        except DeadLetterError:
            return False
        except Exception as error:  # noqa: BLE001 - any exception means "not stored": the offset waits
            # Not the text: it may quote a value.
            event = malformed.event
            kind = type(error).__name__
            _log.error("dead_letter.not_stored", partition=event.partition, offset=event.offset, kind=kind)
            return False
        self.bytes_waiting = max(0, self.bytes_waiting - malformed.letter.size)
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
