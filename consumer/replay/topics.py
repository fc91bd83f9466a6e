"""A topic as a source and as a destination of records."""

import asyncio
import heapq
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from functools import partial
from typing import Any, Final, Self

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordTooLargeError

from consumer import kafka
from consumer.failure import Failure
from consumer.records.fetching import Fetched, UndecodableRecord
from consumer.replay.record import NO_TIME, TIMESTAMP_HEADER, Record
from consumer.settings import KafkaSettings

_log = structlog.get_logger("topics")

_BATCH: Final = 128 * 1024
"""Bytes sent to a partition at once. Measured: aiokafka's default of 16 KiB halves the throughput."""

_LARGEST: Final = 64 * 1024 * 1024
"""Bytes of one request; the broker's own bound on a record is the one that counts."""

_FLUSH_SECONDS: Final = 30.0
_QUIET_SECONDS: Final = 20.0
"""So long without a record ends the wait for a partition's end, which an open transaction may hide for ever."""


class TopicSource:
    """Reads what a topic holds now, by time across its partitions and in order within each, outside any group."""

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        *,
        partitions: Collection[int] | None = None,
        since: int | None = None,
        until: int | None = None,
        report: Callable[[str], object] | None = None,
    ) -> None:
        """Read these partitions, or all; records from `since` on and before `until`, by Kafka's timestamp (ms).

        `report` is told at the end if records were skipped because they cannot be decoded; by default that is logged.
        """
        self.total = 0
        self.ends: dict[int, int] = {}
        self._settings = settings
        self._topic = topic
        self._wanted = partitions
        self._since = since
        self._until = until
        self._report = report or (lambda text: _log.error("records.skipped", detail=text))
        self._skipped = 0
        self._first_skipped: UndecodableRecord | None = None
        self._taken = 0
        self._unread: dict[TopicPartition, deque[Fetched]] = {}
        self._ends: dict[TopicPartition, int] = {}

    async def __aenter__(self) -> Self:
        places = await self._places()
        self._consumer = AIOKafkaConsumer(**kafka.reader_arguments(self._settings))
        try:
            await self._consumer.start()
            self._consumer.assign(places)
            starts = await self._consumer.beginning_offsets(places)
            self._ends = await self._consumer.end_offsets(places)
            if self._since is not None:
                found = await self._consumer.offsets_for_times(dict.fromkeys(places, self._since))
                starts = {place: at.offset if (at := found[place]) else self._ends[place] for place in places}
        except (KafkaError, OSError) as error:
            await kafka.stop(self._consumer)
            raise Failure(kafka.explain(self._settings, error)) from error
        for place in places:
            self._consumer.seek(place, starts[place])
        self._unread = {place: deque() for place in places if starts[place] < self._ends[place]}
        self.total = sum(self._ends[place] - starts[place] for place in self._unread)
        self.ends = {place.partition: end for place, end in self._ends.items()}
        return self

    async def __aexit__(self, *_: object) -> None:
        await kafka.stop(self._consumer)
        if (first := self._first_skipped) is not None:
            self._report(
                f"topic {self._topic}: {self._skipped} records that cannot be decoded were skipped, "
                f"the first in partition {first.partition} at offset {first.offset}: {first.reason}"
            )

    @property
    def progress(self) -> float:
        """How much of the source was given out, from 0 to 1."""
        return self._taken / self.total if self.total else 1.0

    async def batches(self) -> AsyncIterator[list[Record]]:
        """Yield all records.

        Raises:
            Failure: Kafka refuses, or a partition's end was not reached in time.
        """
        heard = asyncio.get_running_loop().time()
        while self._unread:
            if empty := [place for place, records in self._unread.items() if not records]:
                now = asyncio.get_running_loop().time()
                if await self._fetch(empty):
                    heard = now
                elif now - heard > _QUIET_SECONDS:
                    raise Failure(
                        f"topic {self._topic}: no record for {_QUIET_SECONDS:g} s before the end of partition "
                        f"{empty[0].partition}; is a transaction open, or a broker away?"
                    )
                continue
            fetched = self._merge()
            self._taken += len(fetched)
            if self._until is not None:
                fetched = [record for record in fetched if record.timestamp < self._until]
            yield [to_record(record) for record in fetched]
            heard = asyncio.get_running_loop().time()  # whoever takes them may be slow on purpose

    async def _places(self) -> list[TopicPartition]:
        count = (await kafka.topic_partitions(self._settings, {self._topic})).get(self._topic)
        if count is None:
            raise Failure(f"topic {self._topic} does not exist")
        numbers = range(count) if self._wanted is None else sorted(self._wanted)
        if missing := [number for number in numbers if number >= count]:
            raise Failure(f"topic {self._topic} has partitions 0 to {count - 1}, no {missing[0]}")
        return [TopicPartition(self._topic, number) for number in numbers]

    async def _fetch(self, places: list[TopicPartition]) -> bool:
        """Read on where nothing is left to give out. Others wait meanwhile, unread: that bounds the memory."""
        try:
            going = [place for place in places if await self._consumer.position(place) < self._ends[place]]
            for ended in set(places).difference(going):
                del self._unread[ended]
            fetched = await self._consumer.getmany(*going, timeout_ms=500) if going else {}
        except (KafkaError, OSError) as error:
            raise Failure(kafka.explain(self._settings, error)) from error
        for place, records in fetched.items():
            for record in records:
                if record.offset >= self._ends[place]:
                    break
                if isinstance(record, UndecodableRecord):
                    self._skipped += record.last_offset - record.offset + 1
                    self._first_skipped = self._first_skipped or record
                else:
                    self._unread[place].append(record)
        return bool(fetched) or len(going) < len(places)

    def _merge(self) -> list[Fetched]:
        """Take records by time until one partition has none left: its next one may be the earliest then."""
        merged: list[Fetched] = []
        heap = [(records[0].timestamp or 0, place) for place, records in self._unread.items()]
        heapq.heapify(heap)
        while True:
            _, place = heapq.heappop(heap)
            records = self._unread[place]
            others = heap[0][0] if heap else math.inf
            while records and (records[0].timestamp or 0) <= others:
                merged.append(records.popleft())
            if not records:
                return merged
            heapq.heappush(heap, (records[0].timestamp or 0, place))


class TopicSink:
    """Appends records to a topic: key and order per key kept, each stored once, none waited for alone.

    The key decides the partition, by the partitioner that all of this program's producers share.
    """

    def __init__(self, settings: KafkaSettings, topic: str, acknowledged: Callable[[float | None], None]) -> None:
        """Append to this topic; `acknowledged` gets each stored record's `due`."""
        self._settings = settings
        self._topic = topic
        self._acknowledged = acknowledged
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        if self._topic not in await kafka.topic_partitions(self._settings, {self._topic}):
            raise Failure(f"topic {self._topic} does not exist; create it first")
        self._producer = AIOKafkaProducer(
            **kafka.producer_arguments(self._settings), max_batch_size=_BATCH, max_request_size=_LARGEST
        )
        try:
            await self._producer.start()
            await self._producer.partitions_for(self._topic)  # else the first record waits for that, or fails on it
        except (KafkaError, OSError) as error:
            await kafka.stop(self._producer)
            raise Failure(kafka.explain(self._settings, error)) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await kafka.stop(self._producer)

    async def put(self, record: Record, due: float | None = None) -> None:
        """Hand a record over. Waits only while too much is on its way.

        Raises:
            Failure: this record, or one before it, cannot be stored.
        """
        if self._failure is not None:
            self._raise(self._failure)
        headers: list[Any] = list(record.headers)
        if record.timestamp != NO_TIME and not any(name == TIMESTAMP_HEADER for name, _ in headers):
            headers.append((TIMESTAMP_HEADER, b"%d" % record.timestamp))
        # aiokafka takes no record without both.
        key = b"" if record.key is None and record.value is None else record.key
        try:
            stored = await self._producer.send(self._topic, record.value, key, headers=headers)
        except (KafkaError, OSError) as error:
            self._raise(error)
        stored.add_done_callback(partial(self._done, due))

    async def flush(self) -> None:
        """Wait until everything is stored. Raises `Failure` when something cannot be."""
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._producer.flush()
        except (KafkaError, OSError) as error:
            self._failure = self._failure or error
        await asyncio.sleep(0)  # callbacks of the last ones
        if self._failure is not None:
            self._raise(self._failure)

    def _done(self, due: float | None, stored: "asyncio.Future[object]") -> None:
        error = asyncio.CancelledError() if stored.cancelled() else stored.exception()
        if error is None:
            self._acknowledged(due)
        else:
            self._failure = self._failure or error

    def _raise(self, error: BaseException) -> None:
        if isinstance(error, MessageSizeTooLargeError | RecordTooLargeError):
            raise Failure(f"topic {self._topic} refuses a record as too large; raise its max.message.bytes") from error
        raise Failure(kafka.explain(self._settings, error)) from error


def to_record(record: Fetched) -> Record:
    """Return a record of a topic as one that can be recorded."""
    return Record(
        key=record.key,
        value=record.value,
        headers=record.headers,
        timestamp=record.timestamp if record.timestamp is not None else NO_TIME,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
    )
