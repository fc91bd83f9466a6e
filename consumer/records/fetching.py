"""What aiokafka's fetcher uses instead of its own decoder, in every consumer of this process.

aiokafka 0.14 offers no setting for it, so `install` puts classes of ours in the place of three names of its module
`aiokafka.consumer.fetcher`. They keep to what the fetcher does with them; everything of aiokafka's internals that the
program relies on for decoding is named in this module and in `batches.py`. `pyproject.toml` therefore has an upper
bound for aiokafka, and `tests/unit/records/test_fetching.py` fails where a new version differs.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, TypeAlias

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult

from consumer.records.batches import Batch, split
from consumer.records.reader import Record, Undecodable

_BYTES: Final = 2 << 20
"""Decompressed bytes of a partition that one poll returns, or one batch decoded at once: bounds what a poll holds."""

_NO_TIME: Final = -1

Fetched: TypeAlias = ConsumerRecord[bytes, bytes]


@dataclass
class UndecodableRecord(ConsumerRecord[bytes, bytes]):
    """Stands where records cannot be decoded: it has neither key nor value nor headers, and is no event.

    Every reader of a topic must tell it from a record, as `isinstance` does: it would look like a tombstone.
    """

    last_offset: int = -1
    """The last offset that it stands for; `offset` is the first."""
    error: str = ""

    @property
    def reason(self) -> str:
        """Why, for people."""
        if self.last_offset == self.offset:
            return f"the record cannot be decoded: {self.error}"
        return f"the batch with offsets {self.offset} to {self.last_offset} cannot be decoded: {self.error}"


def install() -> None:
    """Have every consumer of this process decode with this module. May be called again."""
    for name, replacement in (("MemoryRecords", _Answer), ("PartitionRecords", _Records), ("FetchResult", _Result)):
        setattr(fetcher, name, replacement)


def decodable(batches: Mapping[TopicPartition, Sequence[Fetched]]) -> Iterator[Fetched]:
    """Yield the records of a poll that could be decoded, for readers whom the others do not concern."""
    for batch in batches.values():
        yield from (record for record in batch if not isinstance(record, UndecodableRecord))


class _Answer:
    """A partition's records as the broker returned them. In the place of `MemoryRecords`."""

    def __init__(self, data: bytes | None) -> None:
        self.data = data or b""

    def has_next(self) -> bool:
        return bool(self.data)

    def size_in_bytes(self) -> int:
        return len(self.data)


class _Records:
    """Yields what can be decoded, and what cannot as `UndecodableRecord`; None when it takes a while.

    In the place of `PartitionRecords`.
    """

    def __init__(
        self,
        place: TopicPartition,
        answer: _Answer,
        aborted: Sequence[tuple[int, int]] | None,
        fetch_offset: int,
        _key_deserializer: None,
        _value_deserializer: None,
        _check_crcs: bool,  # noqa: FBT001 - as the fetcher calls it
        isolation_level: int,
    ) -> None:
        # Apart from the iterator, which else would be part of a cycle: what is paused is thrown away half read, and
        # megabytes would wait for the garbage collector.
        self._reading = _Reading(place, fetch_offset, aborted if isolation_level == READ_COMMITTED else None)
        self._iterator = self._reading.records(answer.data)

    @property
    def next_fetch_offset(self) -> int:
        """Where reading goes on after what was yielded until now."""
        return self._reading.next_fetch_offset

    @property
    def decompressed(self) -> int:
        """Bytes of records that were decompressed until now."""
        return self._reading.decompressed

    def __iter__(self) -> Iterator[Fetched | None]:
        return self._iterator

    def __next__(self) -> Fetched | None:
        return next(self._iterator)


class _Reading:
    """How far the records of an answer are read, and which of them a transaction took back."""

    def __init__(self, place: TopicPartition, fetch_offset: int, aborted: Sequence[tuple[int, int]] | None) -> None:
        self.next_fetch_offset = fetch_offset
        self.decompressed = 0
        self._place = place
        self._aborted = deque(sorted(aborted or (), key=itemgetter(1)))
        self._aborting: set[int] = set()
        """Producers whose transaction is one that was aborted."""

    def records(self, data: bytes) -> Iterator[Fetched | None]:
        for batch in split(data):
            if batch.damage or not (self._is_aborted(batch) or batch.is_control):
                yield from self._of(batch)
            # Of a batch in format 2 this may lie beyond its last record, which compaction removed.
            self.next_fetch_offset = max(self.next_fetch_offset, batch.last_offset + 1)

    def _is_aborted(self, batch: Batch) -> bool:
        while self._aborted and self._aborted[0][1] <= batch.base_offset:
            self._aborting.add(self._aborted.popleft()[0])
        if batch.is_control:
            self._aborting.discard(batch.producer_id)  # the marker that ends the transaction
        return batch.is_transactional and batch.producer_id in self._aborting

    def _of(self, batch: Batch) -> Iterator[Fetched | None]:
        before = self.decompressed
        for record in batch.records(self.next_fetch_offset):
            self.decompressed = before + batch.decompressed
            if record is None:
                yield None
            elif isinstance(record, Undecodable):
                self.next_fetch_offset = record.last_offset + 1
                yield _undecodable(self._place, record)
            else:
                self.next_fetch_offset = record.offset + 1
                yield _fetched(self._place, record)


class _Result(FetchResult):
    """Hands records over. Unlike aiokafka's it stops at a number of bytes, too."""

    def getall(self, max_records: int | None = None) -> list[Fetched]:
        place = self._topic_partition
        if not self.check_assignment(place) or self._partition_records is None:  # type: ignore[no-untyped-call]
            return []
        records = self._partition_records
        found: list[Fetched] = []
        begin = records.decompressed
        for record in records:
            if record is not None:
                found.append(record)
            if record is None or len(found) == max_records or records.decompressed - begin >= _BYTES:
                self._update_position()  # type: ignore[no-untyped-call]
                return found
        self._update_position()  # type: ignore[no-untyped-call]
        self._partition_records = None
        return found

    def getone(self) -> Fetched | None:
        while self._partition_records is not None:
            if found := self.getall(1):
                return found[0]
        return None


def _fetched(place: TopicPartition, record: Record) -> Fetched:
    key, value = record.key, record.value
    return ConsumerRecord(
        place.topic,
        place.partition,
        record.offset,
        record.timestamp,  # type: ignore[arg-type] # the annotation leaves out format 0
        record.timestamp_type,  # type: ignore[arg-type]
        key,
        value,
        record.checksum,
        -1 if key is None else len(key),
        -1 if value is None else len(value),
        tuple(record.headers),  # type: ignore[arg-type] # and headers without a value
    )


def _undecodable(place: TopicPartition, found: Undecodable) -> UndecodableRecord:
    return UndecodableRecord(
        place.topic,
        place.partition,
        found.offset,
        _NO_TIME,
        0,
        None,
        None,
        None,
        -1,
        -1,
        (),
        last_offset=found.last_offset,
        error=found.error,
    )
