"""Why dead letters cannot be stored and since when, for people: in the log once a minute, and as a reason not ready."""

from collections.abc import Callable
from typing import Final

import structlog
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    KafkaConnectionError,
    KafkaStorageError,
    KafkaTimeoutError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderForPartitionError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownError,
    UnknownTopicOrPartitionError,
)
from msgspec import Struct

from consumer.clock import Clock

_log = structlog.get_logger("dead_letters")

_LOG_EVERY: Final = 60.0
_FORGOTTEN_AFTER: Final = 180.0
"""Seconds after its last attempt until a letter no longer counts: another instance has its partition now."""

_REMEMBERED: Final = 1000
"""Letters that are waiting to be stored; more of them change nothing."""

Place = tuple[str, int, int]
"""Topic, partition and offset of a letter's record."""

_TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
_REPLICAS: Final = (NotEnoughReplicasError, NotEnoughReplicasAfterAppendError)
_NO_LEADER: Final = (NotLeaderForPartitionError, LeaderNotAvailableError)
"""Brokers that have not yet forgotten a deleted topic answer so, too."""

_FORBIDDEN: Final = (TopicAuthorizationFailedError, ClusterAuthorizationFailedError)


class Problem(Struct, frozen=True):
    """Why dead letters wait, and since when (unix seconds)."""

    reason: str
    since: float


class _Waiting(Struct):
    since: float
    last: float
    reason: str


class DeadLetterProblems:
    """Which letters could not be stored until now, and why."""

    def __init__(self, topic: str, wall_clock: Clock, explain: Callable[[BaseException], str] | None = None) -> None:
        """Speak of this dead-letter topic; `explain` puts any other failure of Kafka into words."""
        self._topic = topic
        self._wall_clock = wall_clock
        self._explain = explain or (lambda error: type(error).__name__)
        self._waiting: dict[Place, _Waiting] = {}
        self._logged_at = float("-inf")
        self._attempts = 0

    @property
    def current(self) -> Problem | None:
        """The problem of the letter that has waited longest; None while every letter is stored."""
        now = self._wall_clock()
        waiting = [it for it in self._waiting.values() if now - it.last < _FORGOTTEN_AFTER]
        oldest = min(waiting, key=lambda it: it.since, default=None)
        return None if oldest is None else Problem(oldest.reason, oldest.since)

    def stored(self, place: Place) -> None:
        """Note that this letter is stored."""
        if self._waiting.pop(place, None) is not None and not self._waiting:
            self._logged_at = float("-inf")
            _log.info("dead_letter.stored_after_failures", topic=self._topic, failures=self._attempts)
            self._attempts = 0

    def failed(self, place: Place, error: BaseException, *, has_key: bool) -> None:
        """Note that this letter could not be stored. One line a minute tells of all of them."""
        now = self._wall_clock()
        reason = self._in_words(error, has_key=has_key)
        found = self._waiting.get(place)
        if found is not None:
            found.last, found.reason = now, reason
        else:
            if len(self._waiting) >= _REMEMBERED:
                self._forget(now)
            if len(self._waiting) < _REMEMBERED:
                self._waiting[place] = _Waiting(now, now, reason)
        self._attempts += 1
        if now - self._logged_at >= _LOG_EVERY:
            self._logged_at = now
            _log.error(
                "dead_letter.not_stored",
                topic=self._topic,
                partition=place[1],
                offset=place[2],
                reason=reason,
                failures=self._attempts,
            )

    def _forget(self, now: float) -> None:
        for place in [place for place, it in self._waiting.items() if now - it.last >= _FORGOTTEN_AFTER]:
            del self._waiting[place]

    def _in_words(self, error: BaseException, *, has_key: bool) -> str:
        topic = f"topic {self._topic} (KAFKA_DEAD_LETTER_TOPIC)"
        if isinstance(error, _TOO_LARGE):
            return f"{topic} rejects even the headers of a dead letter as too large; raise its max.message.bytes"
        if isinstance(error, UnknownError) and not has_key:
            # aiokafka has no name for INVALID_RECORD.
            return (
                f"{topic} rejects a dead letter without a key, as cleanup.policy=compact does; "
                "set its cleanup.policy to delete"
            )
        if isinstance(error, _FORBIDDEN):
            return f"this user may not write to {topic}; grant it Write on the topic"
        if isinstance(error, UnknownTopicOrPartitionError | InvalidTopicError):
            return f"{topic} does not exist any more; create it"
        if isinstance(error, _NO_LEADER):
            return f"a partition of {topic} has no leader; create it if it was deleted, or start its brokers"
        if isinstance(error, _REPLICAS):
            return f"{topic} has fewer in-sync replicas than its min.insync.replicas; restore them, or lower it"
        if isinstance(error, KafkaStorageError):
            return f"a broker cannot write {topic} to its disk; look at the broker's log and disk"
        if isinstance(error, KafkaTimeoutError | KafkaConnectionError | TimeoutError):
            return f"no broker confirmed in time that {topic} has a dead letter; is the leader of its partitions up?"
        return f"{topic} does not take a dead letter: {self._explain(error)}"
