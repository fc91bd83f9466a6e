"""Record batches as a broker returns them, decoded record by record where aiokafka fails on a whole.

aiokafka's own reader decides what is decodable: what it raises for is undecodable. What is done here is to give it
less at a time: the records of a batch in segments of bounded size, and those of a segment that fails one by one.
"""

import struct
from collections.abc import Iterator
from functools import cached_property
from typing import Final, TypeAlias

from aiokafka.record._protocols import DefaultRecordProtocol, LegacyRecordProtocol  # for types alone
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from msgspec import Struct

from consumer.records.decompression import CannotDecompress, pieces

SEGMENT: Final = 1 << 20
"""Bytes of decompressed records that are decoded at a time; a single record may have more."""

LARGEST_RECORD: Final = 32 << 20
"""Bytes that a record may have, decompressed."""

_PAUSE: Final = 32 << 20
"""Bytes skipped at a time: decompressing them takes the event loop about a tenth of a second."""

_LOG_OVERHEAD: Final = 12  # base offset and length, which every format begins with
_MAGIC_AT: Final = 16
_CRC_FROM: Final = 21
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_LEGACY_HEADERS: Final = {0: 18, 1: 26}
_LONGEST_VARINT: Final = 5
_CODEC: Final = 0x07
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20

Record: TypeAlias = DefaultRecordProtocol | LegacyRecordProtocol


class Undecodable(Struct, frozen=True, kw_only=True):
    """A record, or all records of a range, that cannot be decoded. The error quotes nothing of them."""

    offset: int
    last_offset: int
    error: str


class Batch:
    """One batch, which `split` found. The header is trusted even where its checksum is wrong: it says what to skip."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.magic = data[_MAGIC_AT] if len(data) > _MAGIC_AT else -1
        self.decompressed = 0
        """Bytes of decompressed records until now."""
        self.is_control = self.is_transactional = False
        self.producer_id = -1
        self.header: tuple[int, ...] = ()
        self.base_offset = self.last_offset = int.from_bytes(data[:8], signed=True)
        if self.magic >= 2 and len(data) >= _HEADER.size:
            self.header = _HEADER.unpack_from(data)
            self.last_offset = self.base_offset + max(0, self.header[6])
            self.is_control = bool(self.header[5] & _CONTROL)
            self.is_transactional = bool(self.header[5] & _TRANSACTIONAL)
            self.producer_id = self.header[9]

    @cached_property
    def damage(self) -> str:
        """Why it cannot be trusted, or nothing."""
        if not self.header or len(self.data) != _LOG_OVERHEAD + self.header[1]:
            return "it is cut off"
        return "" if DefaultRecordBatch(bytes(self.data)).validate_crc() else "its checksum is wrong"

    def records(self, start: int) -> Iterator["Record | Undecodable | None"]:
        """Yield the records from offset `start` on, and what cannot be decoded, in the order of offsets.

        None says that a good deal of work was done and there is nothing to show for it yet.
        """
        reader = _Reader(self, start) if self.header else None
        try:
            if reader is not None:
                yield from reader.records()
            else:
                yield from self._legacy(start)
        except Exception as error:  # noqa: BLE001 - whatever bytes from outside do to a decoder
            first = start if reader is None else max(start, reader.expected)
            # Without a header nothing says where it ends, and one offset at least has to be passed.
            last = max(self.last_offset, start) if reader is None else self.last_offset
            if first <= last:
                yield Undecodable(offset=first, last_offset=last, error=_reason(error))

    def _legacy(self, start: int) -> Iterator["Record | Undecodable"]:
        """Decode formats 0 and 1, which brokers before 4.0 may still hold: a message, or a compressed set of them."""
        header = _LEGACY_HEADERS.get(self.magic)
        if header is None or len(self.data) < header + 8:
            raise CannotDecompress("too short, or of an unknown format")
        batch = LegacyRecordBatch(self.data, self.magic)
        if not batch.validate_crc():
            raise CannotDecompress("its checksum is wrong")
        codec = self.data[_MAGIC_AT + 1] & _CODEC
        if codec:  # aiokafka decompresses the whole: look first how much that is
            key_size = int.from_bytes(self.data[header : header + 4], signed=True)
            value_at = header + 8 + max(0, key_size)
            for piece in pieces(codec, self.data[value_at:]):
                self.decompressed += len(piece)
                if self.decompressed > LARGEST_RECORD:
                    raise CannotDecompress(f"decompresses to more than {LARGEST_RECORD >> 20} MiB")
        else:
            self.decompressed += len(self.data)
        yield from (record for record in list(batch) if record.offset >= start)


def split(data: bytes) -> Iterator[Batch]:
    """Yield the batches in a broker's answer; the last one, cut off by the answer's size, is left out.

    A first one that is cut off, or a length that cannot be one, is yielded as far as it is there: as undecodable.
    """
    view, at = memoryview(data), 0
    previous: Batch | None = None
    while len(view) - at > _LOG_OVERHEAD:
        length = int.from_bytes(view[at + 8 : at + _LOG_OVERHEAD], signed=True)
        end = at + _LOG_OVERHEAD + length
        if end > len(view) and at:
            break
        batch = Batch(view[at:end] if length > 0 and end <= len(view) else view[at:])
        if previous is not None:
            # Where a checksum is wrong, the number of its records may be, too: the next batch says where it ends.
            if previous.base_offset < batch.base_offset:
                previous.last_offset = min(previous.last_offset, batch.base_offset - 1)
            yield previous
        previous, at = batch, at + len(batch.data)
    if previous is not None:
        yield previous


class _Reader:
    """Reads the records of one batch in format 2."""

    def __init__(self, batch: Batch, start: int) -> None:
        self._batch = batch
        self._start = start
        header = batch.header
        self._attributes, self._count = header[5], header[12]
        # Else the topic was compacted, and only a record itself knows its offset.
        self._contiguous = self._count == header[6] + 1
        self.expected = batch.base_offset
        """The next record's offset, or a lower one."""
        self._read = 0
        self._payload = _Payload(batch, pieces(self._attributes & _CODEC, batch.data[_HEADER.size :]))

    def records(self) -> Iterator["Record | Undecodable | None"]:
        batch = self._batch
        if batch.damage:
            raise CannotDecompress(batch.damage)
        if self._count < 0:
            raise CannotDecompress("it has a negative number of records")
        payload = self._payload
        if not payload.has(SEGMENT + 1):
            yield from self._segment(payload.take(), self._count)
            return
        if self._contiguous:
            yield from self._skip(self._start - self.expected)
        while self._read < self._count:
            segment, count = bytearray(), 0
            while self._read + count < self._count and len(segment) < SEGMENT:
                length = payload.next_length()
                if length > LARGEST_RECORD:
                    break
                segment += payload.take(length)
                count += 1
            if count:
                yield from self._segment(bytes(segment), count)
            else:
                yield from payload.discard(length)
                yield self._undecodable(f"it has {length} bytes, more than {LARGEST_RECORD >> 20} MiB")

    def _skip(self, count: int) -> Iterator[None]:
        """Pass over records that were read before."""
        skipped = self._batch.decompressed
        while count > 0 and self._read < self._count:
            yield from self._payload.discard(self._payload.next_length())
            self._advance(self.expected + 1)
            count -= 1
            if self._batch.decompressed - skipped > _PAUSE:
                skipped = self._batch.decompressed
                yield None

    def _segment(self, data: bytes, count: int) -> Iterator["Record | Undecodable"]:
        """Decode so many records that lie in the data: together, and from the first that fails on one by one."""
        first = self._read
        try:
            for record in self._decoder(data, count):
                if not self._is_due(record.offset):
                    break
                self._advance(record.offset + 1)
                if record.offset >= self._start:
                    yield record
        except Exception:  # noqa: BLE001,S110 - whatever bytes from outside do to a decoder; each is tried alone below
            pass
        if self._read - first == count:
            return
        segment = _Payload(None, iter([data]))
        for _ in range(self._read - first):
            segment.take(segment.next_length())
        while self._read - first < count:
            yield from self._single(segment.take(segment.next_length()))

    def _single(self, data: bytes) -> Iterator["Record | Undecodable"]:
        error = "its offset is not within its batch"
        record: Record | None = None
        try:
            (record,) = self._decoder(data, 1)
        except Exception as failure:  # noqa: BLE001 - as above
            error = _reason(failure)
        if record is not None and self._is_due(record.offset):
            self._advance(record.offset + 1)
            if record.offset >= self._start:
                yield record
            return
        found = self._undecodable(error)
        if found.offset >= self._start:
            yield found

    def _undecodable(self, error: str) -> Undecodable:
        offset = self.expected
        if offset > self._batch.last_offset:
            raise CannotDecompress("it has more records than offsets")
        self._advance(offset + 1)
        return Undecodable(offset=offset, last_offset=offset, error=error)

    def _is_due(self, offset: int) -> bool:
        if self._contiguous:
            return offset == self.expected
        return self.expected <= offset <= self._batch.last_offset

    def _advance(self, expected: int) -> None:
        self.expected = expected
        self._read += 1

    def _decoder(self, data: bytes, count: int) -> Iterator[Record]:
        """Return aiokafka's reader of a batch that holds just this data, not compressed."""
        header = list(self._batch.header)
        header[1] = _HEADER.size - _LOG_OVERHEAD + len(data)
        header[5] = self._attributes & ~_CODEC
        header[12] = count
        return iter(DefaultRecordBatch(_HEADER.pack(*header) + data))


class _Payload:
    """Decompressed records, no more of them at a time than asked for."""

    def __init__(self, batch: Batch | None, parts: Iterator[bytes | memoryview]) -> None:
        self._batch = batch
        self._parts = parts
        self._buffer = bytearray()
        self._at = 0

    def has(self, size: int) -> bool:
        """Return whether there are so many bytes left; read on until that is known."""
        while len(self._buffer) - self._at < size:
            part = next(self._parts, None)
            if part is None:
                return False
            if self._at:
                del self._buffer[: self._at]
                self._at = 0
            self._buffer += part
            if self._batch is not None:
                self._batch.decompressed += len(part)
        return True

    def next_length(self) -> int:
        """Return how many bytes the next record has, its own length included."""
        self.has(_LONGEST_VARINT)
        value = 0
        for number in range(_LONGEST_VARINT):
            if self._at + number >= len(self._buffer):
                raise CannotDecompress("its records end early")
            byte = self._buffer[self._at + number]
            value |= (byte & 0x7F) << (7 * number)
            if byte < 0x80:
                if value & 1:
                    break  # zigzag: an odd one is negative
                return number + 1 + (value >> 1)
        raise CannotDecompress("a record has no valid length")

    def take(self, size: int | None = None) -> bytes:
        """Return the next bytes, or what was read until now."""
        if size is None:
            size = len(self._buffer) - self._at
        elif not self.has(size):
            raise CannotDecompress("its records end early")
        self._at += size
        return bytes(memoryview(self._buffer)[self._at - size : self._at])

    def discard(self, size: int) -> Iterator[None]:
        """Pass over so many bytes without keeping them; None tells of each good deal of work."""
        passed = 0
        while size:
            if not self.has(1):
                raise CannotDecompress("its records end early")
            step = min(size, len(self._buffer) - self._at)
            self._at += step
            size -= step
            passed += step
            if passed > _PAUSE:
                passed = 0
                yield None


def _reason(error: Exception) -> str:
    """Return why in words without anything of the record: a decoder's own message may quote it."""
    return str(error) if isinstance(error, CannotDecompress) else f"its content is damaged ({type(error).__name__})"
