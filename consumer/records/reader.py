"""The records of one batch in format 2: together as long as that goes well, else one by one.

aiokafka's own reader decides what can be decoded: what it raises for cannot. It is given batches that are made of a
part of the records, up to a single one. Where the length of a record is wrong, the next one is searched for: a place
at which aiokafka decodes a record whose offset is due.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from aiokafka.record._protocols import DefaultRecordProtocol, LegacyRecordProtocol  # for types alone
from aiokafka.record.default_records import DefaultRecordBatch
from msgspec import Struct

from consumer.records.decompression import CannotDecompress, pieces
from consumer.records.payload import PAUSE, Payload, length_at

SEGMENT: Final = 1 << 20
"""Bytes of decompressed records that are decoded at a time; a single record may have more."""

LARGEST_RECORD: Final = 32 << 20
"""Bytes that a record may have, decompressed."""

HEADER: Final = struct.Struct(">qiibIhiqqqhii")
"""A batch's header: base offset, length, leader epoch, magic, checksum, attributes, last offset's delta, two times,
producer's id and epoch, first sequence, number of records."""

LOG_OVERHEAD: Final = 12
"""Bytes of base offset and length, which every format begins with; the length counts what follows."""

CODEC: Final = 0x07
"""The bits of the attributes that tell the codec."""

_SEARCHED: Final = 32 << 10
"""Bytes within which the next record is searched for: a few tenths of a second at most."""

_SEARCHES: Final = 2
"""Searches without a find after which a batch is searched no more."""

_ALL: Final = 1 << 30
_LONGEST_LENGTH: Final = 5
_SHORTEST: Final = 7
"""Bytes that the length of a record, and its shortest form, take."""

Record: TypeAlias = DefaultRecordProtocol | LegacyRecordProtocol


class Undecodable(Struct, frozen=True, kw_only=True):
    """A record, or all records of a range, that cannot be decoded. The error quotes nothing of them."""

    offset: int
    last_offset: int
    error: str


class Reader:
    """Reads the records of one batch in format 2."""

    def __init__(self, header: Sequence[int], data: memoryview, last_offset: int, start: int) -> None:
        """Read a batch with this header and these records, compressed or not, from offset `start` on."""
        self._header = header
        self._last_offset = last_offset
        self._start = start
        self._count = header[12]
        # Else the topic was compacted, and only a record itself knows its offset.
        self._contiguous = self._count == header[6] + 1
        self.expected = header[0]
        """The next record's offset, or a lower one."""
        self._read = 0
        self._searches = 0
        self._trusted = _ALL
        """How many records to decode together: one after a failure, and twice as many each time that it goes well."""
        self._payload = Payload(pieces(header[5] & CODEC, data))

    @property
    def decompressed(self) -> int:
        """Bytes of records that were decompressed until now."""
        return self._payload.decompressed

    def records(self) -> Iterator["Record | Undecodable | None"]:
        """Yield the records, and those that cannot be decoded; None when it takes a while.

        Raises:
            CannotDecompress: nothing more can be told apart; what is left begins with `expected`.
        """
        if self._count < 0:
            raise CannotDecompress("it has a negative number of records")
        if self._payload.has(SEGMENT + 1):
            if self._contiguous:
                yield from self._skip(self._start - self.expected)
        else:
            yield from self._together(self._payload.take(self._payload.left), self._count)
        while self._read < self._count:
            segment, count = self._next_segment()
            yield from self._together(segment, count) if count else self._alone()

    def _skip(self, count: int) -> Iterator[None]:
        """Pass over records that were read before."""
        skipped = self.decompressed
        while count > 0 and self._read < self._count:
            yield from self._payload.discard(self._payload.next_length())
            self._advance(self.expected + 1)
            count -= 1
            if self.decompressed - skipped > PAUSE:
                skipped = self.decompressed
                yield None

    def _next_segment(self) -> tuple[bytes, int]:
        """Take the next records, as far as their lengths lead, and return them with their number."""
        segment, count = bytearray(), 0
        limit = min(self._count - self._read, self._trusted)
        while count < limit and len(segment) < SEGMENT:
            try:
                length = self._payload.next_length()
                if length > LARGEST_RECORD:
                    break
                segment += self._payload.take(length)
            except CannotDecompress:
                break  # told once nothing is left before it
            count += 1
        return bytes(segment), count

    def _together(self, data: bytes, count: int) -> Iterator["Record | Undecodable | None"]:
        """Decode so many records that lie in the data, and give back what begins with the first that fails."""
        first = self._read
        try:
            for record in self._decoder(data, count):
                if not self._is_due(record.offset):
                    break
                self._advance(record.offset + 1)
                if record.offset >= self._start:
                    yield record
        except Exception:  # noqa: BLE001,S110 - whatever bytes from outside do to a decoder; each is tried alone then
            pass
        if self._read - first == count:
            self._trusted = min(_ALL, 2 * self._trusted)
            return
        self._trusted = 1
        at = 0
        for _ in range(self._read - first):
            at += length_at(data, at)
        self._payload.give_back(data[at:])
        yield from self._alone()  # else the same records would be tried together again

    def _alone(self) -> Iterator["Record | Undecodable | None"]:
        """Decode the next record, or pass it."""
        payload, length = self._payload, 0
        try:
            length = payload.next_length()
            if length > LARGEST_RECORD:
                error = f"it has {length} bytes, more than {LARGEST_RECORD >> 20} MiB"
            elif payload.has(length):
                (record,) = self._decoder(payload.peek(length), 1)
                if self._is_due(record.offset):
                    payload.take(length)
                    self._advance(record.offset + 1)
                    if record.offset >= self._start:
                        yield record
                    return
                error = "its offset is not within its batch"
            else:
                error = "its records end early"
        except Exception as failure:  # noqa: BLE001 - as above
            error = reason(failure)
        yield from self._pass(length, error)

    def _pass(self, length: int, error: str) -> Iterator["Undecodable | None"]:
        """Pass the next record, whose length may be wrong, and others up to the next one that can be decoded."""
        payload = self._payload
        is_last = self._read + 1 == self._count
        if length > LARGEST_RECORD or (length and is_last) or (length and self._offset_at(length) == self.expected + 1):
            yield from self._undecodable(self.expected + 1, error)
            yield from payload.discard(length)
            return
        at = 0
        if self._searches < _SEARCHES:
            self._searches += 1
            payload.has(_SEARCHED)
            at = next((at for at in range(1, min(_SEARCHED, payload.left)) if self._offset_at(at)), 0)
        if at:
            self._searches -= 1
            yield from self._undecodable(self._offset_at(at), error)
            payload.take(at)
        elif length:
            yield from self._undecodable(self.expected + 1, error)
            yield from payload.discard(length)
        else:
            raise CannotDecompress(error)

    def _offset_at(self, at: int) -> int:
        """Return the offset of the record that begins there, if one does that comes after the next one, else 0.

        One that is not the very next must look like nearly all do, without attributes: it may be by chance.
        """
        payload = self._payload
        payload.has(at + _LONGEST_LENGTH)
        prefix = payload.peek(_LONGEST_LENGTH + 1, at)
        try:
            length = length_at(prefix, 0)
        except CannotDecompress:
            return 0
        if length < _SHORTEST or not payload.has(at + length):
            return 0
        record = self._decoded(payload.peek(length, at))
        if record is None or not self.expected < record.offset <= self._last_offset:
            return 0
        attributes = prefix[next(number for number, byte in enumerate(prefix) if byte < 0x80) + 1]
        return record.offset if record.offset == self.expected + 1 or not attributes else 0

    def _undecodable(self, until: int, error: str) -> Iterator[Undecodable]:
        """Yield the records from the next one on up to this offset as such that cannot be decoded."""
        while self.expected < until:
            offset = self.expected
            if offset > self._last_offset:
                raise CannotDecompress("it has more records than offsets")
            self._advance(offset + 1 if self._contiguous else until)
            if offset >= self._start:
                yield Undecodable(offset=offset, last_offset=offset, error=error)

    def _is_due(self, offset: int) -> bool:
        if self._contiguous:
            return offset == self.expected
        return self.expected <= offset <= self._last_offset

    def _advance(self, expected: int) -> None:
        self.expected = expected
        self._read += 1

    def _decoded(self, data: bytes) -> Record | None:
        """Return the one record that is this data, or None."""
        try:
            (record,) = self._decoder(data, 1)
        except Exception:  # noqa: BLE001 - as above
            return None
        return record

    def _decoder(self, data: bytes, count: int) -> Iterator[Record]:
        """Return aiokafka's reader of a batch that holds just this data, not compressed."""
        header = list(self._header)
        header[1] = HEADER.size - LOG_OVERHEAD + len(data)
        header[5] &= ~CODEC
        header[12] = count
        return iter(DefaultRecordBatch(HEADER.pack(*header) + data))


def reason(error: Exception) -> str:
    """Return why in words without anything of the record: a decoder's own message may quote it."""
    return str(error) if isinstance(error, CannotDecompress) else f"its content is damaged ({type(error).__name__})"
