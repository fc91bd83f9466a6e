"""Decompresses the body of a request, never to more than an event may have."""

import zlib
from typing import Final

ENCODINGS: Final = {
    "identity": 0,
    "gzip": 16 + zlib.MAX_WBITS,
    "x-gzip": 16 + zlib.MAX_WBITS,
    "deflate": zlib.MAX_WBITS,
}
"""What `Content-Encoding` may say, and what zlib calls it."""


class BodyTooLarge(Exception):
    """It has more bytes than allowed when it is decompressed."""


class UnreadableBody(Exception):
    """It is not what its `Content-Encoding` says."""


def decompress(body: bytes, encoding: str, most: int) -> bytes:
    """Return the body as it was before it was compressed; it takes no more memory than `most` bytes.

    Raises:
        BodyTooLarge: it is longer than that.
        UnreadableBody: it is damaged, cut, or followed by something else.
    """
    if encoding == "identity":
        return body
    unpacker = zlib.decompressobj(ENCODINGS[encoding])
    try:
        value = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise UnreadableBody from error
    if len(value) > most:
        raise BodyTooLarge
    if not unpacker.eof or unpacker.unused_data:
        raise UnreadableBody
    return value
