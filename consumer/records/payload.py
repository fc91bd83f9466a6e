"""The decompressed records of a batch, no more of them in memory at a time than asked for."""

from collections.abc import Iterator
from typing import Final

from consumer.records.decompression import CannotDecompress

PAUSE: Final = 32 << 20
"""Bytes skipped at a time: decompressing them takes the event loop about a tenth of a second."""

_LONGEST_VARINT: Final = 5


class Payload:
    """Bytes that are read from the front."""

    def __init__(self, parts: Iterator[bytes | memoryview]) -> None:
        self.decompressed = 0
        """Bytes that were decompressed until now."""
        self._parts = parts
        self._buffer = bytearray()
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that were decompressed and not taken yet."""
        return len(self._buffer) - self._at

    def has(self, size: int) -> bool:
        """Return whether there are so many bytes left; decompress on until that is known."""
        while self.left < size:
            part = next(self._parts, None)
            if part is None:
                return False
            if self._at:
                del self._buffer[: self._at]
                self._at = 0
            self._buffer += part
            self.decompressed += len(part)
        return True

    def next_length(self) -> int:
        """Return how many bytes the next record has, its own length included. Raises `CannotDecompress`."""
        self.has(_LONGEST_VARINT)
        return length_at(self._buffer, self._at)

    def peek(self, size: int, at: int = 0) -> bytes:
        """Return up to so many of the bytes that `has` found, from a place behind the front on."""
        begin = self._at + at
        return bytes(memoryview(self._buffer)[begin : begin + size])

    def take(self, size: int) -> bytes:
        """Return the next bytes. Raises `CannotDecompress` if there are fewer."""
        if not self.has(size):
            raise CannotDecompress("its records end early")
        self._at += size
        return bytes(memoryview(self._buffer)[self._at - size : self._at])

    def give_back(self, data: bytes) -> None:
        """Put what was taken last back to the front."""
        begin = self._at - len(data)
        if begin >= 0 and self._buffer[begin : self._at] == data:
            self._at = begin
        else:
            self._buffer, self._at = bytearray(data) + self._buffer[self._at :], 0

    def discard(self, size: int) -> Iterator[None]:
        """Pass over so many bytes without keeping them; None tells of each good deal of work."""
        passed = 0
        while size:
            if not self.has(1):
                raise CannotDecompress("its records end early")
            step = min(size, self.left)
            self._at += step
            size -= step
            passed += step
            if passed > PAUSE:
                passed = 0
                yield None


def length_at(data: bytes | bytearray, at: int) -> int:
    """Return how many bytes a record that begins there has, its own length included. Raises `CannotDecompress`."""
    value = 0
    for number in range(_LONGEST_VARINT):
        if at + number >= len(data):
            raise CannotDecompress("its records end early")
        byte = data[at + number]
        value |= (byte & 0x7F) << (7 * number)
        if byte < 0x80:
            if value & 1:
                break  # zigzag: an odd one is negative
            return number + 1 + (value >> 1)
    raise CannotDecompress("a record has no valid length")
