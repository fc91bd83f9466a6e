"""Which offsets of a partition are done, and so how far a commit may go (promise P1)."""

from collections import deque
from collections.abc import Iterable, Iterator


class PartitionOffsets:
    """The work of one partition: offsets are delivered in rising order and completed in any.

    Offsets may have gaps (compaction, transaction markers). Every operation takes constant time on average.
    """

    def __init__(self, position: int, done: Iterable[int] = (), done_below: int = 0) -> None:
        """Start at `position`, the committed offset.

        Args:
            position: where reading starts.
            done: offsets above it that an earlier owner finished.
            done_below: every offset below this one is done as well, though not committed.
        """
        self.committed = position
        self._delivered: deque[int] = deque()
        self._done = {offset for offset in done if offset >= position}
        self._done_below = done_below

    def deliver(self, offset: int) -> bool:
        """Take a record that was read, and return whether there is anything to do for it."""
        self._delivered.append(offset)
        if offset >= self._done_below and offset not in self._done:
            return True
        self.complete(offset)
        return False

    def complete(self, offset: int) -> None:
        """Note that the record is synced, skipped on purpose, or stored as a dead letter."""
        self._done.add(offset)
        self._forget_finished()

    def committable(self, position: int) -> int:
        """Return the offset up to which everything is done, not included.

        `position` is the consumer's own: with nothing open it passes markers and gaps that no record fills, which
        the highest offset plus one would not, and the lag would never reach 0.
        """
        return self._delivered[0] if self._delivered else max(position, self.committed)

    def successor(self, offset: int, done: Iterable[int]) -> "PartitionOffsets":
        """Return the books of the next generation, which starts at `offset` with a map of what is `done` above it.

        If nobody committed since we did, what we did is still done, also where our own commits failed.
        """
        if offset != self.committed:
            return PartitionOffsets(offset, done)
        return PartitionOffsets(offset, {*done, *self._done}, self._all_done_below())

    def done_above(self, offset: int) -> Iterator[int]:
        """Yield the offsets above `offset` that are done, in no order."""
        return (done for done in self._done if done > offset)

    def __len__(self) -> int:
        """Return how many delivered offsets a commit has to wait for or could now pass."""
        return len(self._delivered)

    def _all_done_below(self) -> int:
        return self._delivered[0] if self._delivered else self._done_below

    def _forget_finished(self) -> None:
        while self._delivered and self._delivered[0] in self._done:
            finished = self._delivered.popleft()
            self._done.discard(finished)
            self._done_below = max(self._done_below, finished + 1)
