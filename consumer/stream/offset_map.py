"""What is done above the committed offset, kept in the commit's metadata.

`v1:<committed offset>:<base64 of a compressed bitmap>`; bit n stands for the offset `committed + 1 + n`. The offset
inside makes a map count only for the commit it was made for: mirroring tools copy metadata onto translated offsets,
and an operator's reset leaves none. Behind another `:` there may be `sync_results`.
"""

import base64
import binascii
import zlib
from collections.abc import Iterable
from typing import Final

BOUND: Final = 4096
"""Characters of metadata that a broker takes by default (`offset.metadata.max.bytes`)."""

_PREFIX: Final = "v1"
SPAN: Final = 1 << 17
"""Offsets above the committed one that a map can speak of; what lies beyond is done again after a crash."""


class UnreadableMap(ValueError):
    """Metadata that is no map of ours for this offset. What it would have saved is done again."""


def encode(committed: int, done: Iterable[int], bound: int = BOUND) -> str:
    """Return the metadata for a commit of `committed`, or "" when nothing above it is done.

    `done` may hold any offsets above `committed`. Where not all fit into `bound` characters, the lowest are kept.
    """
    bits = bytearray()
    for offset in done:
        place = offset - committed - 1
        if 0 <= place < SPAN:
            if place >> 3 >= len(bits):
                bits.extend(bytes((place >> 3) + 1 - len(bits)))
            bits[place >> 3] |= 1 << (place & 7)
    if not bits:
        return ""
    text = _compose(committed, bytes(bits))
    while bits and len(text) > bound:
        del bits[len(bits) * bound // (len(text) + bound // 16 + 1) :]
        text = _compose(committed, bytes(bits))
    return text if bits else ""


def decode(metadata: str, committed: int) -> frozenset[int]:
    """Return the offsets above `committed` that are done.

    Raises:
        UnreadableMap: the metadata is foreign, damaged, or made for another offset.
    """
    if not metadata:
        return frozenset()
    version, _, rest = metadata.partition(":")
    made_for, _, rest = rest.partition(":")
    payload, results, _ = rest.partition(":")  # see `sync_results`
    if version != _PREFIX or made_for != str(committed):
        raise UnreadableMap("not a map for this offset")
    if results and not payload:
        return frozenset()
    try:
        unpacker = zlib.decompressobj()
        bits = unpacker.decompress(base64.b64decode(payload, validate=True), SPAN // 8 + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise UnreadableMap("damaged") from error
    # The checksum stands at the end: a map that was cut, or is longer than ours, was not checked.
    if not unpacker.eof or unpacker.unused_data or len(bits) > SPAN // 8:
        raise UnreadableMap("damaged")
    return frozenset(
        committed + 1 + (index << 3) + bit
        for index, byte in enumerate(bits)
        if byte
        for bit in range(8)
        if byte >> bit & 1
    )


def _compose(committed: int, bits: bytes) -> str:
    return f"{_PREFIX}:{committed}:{base64.b64encode(zlib.compress(bits, 9)).decode('ascii')}"
