"""Which partition a key goes to: aiokafka's default, as Java's (murmur2), with the answer for each key kept a while."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from aiokafka.partitioner import DefaultPartitioner

_default: Final = DefaultPartitioner()

_KEPT: Final = 65_536
"""Keys. Hashing one in Python takes as long as the rest of a send: a quarter of a replay's CPU went there."""


def partition_of(key: bytes | None, partitions: Sequence[int], available: Sequence[int]) -> int:
    """Return the key's partition, one of `partitions`, which are sorted; without a key any that is `available`."""
    if key is None:
        return int(_default(key, partitions, available))
    return partitions[_place(key, len(partitions))]


@lru_cache(maxsize=_KEPT)
def _place(key: bytes, count: int) -> int:
    return int(_default(key, range(count), ()))
