"""In which order users start: who waits for a time, who waits for a slot, and who is next.

Users that fail start behind those that did not (promise P5): one start in eight is theirs while others wait, and half
of the slots at most, since a call that fails may take its whole time-out. So they neither delay others nor starve.
"""

from heapq import heappop, heappush
from itertools import count
from typing import Final

from consumer.clock import Clock
from consumer.stream.flight import UserQueue

SHARE: Final = 8
"""While others wait, one start in so many is of a user that fails."""

_Ready = list[tuple[bool, float, int, UserQueue]]


class Line:
    """Users that wait for a time, or for a slot. Each has one place in it."""

    def __init__(self, concurrency: int, clock: Clock) -> None:
        """Order users for so many slots."""
        self.share = SHARE
        self.most_retries = max(1, concurrency // 2)
        """Slots that users which fail may have at the same time."""
        self._clock = clock
        self._delayed: list[tuple[float, int, UserQueue]] = []
        self._fresh: _Ready = []
        self._retries: _Ready = []
        self._claims = count(1)
        self._fresh_in_a_row = 0

    def add(self, queue: UserQueue, due: float) -> None:
        """Give the user a place from `due` on; one that it had is void."""
        queue.claim, queue.due = next(self._claims), due
        if due <= self._clock():
            self._make_ready(queue)
        else:
            heappush(self._delayed, (due, queue.claim, queue))

    def ripen(self) -> float | None:
        """Move on who has waited long enough; return in how many seconds the next one has, None if nobody waits."""
        now = self._clock()
        while self._delayed and (self._delayed[0][0] <= now or self._delayed[0][1] != self._delayed[0][2].claim):
            _, claim, queue = heappop(self._delayed)
            if claim == queue.claim:
                self._make_ready(queue)
        return max(0.0, self._delayed[0][0] - now) if self._delayed else None

    def first(self, retries: int) -> UserQueue | None:
        """Return who is next, who keeps its place.

        Args:
            retries: slots that users which fail have now.
        """
        fresh = _head(self._fresh)
        retry = _head(self._retries) if retries < self.most_retries else None
        if fresh is None or retry is None:
            return fresh or retry
        if fresh.waiting.only_requests != retry.waiting.only_requests:
            return retry if fresh.waiting.only_requests else fresh
        return retry if self._fresh_in_a_row >= self.share - 1 else fresh

    def yields(self, queue: UserQueue) -> bool:
        """Return whether the user, who is next, starts only when nobody waits for permits.

        Requests do, and users that fail, unless it is their turn: each would make others wait in that line.
        """
        its_turn = _head(self._fresh) is not None and self._fresh_in_a_row >= self.share - 1
        return queue.waiting.only_requests or (queue.retried and not its_turn)

    def take(self, queue: UserQueue) -> None:
        """Remove the user, who starts."""
        self.withdraw(queue)
        self._fresh_in_a_row = 0 if queue.retried else self._fresh_in_a_row + 1

    def withdraw(self, queue: UserQueue) -> None:
        """Remove the user, who cannot start."""
        queue.claim = 0

    def clear(self) -> None:
        """Forget everybody."""
        self._delayed.clear()
        self._fresh.clear()
        self._retries.clear()

    def delayed(self) -> list[UserQueue]:
        """Return who waits for a time."""
        return [queue for _, claim, queue in self._delayed if claim == queue.claim]

    def ready(self) -> int:
        """Return how many users wait for a slot."""
        return sum(claim == queue.claim for heap in (self._fresh, self._retries) for _, _, claim, queue in heap)

    def _make_ready(self, queue: UserQueue) -> None:
        heap = self._retries if queue.retried else self._fresh
        heappush(heap, (queue.waiting.only_requests, queue.waiting.first_arrival, queue.claim, queue))


def _head(heap: _Ready) -> UserQueue | None:
    while heap and heap[0][2] != heap[0][3].claim:
        heappop(heap)
    return heap[0][3] if heap else None
