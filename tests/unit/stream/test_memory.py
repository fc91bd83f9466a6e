"""What a waiting record takes (P7): an offset and two times, not a parsed message."""

import itertools
import json
import tracemalloc

from aiokafka import ConsumerRecord

from consumer.ops.metrics import Metrics
from consumer.stream.aside import USER_BYTES
from consumer.stream.dead_letters import Letter, Reason
from consumer.stream.intake import Intake
from consumer.stream.ledger import Ledger
from consumer.stream.malformed import MalformedRecords
from consumer.stream.pending import ROW_BYTES
from consumer.stream.user_queues import UserQueues

RECORDS, USERS = 40_000, 4_000
SECONDS_A_RECORD = 1e-5  # as measured, rounded up


class Closed:
    """Nothing may fly, and nothing is stored."""

    generation = 1

    def may_work(self, generation: int) -> bool:
        return False

    stopped = False

    async def store(self, letter: Letter, reason: Reason, error: str, attempts: int) -> None:
        raise AssertionError


def record(number: int, users: int) -> ConsumerRecord[bytes, bytes]:
    event = {"eventType": "contract.1#update", "vendorId": "vendor_1", "userId": f"email|{number % users:024x}"}
    value = json.dumps(event | {"contractId": "contract_789", "occured_at": "2025-11-10T12:00:00Z"}).encode()
    return ConsumerRecord("t", 0, number, 1_700_000_000_000 + number, 0, b"key", value, 3, len(value), 1, ())


def taken(records: int, users: int) -> tuple[UserQueues, int]:
    """Take so many records of so many users; return the queues and the bytes that they hold."""
    metrics, closed = Metrics(), Closed()
    ledger = Ledger(metrics, lambda: 0.0)
    ledger.begin(1, {0: (0, "")})
    queues = UserQueues(closed, closed, concurrency=64, linger=2, coalesce=True, clock=lambda: 0.0)
    ticks = itertools.count()
    malformed = MalformedRecords(closed, ledger)
    intake = Intake(
        queues, ledger, malformed, vendor_id=None, value_pointer=None, clock=lambda: SECONDS_A_RECORD * next(ticks)
    )
    tracemalloc.start()
    try:
        for number in range(records):
            intake.take(record(number, users), 1)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert queues.pending == records
    return queues, held


async def test_a_waiting_record_of_a_user_with_ten_takes_less_than_120_bytes() -> None:
    _, held = taken(RECORDS, USERS)
    assert held / RECORDS < 120


async def test_k13_a_record_of_a_user_with_thousands_takes_50_bytes() -> None:
    _, held = taken(RECORDS, 2)
    assert held / RECORDS < 50


async def test_k13_a_user_takes_no_more_than_is_counted_for_it() -> None:
    _, held = taken(USERS, USERS)
    assert held / USERS < USER_BYTES + len("email|") + 24 + ROW_BYTES
