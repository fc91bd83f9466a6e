"""The last writes and dead letters, for the page: what the log says of them, and as little of the person."""

from collections import deque
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from consumer.clock import Clock
from consumer.masking import mask_addresses
from consumer.stream.dead_letters import DeadLetters, Letter, Reason
from consumer.stream.flight import Flight
from consumer.stream.worker import log_audit
from consumer.sync.flight import WriteAudit

_KEPT: Final = 30
_KEY_BYTES: Final = 1000
_NAMES: Final = 40
"""Names of tags or fields told of one write at the most."""


class _Write(Struct, frozen=True, kw_only=True):
    at: float
    user_id: str
    audit: WriteAudit
    partition: int
    offset: int
    events: int

    def told(self) -> dict[str, Any]:
        return {
            "at": self.at,
            "user_id": mask_addresses(self.user_id),
            "partition": self.partition,
            "offset": self.offset,
            "events": self.events,
            "action": self.audit.action,
            "fields": self.audit.fields[:_NAMES],
            "tags_added": [mask_addresses(tag) for tag in self.audit.tags_added[:_NAMES]],
            "tags_removed": [mask_addresses(tag) for tag in self.audit.tags_removed[:_NAMES]],
        }


class _DeadLetter(Struct, frozen=True, kw_only=True):
    at: float
    reason: Reason
    error: str
    key: str
    partition: int
    offset: int
    attempts: int

    def told(self) -> dict[str, Any]:
        return asdict(self) | {"error": mask_addresses(self.error)[:200], "key": mask_addresses(self.key)[:80]}


class Recent:
    """Remembers the last few of each, newest first; what is told is masked."""

    def __init__(self, wall_clock: Clock) -> None:
        self._wall_clock = wall_clock
        self._writes: deque[_Write] = deque(maxlen=_KEPT)
        self._letters: deque[_DeadLetter] = deque(maxlen=_KEPT)

    def wrote(self, flight: Flight, audit: WriteAudit) -> None:
        """Log and remember one accepted write."""
        log_audit(flight, audit)
        newest = flight.events[-1]
        self._writes.appendleft(
            _Write(
                at=self._wall_clock(),
                user_id=flight.user_id,
                audit=audit,
                partition=newest.partition,
                offset=newest.offset,
                events=len(flight.events),
            )
        )

    def stored(self, letter: Letter, reason: Reason, error: str, attempts: int) -> None:
        """Remember one stored dead letter."""
        self._letters.appendleft(
            _DeadLetter(
                at=self._wall_clock(),
                reason=reason,
                error=error,
                key=(letter.key or b"")[:_KEY_BYTES].decode(errors="replace"),
                partition=letter.partition,
                offset=letter.offset,
                attempts=attempts,
            )
        )

    def told(self) -> dict[str, list[dict[str, Any]]]:
        """Return both lists as the page shows them."""
        return {
            "recent_writes": [write.told() for write in self._writes],
            "recent_dead_letters": [letter.told() for letter in self._letters],
        }


class RememberedDeadLetters:
    """Dead letters that are stored where they always were, and remembered. Implements `DeadLetters`."""

    def __init__(self, inner: DeadLetters, recent: Recent) -> None:
        self._inner = inner
        self._recent = recent

    async def store(self, letter: Letter, reason: Reason, error: str, attempts: int) -> None:
        """Store as the inner one does, and raise as it does."""
        await self._inner.store(letter, reason, error, attempts)
        self._recent.stored(letter, reason, error, attempts)
