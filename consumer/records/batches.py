"""Record batches as a broker returns them: told apart, and decoded so that none of them can stop the others."""

from collections.abc import Iterator
from functools import cached_property
from typing import Final

from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch

from consumer.records.decompression import CannotDecompress, pieces
from consumer.records.reader import CODEC, HEADER, LARGEST_RECORD, LOG_OVERHEAD, Reader, Record, Undecodable, reason

_MAGIC_AT: Final = 16
_LEGACY_HEADERS: Final = {0: 18, 1: 26}
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20


class Batch:
    """One batch, which `split` found. The header is trusted even where its checksum is wrong: it says what to skip."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.magic = data[_MAGIC_AT] if len(data) > _MAGIC_AT else -1
        self._reader: Reader | None = None
        self._decompressed = 0
        self.is_control = self.is_transactional = False
        self.producer_id = -1
        self.header: tuple[int, ...] = ()
        self.base_offset = self.last_offset = int.from_bytes(data[:8], signed=True)
        if self.magic >= 2 and len(data) >= HEADER.size:
            self.header = HEADER.unpack_from(data)
            self.last_offset = self.base_offset + max(0, self.header[6])
            self.is_control = bool(self.header[5] & _CONTROL)
            self.is_transactional = bool(self.header[5] & _TRANSACTIONAL)
            self.producer_id = self.header[9]

    @cached_property
    def damage(self) -> str:
        """Why it cannot be trusted, or nothing."""
        if not self.header or len(self.data) != LOG_OVERHEAD + self.header[1]:
            return "it is cut off"
        return "" if DefaultRecordBatch(bytes(self.data)).validate_crc() else "its checksum is wrong"

    @property
    def decompressed(self) -> int:
        """Bytes of decompressed records until now."""
        return self._decompressed if self._reader is None else self._reader.decompressed

    def records(self, start: int) -> Iterator["Record | Undecodable | None"]:
        """Yield the records from offset `start` on, and what cannot be decoded, in the order of offsets.

        None says that a good deal of work was done and there is nothing to show for it yet.
        """
        reader = None
        try:
            if self.header:
                reader = self._reader = Reader(self.header, self.data[HEADER.size :], self.last_offset, start)
                if self.damage:
                    raise CannotDecompress(self.damage)  # noqa: TRY301 - as whatever the reader raises
                yield from reader.records()
            else:
                yield from self._legacy(start)
        except Exception as error:  # noqa: BLE001 - whatever bytes from outside do to a decoder
            first = start if reader is None else max(start, reader.expected)
            # Without a header nothing says where it ends, and one offset at least has to be passed.
            last = max(self.last_offset, start) if reader is None else self.last_offset
            if first <= last:
                yield Undecodable(offset=first, last_offset=last, error=reason(error))

    def _legacy(self, start: int) -> Iterator["Record | Undecodable"]:
        """Decode formats 0 and 1, which brokers before 4.0 may still hold: a message, or a compressed set of them."""
        header = _LEGACY_HEADERS.get(self.magic)
        if header is None or len(self.data) < header + 8:
            raise CannotDecompress("too short, or of an unknown format")
        batch = LegacyRecordBatch(self.data, self.magic)
        if not batch.validate_crc():
            raise CannotDecompress("its checksum is wrong")
        codec = self.data[_MAGIC_AT + 1] & CODEC
        if codec:  # aiokafka decompresses the whole: look first how much that is
            key_size = int.from_bytes(self.data[header : header + 4], signed=True)
            value_at = header + 8 + max(0, key_size)
            for piece in pieces(codec, self.data[value_at:]):
                self._decompressed += len(piece)
                if self._decompressed > LARGEST_RECORD:
                    raise CannotDecompress(f"decompresses to more than {LARGEST_RECORD >> 20} MiB")
        else:
            self._decompressed += len(self.data)
        yield from (record for record in list(batch) if record.offset >= start)


def split(data: bytes) -> Iterator[Batch]:
    """Yield the batches in a broker's answer; the last one, cut off by the answer's size, is left out.

    A first one that is cut off, or a length that cannot be one, is yielded as far as it is there: as undecodable.
    """
    view, at = memoryview(data), 0
    previous: Batch | None = None
    while len(view) - at > LOG_OVERHEAD:
        length = int.from_bytes(view[at + 8 : at + LOG_OVERHEAD], signed=True)
        end = at + LOG_OVERHEAD + length
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
