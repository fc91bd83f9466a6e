"""Reads records again: what waits for a user is an offset, and a dead letter needs the whole record."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from consumer import kafka
from consumer.records.fetching import Fetched, UndecodableRecord
from consumer.stream.dead_letters import DeadLetterError, Letter
from consumer.stream.malformed import letter_of
from consumer.stream.pending import Waiting

_log = structlog.get_logger("record_lookup")

_TIMEOUT: Final = 5.0
"""Seconds for the lookups of one round."""

_POLL_MS: Final = 200
_LOG_EVERY: Final = 60.0

Place = tuple[int, int]


class RecordLookup:
    """Looks records up with one consumer that is in no group and stays connected.

    All lookups that wait are one round: for each partition the first record that is wanted, all partitions at once.
    A record that cannot be read, as of a partition without a leader, costs the others of its round no more than time.
    """

    def __init__(self, topic: str, connect: Callable[[], Awaitable[AIOKafkaConsumer]]) -> None:
        """Read from this topic; `connect` gives a new consumer without a group, started."""
        self._topic = topic
        self._connect = connect
        self._consumer: AIOKafkaConsumer | None = None
        self._turn = asyncio.Lock()
        self._wanted: dict[Place, asyncio.Future[Letter]] = {}
        self._logged_at = float("-inf")

    async def letter(self, event: Waiting) -> Letter:
        """Return the event's record; without its content if the log no longer holds it.

        Raises:
            DeadLetterError: it cannot be read now.
        """
        place = (event.partition, event.offset)
        found = self._wanted.get(place)
        if found is None:
            found = self._wanted[place] = asyncio.get_running_loop().create_future()
        while not found.done():
            async with self._turn:  # whoever gets here first does the round for all that wait
                if not found.done():
                    await self._round()
        return found.result()

    async def close(self) -> None:
        """Disconnect."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await kafka.stop(consumer)

    async def _round(self) -> None:
        wanted: dict[TopicPartition, int] = {}
        for partition, offset in self._wanted:
            at = TopicPartition(self._topic, partition)
            wanted[at] = min(offset, wanted.get(at, offset))
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._read(wanted)
        except Exception as error:  # noqa: BLE001 - whatever it is, these records could not be read
            # The reader may be what is broken: the next round has a new one.
            await self.close()
            self._fail(wanted, error)

    async def _read(self, wanted: dict[TopicPartition, int]) -> None:
        consumer = self._consumer
        if consumer is None:
            consumer = self._consumer = await self._connect()
        if consumer.assignment() != set(wanted):
            consumer.assign(list(wanted))
        for place, offset in wanted.items():
            consumer.seek(place, offset)
        left = dict(wanted)
        while left:
            for place, records in (await consumer.getmany(*left, timeout_ms=_POLL_MS, max_records=len(left))).items():
                if records:
                    self._found(place, left.pop(place), records[0])
            for place, offset in list(left.items()):
                # The start of the log has passed it, and aiokafka has moved there.
                if await consumer.position(place) > offset:
                    self._found(place, left.pop(place), None)

    def _found(self, place: TopicPartition, offset: int, record: Fetched | None) -> None:
        found = self._wanted.pop((place.partition, offset))
        if record is not None and record.offset == offset and not isinstance(record, UndecodableRecord):
            found.set_result(letter_of(record))
            return
        gone = Letter(topic=self._topic, partition=place.partition, offset=offset, key=None, value=None, truncated=True)
        found.set_result(gone)

    def _fail(self, wanted: dict[TopicPartition, int], error: Exception) -> None:
        failed = [(at.partition, offset) for at, offset in wanted.items() if (at.partition, offset) in self._wanted]
        now = asyncio.get_running_loop().time()
        if failed and now - self._logged_at >= _LOG_EVERY:
            self._logged_at = now
            partition, offset = failed[0]
            _log.error("record_lookup.failed", partition=partition, offset=offset, error=repr(error))
        for place in failed:
            found = self._wanted.pop(place)
            found.set_exception(DeadLetterError("cannot read the record again"))
            found.exception()  # heard, also where nobody waits any more
