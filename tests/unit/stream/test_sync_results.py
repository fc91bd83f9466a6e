import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.stream import offset_map, sync_results
from consumer.stream.sync_results import KEPT_SECONDS, MOST_KEPT, SyncResults

RESULTS = ("created", "updated", "unchanged", "dead_lettered", "skipped_guest", "skipped_vendor")
BOUND = offset_map.BOUND


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def told(results: SyncResults, committed: int = 5, metadata: str = "", bound: int = BOUND) -> dict[int, str]:
    return sync_results.read(results.attached(0, committed, metadata, bound), committed)


def own(results: SyncResults, found: dict[int, dict[int, str]]) -> None:
    """Begin a generation with these partitions and the results found in their commits."""
    results.begin(found.keys())
    for partition, known in found.items():
        results.start(partition, known)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def results(clock: Clock) -> SyncResults:
    results = SyncResults(clock)
    own(results, {0: {}, 1: {}})
    return results


@given(st.dictionaries(st.integers(0, 2**62), st.sampled_from(RESULTS), max_size=40), st.integers(0, 2**62))
def test_results_are_read_back_from_the_metadata(found: dict[int, str], committed: int) -> None:
    metadata = f"v1:{committed}::{sync_results.encode(found.items())}"
    assert sync_results.read(metadata, committed) == found
    assert offset_map.decode(metadata, committed) == frozenset()


def test_the_map_of_completed_offsets_stands_beside_the_results(results: SyncResults) -> None:
    results.expect(0, 9)
    results.note(0, 9, "updated")
    metadata = results.attached(0, 5, offset_map.encode(5, [7, 9]), BOUND)
    assert sync_results.read(metadata, 5) == {9: "updated"}
    assert offset_map.decode(metadata, 5) == {7, 9}


def test_only_what_was_asked_for_is_told(results: SyncResults) -> None:
    results.expect(1, 3)
    results.note(0, 3, "created")
    assert results.attached(0, 5, "", BOUND) == ""


def test_results_made_for_another_commit_say_nothing() -> None:
    assert sync_results.read("v1:5::9c", 6) == {}
    assert sync_results.read("", 0) == sync_results.read("anything:5::9c", 5) == {}


def test_a_result_of_a_later_version_is_left_out() -> None:
    assert sync_results.read("v1:5::9z1c", 5) == {10: "created"}


def test_results_are_forgotten_after_a_while(results: SyncResults, clock: Clock) -> None:
    results.expect(0, 9)
    results.note(0, 9, "unchanged")
    clock.now += KEPT_SECONDS - 1
    assert told(results) == {9: "unchanged"}
    clock.now += 1
    assert results.attached(0, 5, "", BOUND) == ""


def test_the_latest_results_that_fit_are_kept_and_the_map_is_never_cut(results: SyncResults) -> None:
    for offset in range(10_000_000, 10_000_000 + 2 * MOST_KEPT):
        results.expect(0, offset)
        results.note(0, offset, "created")
    assert max(told(results)) == 10_000_000 + 2 * MOST_KEPT - 1
    assert len(told(results)) == MOST_KEPT
    few = told(results, bound=100)
    assert max(few) == max(told(results))
    assert 5 < len(few) < 50
    full = offset_map.encode(5, [7])
    assert results.attached(0, 5, full, len(full) + 2) == full


def test_results_go_on_with_the_next_owner_of_the_partition(results: SyncResults, clock: Clock) -> None:
    results.expect(0, 9)
    results.note(0, 9, "updated")
    successor = SyncResults(clock)
    own(successor, {0: sync_results.read(results.attached(0, 5, "", BOUND), 5)})
    assert told(successor, committed=30) == {9: "updated"}


def test_results_of_a_partition_that_went_away_are_forgotten(results: SyncResults) -> None:
    results.expect(0, 9)
    results.note(0, 9, "updated")
    own(results, {1: {}})
    own(results, {0: {}, 1: {}})
    assert told(results) == {}
