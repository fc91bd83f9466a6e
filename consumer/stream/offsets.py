"""Which offsets of a partition are done, and so how far a commit may go (promise P1).

Invariants, in whatever order records are delivered, completed, committed and assigned again:

1. Every record below `committable` is done.
2. The record at `committable` is not known to be done. (The metadata of a commit speaks of offsets above the commit
   only, so one that stopped at a finished record would forget it.)
3. A commit of `committable` with `done_above` records everything that is known to be done: what is below, or in it.
4. A successor that starts at an offset which this process committed, or may have, knows all that its predecessor knew.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

_TIDY: Final = 4096
"""Finished records at the front that are worth moving the rest for; fewer than half of all never are."""


class PartitionOffsets:
    """The work of one partition: offsets are delivered in rising order and completed in any.

    Offsets may have gaps (compaction, transaction markers). A record that is delivered takes nine bytes until the
    commit can pass it: one that is stuck holds back a hundred thousand that are done.
    """

    def __init__(self, position: int, done: Iterable[int] = (), done_below: int = 0) -> None:
        """Start at `position`, the committed offset.

        Args:
            position: where reading starts.
            done: offsets above it that an earlier owner finished.
            done_below: every offset below this one is done as well, though not committed.
        """
        self.committed = position
        self.changes = 0
        """Counts what was completed: while it stays, `done_above` yields the same."""
        self._delivered = array("q")
        self._finished = bytearray()
        self._first = 0
        """Where the oldest open record stands in both."""
        self._known = {offset for offset in done if offset >= position}
        """Done by an earlier owner and not delivered yet."""
        self._done_below = max(done_below, position)
        self._unanswered: set[int] = set()
        """Offsets of commits that were sent: the broker may hold any of them, whatever became of its answers."""

    def sending(self, offset: int) -> None:
        """Note that a commit of this offset is about to be sent."""
        self._unanswered.add(offset)

    def answered(self, offset: int) -> None:
        """Note that the broker stored a commit of this offset; it replaces those sent before it."""
        self.committed = offset
        self._unanswered.clear()

    def deliver(self, offset: int) -> bool:
        """Take a record that was read, and return whether there is anything to do for it."""
        if len(self) and offset <= self._delivered[-1]:
            return False  # read twice: it waits already, or is done
        is_done = offset < self._done_below or offset in self._known
        self._known.discard(offset)
        self._delivered.append(offset)
        self._finished.append(is_done)
        if is_done:
            self._forget_finished()
        return not is_done

    def complete(self, offset: int) -> None:
        """Note that the record is synced, skipped on purpose, or stored as a dead letter."""
        place = bisect_left(self._delivered, offset, self._first)
        if place < len(self._delivered) and self._delivered[place] == offset:  # else it is no open record
            self.changes += 1
            self._finished[place] = True
            self._forget_finished()

    def committable(self, position: int) -> int:
        """Return the offset up to which everything is done, not included.

        `position` is the consumer's own: with nothing open it passes markers and gaps that no record fills, which
        the highest offset plus one would not, and the lag would never reach 0. Records at and after it that are known
        to be done are passed as well, though they were not delivered again.
        """
        if len(self):
            return self._delivered[self._first]
        offset = max(position, self.committed, self._done_below)
        while offset in self._known:
            offset += 1
        return offset

    def successor(self, offset: int, done: Iterable[int]) -> "PartitionOffsets":
        """Return the books of the next generation, which starts at `offset` with a map of what is `done` above it.

        If nobody committed since we did, what we did is still done, also where our own commits failed.
        """
        if offset != self.committed and offset not in self._unanswered:
            return PartitionOffsets(offset, done)
        return PartitionOffsets(offset, chain(done, self.done_above(offset)), self._all_done_below())

    def done_above(self, offset: int) -> Iterator[int]:
        """Yield the offsets above `offset` that are done, in no order."""
        return (done for done in chain(self._delivered_and_done(), self._known) if done > offset)

    def __len__(self) -> int:
        """Return how many delivered offsets a commit has to wait for or could now pass."""
        return len(self._delivered) - self._first

    def _delivered_and_done(self) -> Iterator[int]:
        # Asked ten times a second: it must not look at each of thousands that wait.
        place = self._finished.find(1, self._first)
        while place >= 0:
            yield self._delivered[place]
            place = self._finished.find(1, place + 1)

    def _all_done_below(self) -> int:
        return self._delivered[self._first] if len(self) else self._done_below

    def _forget_finished(self) -> None:
        first = self._finished.find(0, self._first)
        first = len(self._finished) if first < 0 else first
        if first == self._first:
            return
        self._done_below = max(self._done_below, self._delivered[first - 1] + 1)
        self._first = first
        if first == len(self._delivered) or first > max(_TIDY, len(self._delivered) // 2):
            del self._delivered[:first], self._finished[:first]
            self._first = 0
