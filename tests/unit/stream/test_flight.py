"""What a flight checks, in which order, and what it tells whom about its writes."""

import pytest

from consumer.stream.flight import Flight, Phase, UserQueue
from consumer.stream.pending import Waiting
from consumer.sync.flight import LeaseLost


class Lease:
    generation = 3
    fresh = True

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def may_work(self, generation: int) -> bool:
        self.told.append(f"lease of {generation}")
        return self.fresh


class Watch:
    """A clock, and the writes that ended."""

    def __init__(self, told: list[str]) -> None:
        self.told = told
        self.ends: list[tuple[float, bool]] = []

    def now(self) -> float:
        self.told.append("time")
        return 42.0

    def ended(self, _flight: Flight, checked_at: float, *, answered: bool) -> None:
        self.ends.append((checked_at, answered))


class Bench:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.lease, self.watch = Lease(self.told), Watch(self.told)
        self.queue = UserQueue("kari")
        self.queue.waiting.append(Waiting(0, 5, "contract.1#update", 0.0, 0.0, is_request=False))
        self.flight = Flight(
            self.queue, self.lease, coalesce=True, wrote=lambda _flight, _audit: None, watch=self.watch
        )

    def write(self, error: Exception | None = None) -> None:
        with self.flight.sending("mailmojo", "patch_contact", writes=True):
            assert self.flight.phase is Phase.WRITING
            if error is not None:
                raise error


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_time_is_taken_before_the_lease_is_checked_so_that_a_freeze_in_between_is_seen(bench: Bench) -> None:
    bench.write()

    assert bench.told == ["time", "lease of 3"]
    assert bench.watch.ends == [(42.0, True)]


def test_a_write_belongs_to_the_generation_in_which_its_flight_began(bench: Bench) -> None:
    bench.lease.generation = 4
    bench.write()

    assert bench.told[-1] == "lease of 3"


def test_a_write_without_a_response_is_told_as_such_and_is_over(bench: Bench) -> None:
    with pytest.raises(TimeoutError):
        bench.write(TimeoutError())

    assert bench.watch.ends == [(42.0, False)]
    assert bench.flight.phase is Phase.READING


def test_without_the_lease_a_write_is_neither_begun_nor_watched(bench: Bench) -> None:
    bench.lease.fresh = False
    with pytest.raises(LeaseLost):
        bench.write()

    assert bench.watch.ends == []
    assert bench.flight.phase is Phase.WAITING


def test_a_read_needs_no_lease_and_can_be_cancelled(bench: Bench) -> None:
    bench.lease.fresh = False
    bench.flight.reading()
    with bench.flight.sending("sesamy", "get_user", writes=False):
        assert bench.flight.phase is Phase.READING

    assert bench.told == []


def test_it_takes_the_events_that_wait_when_its_first_read_begins(bench: Bench) -> None:
    bench.flight.reading()
    bench.queue.waiting.append(Waiting(0, 6, "contract.1#update", 0.0, 0.0, is_request=False))
    bench.write()

    assert [event.offset for event in bench.flight.events] == [5]
    assert [event.offset for event in bench.queue.waiting] == [6]
