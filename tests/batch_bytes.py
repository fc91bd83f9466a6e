"""Record batches as bytes, built with aiokafka's own builder and damaged on purpose."""

import struct
import time
from collections.abc import Sequence
from typing import Any, Literal

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

HEADER = 61
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
BAD_NAME = bytes.fromhex("73706f72696e67736ef86b6b656c")

_CRC_AT, _CRC_FROM = 17, 21


def batch(
    records: Sequence[tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes | None]]]],
    base: int = 0,
    codec: int = 0,
    producer: int = -1,
    *,
    transactional: bool = False,
) -> bytearray:
    """Return a batch in format 2 with these records, at this offset."""
    now = int(time.time() * 1000)  # brokers delete what is older than their retention
    builder = DefaultRecordBatchBuilder(2, codec, int(transactional), producer, 0, 0, 1 << 30)
    for number, (key, value, headers) in enumerate(records):
        builder.append(number, now + number, key, value, list(headers))
    return placed(bytearray(builder.build()), base)


def events(count: int, base: int = 0, codec: int = 0, **more: Any) -> bytearray:
    """Return a batch of so many small records whose values tell their offsets."""
    return batch([(b"k", b"value %d" % (base + number), ()) for number in range(count)], base, codec, **more)


def legacy(
    records: Sequence[tuple[bytes | None, bytes | None]], base: int = 0, codec: int = 0, magic: Literal[0, 1] = 1
) -> bytes:
    """Return messages of format 0 or 1."""
    builder = LegacyRecordBatchBuilder(magic, codec, 1 << 30)
    for number, (key, value) in enumerate(records):
        builder.append(base + number, timestamp=1_700_000_000_000 if magic else None, key=key, value=value)
    return bytes(builder.build())


def placed(data: bytearray, base: int) -> bytearray:
    """Return the batch at another offset; the checksum does not cover that."""
    struct.pack_into(">q", data, 0, base)
    return data


def sealed(data: bytearray) -> bytearray:
    """Return the batch with a checksum and a length that fit what is in it now."""
    struct.pack_into(">i", data, 8, len(data) - 12)
    struct.pack_into(">I", data, _CRC_AT, calc_crc32c(bytes(data[_CRC_FROM:])))
    return data


def replaced(data: bytearray, old: bytes, new: bytes) -> bytearray:
    """Return the batch with some bytes replaced by as many, and a fitting checksum."""
    assert len(old) == len(new)
    assert data.count(old) == 1
    return sealed(data.replace(old, new))
