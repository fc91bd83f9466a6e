"""Events of users that fail: they wait beside the window of `sync.max_pending`, within bytes of their own.

Else a few users that fail would fill that window, and all others would wait for them (promises P5, P7).
"""

from typing import Final

from consumer.stream.flight import UserQueue
from consumer.stream.pending import ROW_BYTES

BYTES: Final = 32 * 1024 * 1024
"""What they may take in all; beyond, they count against the window as all others do."""

USER_BYTES: Final = 600
"""What a user takes beside its id and its events (measured: `tests/unit/stream/test_memory.py`)."""

_EASED_AT: Final = 0.7


class Aside:
    """How much waits for users that fail."""

    def __init__(self, most_bytes: int = BYTES) -> None:
        self.events = 0
        self.is_full = False
        """Whether it is more than it may be, or was and is not well below that yet."""
        self._bytes = 0
        self._most = most_bytes

    def add(self, queue: UserQueue) -> None:
        """Count a user's events here."""
        self.events += queue.size
        self._bytes += _bytes_of(queue)
        self.is_full = self.is_full or self._bytes > self._most

    def remove(self, queue: UserQueue) -> None:
        """Count them here no more; called before anything about the user changes."""
        self.events -= queue.size
        self._bytes -= _bytes_of(queue)
        self.is_full = self.is_full and self._bytes > self._most * _EASED_AT

    def clear(self) -> None:
        """Count nothing."""
        self.events = self._bytes = 0
        self.is_full = False


def _bytes_of(queue: UserQueue) -> int:
    return USER_BYTES + len(queue.user_id) + queue.size * ROW_BYTES
