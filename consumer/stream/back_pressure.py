"""Stops the fetching while too much waits (promise P7)."""

from collections.abc import Iterable
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from consumer.stream.ledger import Ledger
from consumer.stream.malformed import MalformedRecords
from consumer.stream.offset_map import SPAN
from consumer.stream.user_queues import UserQueues

_RESUME_AT: Final = 0.7
_MALFORMED_BYTES: Final = 16 * 1024 * 1024


class BackPressure:
    """Pauses above a bound and resumes well below it, since a pause throws away what was fetched.

    Everything is paused while too much waits; a partition alone, while one open record holds back more than the
    offset map can speak of.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        queues: UserQueues,
        malformed: MalformedRecords,
        ledger: Ledger,
        *,
        max_pending: int,
    ) -> None:
        """Keep about `max_pending` events waiting."""
        self._consumer = consumer
        self._queues = queues
        self._malformed = malformed
        self._ledger = ledger
        self._max_pending = max_pending
        self._paused: set[TopicPartition] = set()

    def begin(self) -> None:
        """Begin a generation: a rebalance forgets the pauses."""
        self._paused = set()

    def room(self) -> int:
        """Return how many more events may wait, at least 1: one fetch can hold thousands of each partition."""
        return max(1, self._max_pending - self._waiting())

    def apply(self, places: Iterable[TopicPartition]) -> None:
        """Pause or resume these partitions as the queues demand."""
        waiting = self._waiting()
        full = waiting >= self._max_pending or self._malformed.bytes_waiting > _MALFORMED_BYTES
        eased = not full and waiting <= self._max_pending * _RESUME_AT
        for place in places:
            span = self._ledger.span(place.partition)
            if place not in self._paused and (full or span >= SPAN):
                self._consumer.pause(place)
                self._paused.add(place)
            elif place in self._paused and eased and span <= SPAN * _RESUME_AT:
                self._consumer.resume(place)
                self._paused.discard(place)

    def _waiting(self) -> int:
        return self._queues.counted + len(self._malformed)
