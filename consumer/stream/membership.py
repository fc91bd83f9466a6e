"""Whether this process may write: its generation in the group, and the lease that a commit renews.

aiokafka tells nobody how old its last heartbeat is, and a process that was frozen wakes up believing that it still
owns everything. But the broker accepts a commit of a living member only, so the last successful commit is a lease:
work starts while it is fresh, and nothing starts once the session may have run out.
"""

from collections.abc import Iterable
from typing import Final

from consumer.clients.session import WRITE_TIMEOUT
from consumer.clock import Clock

_MARGIN: Final = 1.0
"""Seconds between the last write that may land and the end of the session, for timers that fire late."""


class Membership:
    """The generation a flight belongs to and the lease under which it may write.

    The clock must count suspended time (`consumer.clock.suspended_time`).
    """

    def __init__(self, session_timeout: float, clock: Clock) -> None:
        self.generation = 0
        self.partitions: frozenset[int] = frozenset()
        # A short session leaves less time to write, too: there must be a lease to write under.
        self.write_timeout = min(WRITE_TIMEOUT, session_timeout / 2)
        self.late_after = self.write_timeout + min(_MARGIN, session_timeout / 10)
        """Seconds from the check of the lease after which a write may have outlived the session."""
        self.lease_duration = session_timeout - self.late_after
        self._clock = clock
        self._renewed_at: float | None = None
        self._started_at = clock()

    def now(self) -> float:
        """Return the time to hand to `renew` when a commit is about to start."""
        return self._clock()

    def join(self) -> None:
        """Begin a generation, without partitions and without a lease."""
        self.generation += 1
        self.partitions = frozenset()
        self._renewed_at = None

    def start(self, partitions: Iterable[int]) -> None:
        """Begin to work on these partitions too. There is no lease until the generation's first commit.

        The time until that commit counts from here, not from the assignment: a partition may have to wait for its
        leader. That is safe because it is the commit that gives the lease, and the broker accepts a commit of this
        member and generation (`Committer` sends no other) only as long as the assignment holds.
        """
        if not self.partitions:
            self._started_at = self._clock()
        self.partitions |= frozenset(partitions)

    @property
    def may_commit(self) -> bool:
        """Whether a commit may be sent.

        Not once the lease ran out: a process that was frozen would commit beside its successor, and a group that has
        become empty takes a commit of anybody (measured: it rewound the group).
        """
        return bool(self.partitions) and (
            self.lease_remaining() > 0
            if self._renewed_at is not None
            else self._clock() < self._started_at + self.lease_duration
        )

    def leave(self) -> None:
        """End the generation: what still belongs to it counts for nothing from here on."""
        self.join()

    def expel(self) -> None:
        """Take the broker's word that this process is no member: the lease is over at once."""
        self._renewed_at = float("-inf")

    def renew(self, commit_started_at: float) -> None:
        """Take a commit that succeeded as proof of membership at the moment it was sent."""
        self._renewed_at = commit_started_at

    def lease_remaining(self) -> float:
        """Return for how many seconds work may still start; 0 without a lease."""
        if self._renewed_at is None:
            return 0.0
        return max(0.0, self._renewed_at + self.lease_duration - self._clock())

    @property
    def lapsed(self) -> bool:
        """Whether this generation can no longer get a lease: the group must be joined anew."""
        return bool(self.partitions) and not self.may_commit

    def may_work(self, generation: int) -> bool:
        """Return whether a flight of that generation may start a write now."""
        return generation == self.generation and self.lease_remaining() > 0
