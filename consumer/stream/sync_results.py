"""What became of sync requests, in the metadata of the group's commits, where `sync` looks for it.

A request that asks for its result carries the header `REPORT_HEADER`. There is no reply topic: `sync` reads the group's
commits anyway to see when its request is done, so the result stands next to that, behind the map of completed offsets:
`v1:<committed offset>:<map>:<results>`. Results are kept for a while and only as far as there is room.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from consumer.clock import Clock

KEPT_SECONDS: Final = 120.0
"""How long a result stays in the commits; `sync` looks twice a second."""

MOST_KEPT: Final = 500
"""Results kept per partition; the oldest ones give way."""

_LETTERS: Final = {
    "created": "c",
    "updated": "u",
    "unchanged": "n",
    "dead_lettered": "d",
    "skipped_guest": "g",
    "skipped_no_email": "e",
    "skipped_unknown_user": "k",
    "skipped_vendor": "v",
    "skipped_type": "t",
    "skipped_not_a_contact": "a",
}
_RESULTS: Final = {letter: result for result, letter in _LETTERS.items()}
_ENTRY: Final = re.compile(r"(\d{1,19})([a-z])")


class SyncResults:
    """The results of the requests in the owned partitions that asked for theirs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._expected: set[tuple[int, int]] = set()
        self._kept: dict[int, dict[int, tuple[float, str]]] = {}
        self._earlier: dict[int, dict[int, tuple[float, str]]] = {}

    def begin(self, partitions: Collection[int]) -> None:
        """Begin a generation in which these partitions may start."""
        earlier = self._earlier | self._kept
        self._expected = set()
        self._earlier = {partition: kept for partition, kept in earlier.items() if partition in partitions}
        self._kept = {}

    def start(self, partition: int, found: Mapping[int, str]) -> None:
        """Own this partition from now on, with the results found in its commit.

        What is known of it already stays: the commit that should have told it may have failed.
        """
        now = self._clock()
        self._kept[partition] = {
            **self._earlier.pop(partition, {}),
            **{offset: (now, result) for offset, result in found.items()},
        }

    def expect(self, partition: int, offset: int) -> None:
        """Note that the request there asks for its result."""
        self._expected.add((partition, offset))

    def note(self, partition: int, offset: int, result: str) -> None:
        """Keep the result of a record that is done, if it was asked for."""
        if (partition, offset) not in self._expected:  # as nearly always
            return
        self._expected.discard((partition, offset))
        kept = self._kept.setdefault(partition, {})
        kept[offset] = (self._clock(), result)
        while len(kept) > MOST_KEPT:
            del kept[next(iter(kept))]

    def attached(self, partition: int, committed: int, metadata: str, bound: int) -> str:
        """Return the metadata of a commit with the partition's results behind it, the latest that fit."""
        kept = self._kept.get(partition)
        if not kept:
            return metadata
        horizon = self._clock() - KEPT_SECONDS
        for offset in [offset for offset, (at, _) in kept.items() if at <= horizon]:
            del kept[offset]
        results = [(offset, result) for offset, (_, result) in kept.items()]
        head = metadata or f"v1:{committed}:"
        while results:
            text = f"{head}:{encode(results)}"
            if len(text) <= bound:
                return text
            del results[: max(1, len(results) // 4)]
        return metadata


def encode(results: Iterable[tuple[int, str]]) -> str:
    """Return the results as text: for each, how far its offset is from the one before, and a letter."""
    text, before = [], 0
    for offset, result in sorted(results):
        text.append(f"{offset - before}{_LETTERS.get(result, 'x')}")
        before = offset
    return "".join(text)


def read(metadata: str, committed: int) -> dict[int, str]:
    """Return the results by offset that stand in the metadata of a commit; none where it was made for another one.

    A result that this version does not know is left out.
    """
    version, _, rest = metadata.partition(":")
    made_for, _, rest = rest.partition(":")
    text = rest.partition(":")[2]
    if version != "v1" or made_for != str(committed):
        return {}
    found, offset = {}, 0
    for distance, letter in _ENTRY.findall(text):
        offset += int(distance)
        if letter in _RESULTS:
            found[offset] = _RESULTS[letter]
    return found
