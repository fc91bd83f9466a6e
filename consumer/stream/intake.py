"""What happens to one record: it lines up behind its user's events, is skipped, or is a dead letter."""

import math
from collections.abc import Callable
from typing import Final

import structlog
from aiokafka import ConsumerRecord
from msgspec import structs

from consumer.clock import Clock
from consumer.ops.tracing import Carried, Headers
from consumer.records.fetching import UndecodableRecord
from consumer.stream.ledger import NO_EVENT_TYPE, UNKNOWN_EVENT_TYPE, Ledger
from consumer.stream.malformed import MalformedRecords
from consumer.stream.pending import TracedEvent, Waiting
from consumer.stream.user_queues import UserQueues
from schemas.events import REPORT_HEADER, STANDARD_EVENT_TYPES, SYNC_REQUEST, MalformedEvent, decode_event

_log = structlog.get_logger("intake")

_KNOWN_TYPES: Final = {name: name for name in (*STANDARD_EVENT_TYPES, SYNC_REQUEST)}
"""By name the one text that all waiting events of a type share: each record brings a copy of its own."""

_MOMENT: Final = 0.001
"""Seconds within which records count as read at the same time, and share it: a million waiting ones do not fit else."""

_NO_AGE: Final = math.inf
"""The time of a record without one: old message formats give None, some producers -1."""

Record = ConsumerRecord[bytes, bytes]


class Intake:
    """Decides on each record once, in the order of its partition (`docs/contract.md`, the topic)."""

    def __init__(
        self,
        queues: UserQueues,
        ledger: Ledger,
        malformed: MalformedRecords,
        *,
        vendor_id: str | None,
        value_pointer: str | None,
        clock: Clock,
        carried: Callable[[Headers], Carried | None] | None = None,
    ) -> None:
        """Take records for these; with `vendor_id`, events of other vendors are skipped.

        `carried` finds the trace context in a record's headers, where somebody traces: what waits keeps it.
        """
        self._queues = queues
        self._ledger = ledger
        self._malformed = malformed
        self._vendor_id = vendor_id
        self._value_pointer = value_pointer or ""
        self._clock = clock
        self._carried = carried
        self._now = -math.inf

    def take(self, record: Record, generation: int) -> None:
        """Take a record that was read in this generation."""
        if not self._ledger.deliver(record.partition, record.offset):
            return
        if isinstance(record, UndecodableRecord):  # before all else: it looks like a tombstone
            self._undecodable(record, generation)
            return
        if record.value is None:
            self._skip(record, generation, NO_EVENT_TYPE, "skipped_tombstone")
            return
        try:
            event = decode_event(record.value, self._value_pointer)
        except MalformedEvent as error:
            self._malformed.put(record, self._waiting(record, NO_EVENT_TYPE), generation, str(error))
            return
        event_type = _KNOWN_TYPES.get(event.event_type)
        if event_type == SYNC_REQUEST and any(name == REPORT_HEADER for name, _ in record.headers):
            self._ledger.expect(record.partition, record.offset)
        if event_type is None:
            self._skip(record, generation, UNKNOWN_EVENT_TYPE, "skipped_type")
        elif self._vendor_id is not None and event.vendor_id != self._vendor_id:
            self._skip(record, generation, event_type, "skipped_vendor")
        else:
            waiting = self._waiting(record, event_type)
            if self._carried is not None and record.headers and (found := self._carried(record.headers)):
                waiting = TracedEvent(**structs.asdict(waiting), carried=found)
            self._queues.put(event.user_id, waiting)

    def _undecodable(self, record: UndecodableRecord, generation: int) -> None:
        _log.error(
            "record.undecodable",
            partition=record.partition,
            offset=record.offset,
            last_offset=record.last_offset,
            error=record.error,
        )
        self._malformed.put(record, self._waiting(record, NO_EVENT_TYPE), generation, record.reason)

    def _skip(self, record: Record, generation: int, event_type: str, outcome: str) -> None:
        self._ledger.done(generation, self._waiting(record, event_type), outcome)

    def _waiting(self, record: Record, event_type: str) -> Waiting:
        now = self._clock()
        if now - self._now >= _MOMENT:
            self._now = now
        return Waiting(
            record.partition,
            record.offset,
            event_type,
            record.timestamp / 1000 if (record.timestamp or -1) > 0 else _NO_AGE,
            self._now,
            event_type == SYNC_REQUEST,
        )
