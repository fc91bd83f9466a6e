"""One partition's log: record batches as bytes, with the gaps that retention, compaction and transactions leave."""

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from msgspec import Struct

from consumer.records.reader import HEADER

_UNLIMITED: Final = 1 << 30
_CONTROL: Final = 0x20
_TRANSACTIONAL: Final = 0x10
_ATTRIBUTES_AT, _LAST_DELTA_AT, _CRC_AT, _CRC_FROM = 21, 23, 17, 21

Headers = Sequence[tuple[str, bytes | None]]


class NewRecord(Struct, frozen=True):
    """What a producer appends."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class StoredRecord(Struct, frozen=True):
    """A record as it lies in the log."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class _Batch(Struct, frozen=True):
    base: int
    last: int
    data: bytes
    producer_id: int
    is_transactional: bool
    is_control: bool


class Fetched(Struct, frozen=True):
    """What a fetch at some position gets."""

    data: bytes
    aborted: list[tuple[int, int]]


class PartitionLog:
    """A log whose offsets only grow. Everything in it is replicated at once: the high watermark is its end."""

    def __init__(self) -> None:
        self.start = 0
        self.end = 0
        self.changed: dict[Callable[[], None], None] = {}  # a set's order would depend on addresses
        """Called after each append: fetches that wait for records."""
        self._batches: list[_Batch] = []
        self._lasts: list[int] = []
        self._open: dict[int, int] = {}
        """By producer the first offset of its open transaction."""
        self._aborted: list[tuple[int, int, int]] = []
        """Producer, first offset and the marker's offset of transactions that were aborted."""

    @property
    def last_stable_offset(self) -> int:
        """Where a reader of committed records has to stop."""
        return min(self._open.values()) if self._open else self.end

    def append(self, data: bytes) -> int:
        """Append a batch as a producer sent it, and return the offset of its first record."""
        header = HEADER.unpack_from(data)
        base, attributes, producer_id = self.end, header[5], header[9]
        batch = _Batch(
            base,
            base + max(0, header[6]),
            base.to_bytes(8, signed=True) + data[8:],
            producer_id,
            bool(attributes & _TRANSACTIONAL),
            bool(attributes & _CONTROL),
        )
        if batch.is_transactional and not batch.is_control:
            self._open.setdefault(producer_id, base)
        self._batches.append(batch)
        self._lasts.append(batch.last)
        self.end = batch.last + 1
        self.notify()
        return base

    def notify(self) -> None:
        """Have the fetches that wait look again."""
        for look in list(self.changed):
            look()

    def write(self, records: Iterable[NewRecord], timestamp: int, producer_id: int = -1) -> int:
        """Append records as one batch, and return the first one's offset; with a producer id, in its transaction."""
        return self.append(batch_of(records, timestamp, producer_id))

    def end_transaction(self, producer_id: int, timestamp: int, *, commit: bool) -> None:
        """Append the marker that ends a producer's transaction: it takes an offset that no reader gets."""
        first = self._open.pop(producer_id)
        if not commit:
            self._aborted.append((producer_id, first, self.end))
        key, value = struct.pack(">hh", 0, int(commit)), struct.pack(">hi", 0, 0)
        data = bytearray(batch_of([NewRecord(key, value)], timestamp, producer_id))
        (attributes,) = struct.unpack_from(">h", data, _ATTRIBUTES_AT)
        struct.pack_into(">h", data, _ATTRIBUTES_AT, attributes | _CONTROL)
        self.append(sealed(data))

    def truncate(self, before: int) -> None:
        """Remove everything below an offset, as retention does."""
        self.start = max(self.start, min(before, self.end))
        gone = bisect_left(self._lasts, self.start)
        del self._batches[:gone], self._lasts[:gone]

    def compact(self, removed: Iterable[int]) -> None:
        """Remove the records at these offsets, and their batches where none is left."""
        gone = set(removed)
        kept: list[_Batch] = []
        for batch in self._batches:
            if batch.is_control or not any(batch.base <= offset <= batch.last for offset in gone):
                kept.append(batch)
            elif (data := _without(batch, gone)) is not None:
                kept.append(_Batch(batch.base, batch.last, data, batch.producer_id, batch.is_transactional, False))
        self._batches, self._lasts = kept, [batch.last for batch in kept]

    def damage(self, offset: int) -> None:
        """Change a bit in the batch that has this offset: its checksum no longer fits, and no reader can decode it."""
        place = bisect_left(self._lasts, offset)
        batch = self._batches[place]
        data = batch.data[:-1] + bytes([batch.data[-1] ^ 1])
        self._batches[place] = _Batch(
            batch.base, batch.last, data, batch.producer_id, batch.is_transactional, batch.is_control
        )

    def fetch(self, position: int, max_bytes: int, *, committed_only: bool) -> Fetched:
        """Return the batches from a position on, the first of them whatever its size."""
        limit = self.last_stable_offset if committed_only else self.end
        place = bisect_left(self._lasts, position)
        first = place
        size = 0
        while place < len(self._batches) and self._batches[place].base < limit:
            size += len(self._batches[place].data)
            if size > max_bytes and place > first:
                break
            place += 1
        found = self._batches[first:place]
        aborted: list[tuple[int, int]] = []
        if found and committed_only and self._aborted:
            begin, end = found[0].base, found[-1].last
            aborted = [
                (producer, first) for producer, first, marker in self._aborted if marker >= begin and first <= end
            ]
        return Fetched(found[0].data if len(found) == 1 else b"".join(batch.data for batch in found), aborted)

    def records(self) -> list[StoredRecord]:
        """Return what a reader of committed records gets, without the batches that cannot be decoded."""
        found: list[StoredRecord] = []
        for batch in self._batches:
            aborted = any(
                producer == batch.producer_id and first <= batch.base < marker
                for producer, first, marker in self._aborted
            )
            if batch.is_control or (batch.is_transactional and aborted) or batch.base >= self.last_stable_offset:
                continue
            decoder = DefaultRecordBatch(batch.data)
            if not decoder.validate_crc():
                continue
            found += [
                StoredRecord(record.offset, record.key, record.value, tuple(record.headers))
                for record in decoder
                if record.offset >= self.start
            ]
        return found


def batch_of(records: Iterable[NewRecord], timestamp: int, producer_id: int = -1) -> bytes:
    """Return a batch with these records; with a producer id it belongs to a transaction."""
    builder = DefaultRecordBatchBuilder(2, 0, int(producer_id >= 0), producer_id, 0, 0, _UNLIMITED)
    for number, record in enumerate(records):
        builder.append(number, timestamp, record.key, record.value, list(record.headers))
    return bytes(builder.build())


def sealed(data: bytearray) -> bytes:
    """Return a batch with a checksum that fits what is in it now."""
    struct.pack_into(">I", data, _CRC_AT, calc_crc32c(bytes(data[_CRC_FROM:])))
    return bytes(data)


def _without(batch: _Batch, gone: set[int]) -> bytes | None:
    """Return the batch without some records, or None if none is left; its last offset stays."""
    records = [record for record in DefaultRecordBatch(batch.data) if record.offset not in gone]
    if not records:
        return None
    builder = DefaultRecordBatchBuilder(2, 0, int(batch.is_transactional), batch.producer_id, 0, 0, _UNLIMITED)
    for record in records:
        headers = list(record.headers)
        builder.append(record.offset - batch.base, record.timestamp, record.key, record.value, headers)
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, batch.base)
    struct.pack_into(">i", data, _LAST_DELTA_AT, batch.last - batch.base)
    return sealed(data)
