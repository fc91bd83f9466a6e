"""Decompresses the records of a batch in pieces, or up to a limit: a small batch may hold hundreds of megabytes."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import cramjam
from aiokafka.codec import _detect_xerial_stream  # which of the two snappy formats it is

LARGEST: Final = 32 << 20
"""Bytes that a batch compressed with lz4 or zstd, or a block of one compressed with snappy, may decompress to.

These are decompressed at once. gzip has no limit: it is decompressed piece by piece."""

PIECE: Final = 256 << 10
"""Bytes of a piece of gzip."""

_SMALL: Final = 1 << 20
"""Bytes that nearly every batch of lz4 or zstd decompresses to at most: no more memory is taken for those."""

_XERIAL_HEADER: Final = 16
_BLOCK_LENGTH: Final = 4


class CannotDecompress(ValueError):
    """The compressed records are damaged, too large, or of an unknown codec. The message quotes none of them."""


def pieces(codec: int, data: memoryview) -> Iterator[bytes | memoryview]:
    """Yield the decompressed records in pieces; `codec` is the number in the batch's attributes.

    Raises:
        CannotDecompress: possibly after pieces that could be decompressed.
    """
    if codec == 0:
        yield data
        return
    decompress = _CODECS.get(codec)
    if decompress is None:
        raise CannotDecompress(f"unknown compression codec {codec}")
    try:
        yield from decompress(data)
    except (zlib.error, cramjam.DecompressionError, OSError, EOFError, ValueError, OverflowError) as error:
        if isinstance(error, CannotDecompress):
            raise
        raise CannotDecompress(f"cannot be decompressed ({type(error).__name__})") from error


def _gzip(data: memoryview) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:  # what aiokafka reads as a whole
        while piece := file.read(PIECE):
            yield piece


def _snappy(data: memoryview) -> Iterator[bytes]:
    if not _detect_xerial_stream(data):
        yield _snappy_block(data)
        return
    at = _XERIAL_HEADER
    while at < len(data):
        end = at + _BLOCK_LENGTH + int.from_bytes(data[at : at + _BLOCK_LENGTH])
        if end > len(data):
            raise CannotDecompress("compressed records end early")
        yield _snappy_block(data[at + _BLOCK_LENGTH : end])
        at = end


def _snappy_block(data: memoryview) -> bytes:
    if cramjam.snappy.decompress_raw_len(data) > LARGEST:
        raise _too_large()
    return bytes(cramjam.snappy.decompress_raw(data))


def _at_once(into: Callable[[memoryview, bytearray], int]) -> Callable[[memoryview], Iterator[memoryview]]:
    def decompress(data: memoryview) -> Iterator[memoryview]:
        for size in (_SMALL, LARGEST):
            output = bytearray(size)
            try:
                length = into(data, output)
            except cramjam.DecompressionError as error:
                if "whole buffer" not in str(error):
                    raise
            else:
                yield memoryview(output)[:length]
                return
        raise _too_large()

    return decompress


def _too_large() -> CannotDecompress:
    return CannotDecompress(f"decompresses to more than {LARGEST >> 20} MiB")


_CODECS: Final[Mapping[int, Callable[[memoryview], Iterator[bytes | memoryview]]]] = {
    1: _gzip,
    2: _snappy,
    3: _at_once(cramjam.lz4.decompress_into),
    4: _at_once(cramjam.zstd.decompress_into),
}
