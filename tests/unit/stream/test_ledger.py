import pytest

from consumer.ops.metrics import Metrics
from consumer.stream import offset_map
from consumer.stream.ledger import Ledger
from consumer.stream.pending import Waiting

NOW = 1_700_000_000.0


class Books(Ledger):
    """A ledger with its metrics at hand."""

    def __init__(self) -> None:
        self.shown = Metrics()
        super().__init__(self.shown, lambda: NOW)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.shown.registry.get_sample_value(f"sesamy_mailmojo_{name}", labels)

    def read(self, *offsets: int, partition: int = 0) -> list[bool]:
        return [self.deliver(partition, offset) for offset in offsets]

    def finish(self, *offsets: int, partition: int = 0, generation: int = 1, outcome: str = "synced") -> None:
        for offset in offsets:
            self.done(generation, event(offset, partition), outcome)


def event(offset: int, partition: int = 0, recorded_at: float = NOW - 3) -> Waiting:
    return Waiting(partition, offset, "contract.1#update", recorded_at, 0.0, False)


@pytest.fixture
def books() -> Books:
    ledger = Books()
    ledger.begin(1, {0: (10, ""), 1: (0, "")})
    return ledger


def test_every_end_is_counted_once_by_type_and_outcome(books: Books) -> None:
    books.read(10, 11, 12)
    books.finish(10, 11)
    books.finish(12, outcome="coalesced")

    assert books.metric("events_total", type="contract.1#update", outcome="synced") == 2
    assert books.metric("events_total", type="contract.1#update", outcome="coalesced") == 1
    assert books.metric("event_age_seconds_count") == 3
    assert books.metric("event_age_seconds_sum") == 9


def test_a_record_from_the_future_has_no_age(books: Books) -> None:
    books.read(10)
    books.done(1, event(10, recorded_at=NOW + 60), "synced")

    assert books.metric("event_age_seconds_sum") == 0


def test_what_is_planned_is_what_is_done(books: Books) -> None:
    books.read(10, 11, 12)
    books.read(0, 1, partition=1)
    books.finish(10, 12)
    books.finish(0, 1, partition=1)

    plan = books.commit_plan({0: 13, 1: 2})

    assert plan[1] == (2, "")
    assert plan[0][0] == 11
    assert offset_map.decode(plan[0][1], 11) == {12}


def test_a_partition_of_which_nothing_was_read_stays_where_it_was(books: Books) -> None:
    assert books.commit_plan({}) == {0: (10, ""), 1: (0, "")}


def test_what_ends_in_another_generation_is_not_booked(books: Books) -> None:
    books.read(10)
    books.close()
    books.finish(10)
    books.begin(2, {0: (10, "")})
    books.read(10)
    books.finish(10)

    assert books.commit_plan({0: 11})[0] == (10, "")
    assert books.metric("events_total", type="contract.1#update", outcome="synced") is None


def test_what_was_done_and_could_not_be_committed_is_not_done_again(books: Books) -> None:
    books.read(10, 11, 12)
    books.finish(10, 12)
    books.close()
    books.begin(2, {0: (10, "")})

    assert books.read(10, 11, 12) == [False, True, False]


def test_what_an_earlier_owner_recorded_is_not_done_again(books: Books) -> None:
    books.begin(2, {0: (20, offset_map.encode(20, [22])), 1: (0, "")})

    assert books.read(20, 21, 22) == [True, True, False]


def test_metadata_of_somebody_else_is_ignored(books: Books) -> None:
    books.begin(2, {0: (20, "v1:19:eJxj"), 1: (5, "checkpoint-7")})

    assert books.read(20) == [True]
    assert books.read(5, partition=1) == [True]


def test_the_committed_offset_is_shown(books: Books) -> None:
    books.committed({0: (12, "")})

    assert books.metric("committed_offset", partition="0") == 12


def test_work_behind_a_commit_is_a_violation(books: Books) -> None:
    books.read(10, 11)
    books.committed({0: (11, "")})  # wrongly: 10 is open
    assert books.metric("commit_violations_total") == 0

    books.finish(10)

    assert books.metric("commit_violations_total") == 1


def test_work_at_and_above_a_commit_is_none(books: Books) -> None:
    books.read(10, 11, 12)
    books.finish(10)
    books.committed({0: (11, "")})
    books.finish(11, 12)

    assert books.metric("commit_violations_total") == 0


def test_a_redelivered_lower_offset_is_no_violation(books: Books) -> None:
    books.read(10, 11)
    books.finish(10, 11)
    books.committed({0: (12, "")})
    books.close()
    books.begin(2, {0: (10, "")})  # an operator's reset

    assert books.read(10) == [True]
    books.finish(10, generation=2)
    assert books.metric("commit_violations_total") == 0


def test_a_log_without_a_commit_may_be_a_new_one_so_nothing_done_before_counts(books: Books) -> None:
    books.read(10, 11)
    books.finish(11)
    books.begin(2, {0: (10, None)})

    assert books.read(10, 11) == [True, True]


def test_p4_what_was_done_is_known_after_two_rebalances_in_a_row(books: Books) -> None:
    books.read(10, 11)
    books.finish(10)
    for generation in (2, 3):  # the partition had no leader in the second one
        books.close()
        books.begin(generation, {}, waiting={0})
    books.start(0, 10, "")

    assert books.read(10, 11) == [False, True]


def test_p4_the_map_of_a_commit_is_made_for_its_offset_also_when_nothing_was_done_since() -> None:
    ledger = Books()
    ledger.begin(1, {0: (0, offset_map.encode(0, [5]))})
    for position in (0, 2):
        offset, metadata = ledger.commit_plan({0: position})[0]

        assert (offset, offset_map.decode(metadata, offset)) == (position, frozenset({5}))


def test_p4_a_commit_tells_what_was_done_above_it_since_the_commit_before(books: Books) -> None:
    books.read(10, 11, 12)
    for done in ([11], [11, 12]):
        books.finish(done[-1])
        offset, metadata = books.commit_plan({0: 13, 1: 0})[0]

        assert (offset, offset_map.decode(metadata, offset)) == (10, frozenset(done))
