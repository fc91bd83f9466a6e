import json
from collections.abc import Sequence

import pytest
from aiokafka import ConsumerRecord

from consumer.ops.metrics import Metrics
from consumer.records.fetching import UndecodableRecord
from consumer.stream import sync_results
from consumer.stream.dead_letters import Letter, Reason
from consumer.stream.intake import Intake
from consumer.stream.ledger import Ledger
from consumer.stream.malformed import MalformedRecords
from consumer.stream.user_queues import UserQueues
from schemas.events import REPORT_HEADER

EVENT = {"eventType": "contract.1#update", "vendorId": "vendor_1", "userId": "email|1"}


class Bench:
    generation = 1

    def __init__(self, vendor_id: str | None = None, value_pointer: str | None = None) -> None:
        self.metrics = Metrics()
        self.ledger = Ledger(self.metrics, lambda: 100.0)
        self.ledger.begin(1, {0: (0, "")})
        self.queues = UserQueues(self, self, concurrency=1, linger=2, coalesce=True, clock=lambda: 7.0)
        self.malformed = MalformedRecords(self, self.ledger)
        self.intake = Intake(
            self.queues,
            self.ledger,
            self.malformed,
            vendor_id=vendor_id,
            value_pointer=value_pointer,
            clock=lambda: 7.0,
        )
        self.taken = 0

    def may_work(self, generation: int) -> bool:
        return True

    stopped = False

    async def store(self, letter: Letter, reason: Reason, error: str, attempts: int) -> None:
        """Never called: nothing runs."""

    def take(self, value: object, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        data = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        self.intake.take(ConsumerRecord("t", 0, self.taken, 99_000, 0, b"k", data, 0, 1, 1, headers), 1)
        self.taken += 1

    @property
    def committable(self) -> int:
        return self.ledger.commit_plan({0: self.taken})[0][0]

    def events(self, event_type: str, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "sesamy_mailmojo_events_total", {"type": event_type, "outcome": outcome}
        )


def test_an_event_lines_up_behind_those_of_its_user() -> None:
    bench = Bench()
    bench.take(EVENT)
    bench.take(EVENT)

    assert bench.queues.pending == 2
    assert bench.queues.oldest_arrival() == 7
    assert bench.committable == 0


def test_a_request_of_ours_is_one() -> None:
    bench = Bench()
    bench.take(EVENT | {"eventType": "sesamy-mailmojo#sync"})

    assert bench.queues._queues["email|1"].waiting[0].is_request


@pytest.mark.parametrize(
    ("value", "event_type", "outcome"),
    [
        (None, "none", "skipped_tombstone"),
        (EVENT | {"eventType": "contract.2#update"}, "unknown", "skipped_type"),
        (EVENT | {"vendorId": "vendor_2"}, "contract.1#update", "skipped_vendor"),
    ],
)
def test_what_is_skipped_is_counted_and_done(value: object, event_type: str, outcome: str) -> None:
    bench = Bench(vendor_id="vendor_1")
    bench.take(value)

    assert bench.events(event_type, outcome) == 1
    assert bench.committable == 1
    assert bench.queues.pending == 0


def test_without_a_vendor_of_ours_events_of_any_are_taken() -> None:
    bench = Bench()
    bench.take(EVENT | {"vendorId": "vendor_2"})

    assert bench.queues.pending == 1


@pytest.mark.parametrize("value", [b"", b"{", [], "text", {}, EVENT | {"userId": 7}, EVENT | {"userId": ".."}, b"\xff"])
def test_what_is_no_event_goes_to_the_dead_letters_and_holds_nothing_up(value: object) -> None:
    bench = Bench()
    bench.take(value)
    bench.take(EVENT)

    assert len(bench.malformed) == 1
    assert bench.committable == 0
    assert bench.queues.pending == 1


def test_what_is_done_already_is_not_looked_at() -> None:
    bench = Bench()
    bench.ledger._partitions[0]._done_below = 2
    bench.take(EVENT)
    bench.take(b"{")
    bench.take(EVENT)

    assert len(bench.malformed) == 0
    assert bench.queues.pending == 1


def test_an_event_is_found_in_its_envelope() -> None:
    bench = Bench(value_pointer="/data")
    bench.take({"data": EVENT})
    bench.take(EVENT)

    assert bench.queues.pending == 1
    assert len(bench.malformed) == 1


@pytest.mark.parametrize("timestamp", [-1, None])  # None is what aiokafka gives for the oldest format
def test_a_record_without_a_timestamp_is_taken_and_has_no_age(timestamp: int) -> None:
    bench = Bench()
    bench.intake.take(ConsumerRecord("t", 0, 0, timestamp, 0, b"k", None, 0, 1, 1, ()), 1)

    assert bench.metrics.registry.get_sample_value("sesamy_mailmojo_event_age_seconds_sum") == 0


def test_k16_a_request_whose_vendor_is_skipped_has_that_as_its_result() -> None:
    bench = Bench(vendor_id="vendor_1")
    request = EVENT | {"eventType": "sesamy-mailmojo#sync"}
    bench.take(request | {"vendorId": "vendor_2"}, headers=[(REPORT_HEADER, b"1")])
    bench.take(request | {"vendorId": "vendor_2"})  # as `backfill` asks: nobody waits for the result

    offset, metadata = bench.ledger.commit_plan({0: bench.taken})[0]

    assert sync_results.read(metadata, offset) == {0: "skipped_vendor"}


def test_k1_a_record_that_cannot_be_decoded_is_malformed_and_no_tombstone() -> None:
    bench = Bench()
    marks = ("t", 0, 0, -1, 0, None, None, None, -1, -1, ())
    bench.intake.take(UndecodableRecord(*marks, last_offset=4, error="its checksum is wrong"), 1)

    assert bench.committable == 0
    (malformed,) = bench.malformed._records
    assert (malformed.letter.key, malformed.letter.value, malformed.letter.truncated) == (None, None, True)
    assert malformed.error == "the batch with offsets 0 to 4 cannot be decoded: its checksum is wrong"
    assert bench.events("none", "skipped_tombstone") is None
