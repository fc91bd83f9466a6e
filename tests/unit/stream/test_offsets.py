"""The books of one partition against a model that remembers everything."""

import tracemalloc

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from consumer.stream import offset_map
from consumer.stream.offsets import PartitionOffsets


def test_a_commit_waits_for_the_lowest_open_record() -> None:
    books = PartitionOffsets(10)
    assert [books.deliver(offset) for offset in (10, 13, 14)] == [True, True, True]

    books.complete(14)
    assert books.committable(15) == 10
    books.complete(10)
    assert books.committable(15) == 13
    assert set(books.done_above(13)) == {14}
    books.complete(13)
    assert books.committable(15) == 15


def test_with_nothing_open_the_position_passes_markers_and_gaps() -> None:
    books = PartitionOffsets(10)
    books.deliver(10)
    books.complete(10)

    assert books.committable(17) == 17
    assert books.committable(3) == 11  # a position that is behind takes no commit back


def test_what_the_map_says_is_done_is_not_done_again() -> None:
    books = PartitionOffsets(5, done=[6, 9])

    assert [books.deliver(offset) for offset in (5, 6, 7)] == [True, False, True]
    books.complete(5)
    assert books.committable(8) == 7
    assert set(books.done_above(7)) == {9}


def test_the_next_generation_keeps_what_a_failed_commit_could_not_store() -> None:
    books = PartitionOffsets(0)
    for offset in range(5):
        books.deliver(offset)
    for offset in (0, 1, 3):
        books.complete(offset)

    successor = books.successor(0, [])

    assert [successor.deliver(offset) for offset in range(6)] == [False, False, True, False, True, True]


def test_a_commit_of_somebody_else_ends_what_was_remembered() -> None:
    books = PartitionOffsets(0)
    books.deliver(0)
    books.deliver(1)
    books.complete(1)

    assert books.successor(1, []).deliver(1)


def test_k10_a_poll_that_ends_just_before_a_record_known_as_done_commits_past_it() -> None:
    books = PartitionOffsets(5, done=[6, 7, 9])
    books.deliver(5)
    books.complete(5)

    offset = books.committable(6)
    assert (offset, set(books.done_above(offset))) == (8, {9})
    assert [books.deliver(place) for place in (6, 7, 8)] == [False, False, True]


def test_k10_a_partition_of_which_nothing_was_read_again_commits_what_was_done_before() -> None:
    books = PartitionOffsets(0)
    for offset in range(4):
        books.deliver(offset)
    for offset in (0, 1, 3):
        books.complete(offset)

    successor = books.successor(0, [])

    offset = successor.committable(0)
    assert (offset, set(successor.done_above(offset))) == (2, {3})


@pytest.mark.parametrize("answered", [True, False])
def test_k10_a_commit_of_ours_whose_answer_was_lost_is_not_one_of_somebody_else(answered: bool) -> None:
    books = PartitionOffsets(0)
    for offset in range(4):
        books.deliver(offset)
    books.complete(0)
    books.sending(1)
    if answered:
        books.answered(1)
    books.complete(1)
    books.complete(3)

    successor = books.successor(1, [])

    assert [successor.deliver(offset) for offset in (1, 2, 3)] == [False, True, False]


def test_what_is_completed_twice_or_read_twice_counts_once() -> None:
    books = PartitionOffsets(0)
    for offset in (0, 2, 4):
        books.deliver(offset)
    books.complete(0)

    books.complete(0)
    books.complete(3)
    assert books.committable(5) == 2
    assert list(books.done_above(0)) == []
    assert not books.deliver(4)
    books.complete(2)
    books.complete(4)
    assert books.committable(5) == 5


def test_what_one_open_record_holds_back_takes_ten_bytes_a_record() -> None:
    tracemalloc.start()
    books = PartitionOffsets(0)
    for offset in range(100_000):
        books.deliver(offset)
    for offset in range(1, 100_000):
        books.complete(offset)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(books) == 100_000
    assert held < 10 * 100_000 * 9 / 8, "what the arrays hold in reserve included"


def test_a_long_run_forgets_what_was_committed() -> None:
    books = PartitionOffsets(0)
    for offset in range(20_000):
        books.deliver(offset)
        if offset >= 100:
            books.complete(offset - 100)
    assert len(books) == 100
    assert books.committable(20_000) == 19_900
    assert len(books._delivered) < 10_000


class Books(RuleBasedStateMachine):
    """A partition with gaps, read, done, committed and reassigned in any order, by this process and by others."""

    @initialize(gaps=st.lists(st.integers(1, 4), min_size=1, max_size=60), first=st.integers(0, 5))
    def start(self, gaps: list[int], first: int) -> None:
        self.log = [first]
        for gap in gaps:
            self.log.append(self.log[-1] + gap)
        self.done: set[int] = set()
        """What is done, by whomever: booked and not forgotten by a crash."""
        self.stored = (first, "")
        """What the broker holds."""
        self.begin(PartitionOffsets(first))

    def begin(self, books: PartitionOffsets) -> None:
        self.books = books
        self.open: list[int] = []
        self.sent = {self.stored[0]}
        """The offsets that this process committed, heard the broker's answer or not."""
        self.position = self.stored[0]

    @property
    def unread(self) -> list[int]:
        return [offset for offset in self.log if offset >= self.position]

    @precondition(lambda self: self.unread)
    @rule(count=st.integers(1, 8))
    def read(self, count: int) -> None:
        for offset in self.unread[:count]:
            to_do = self.books.deliver(offset)
            assert to_do == (offset not in self.done)
            if to_do:
                self.open.append(offset)
            self.position = offset + 1

    @precondition(lambda self: not self.unread)
    @rule()
    def pass_a_marker(self) -> None:
        self.position += 1

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(self.open))
        self.open.remove(offset)
        self.books.complete(offset)
        self.done.add(offset)

    @rule(lost=st.sampled_from(["", "request", "answer"]))
    def commit(self, lost: str) -> None:
        offset = self.books.committable(self.position)
        plan = (offset, offset_map.encode(offset, self.books.done_above(offset)))
        self.books.sending(offset)
        self.sent.add(offset)
        if lost != "request":
            self.stored = plan
        if not lost:
            self.books.answered(offset)

    @rule()
    def reassign(self) -> None:
        offset, metadata = self.stored
        ours = self.done if offset in self.sent else set()
        self.begin(self.books.successor(offset, offset_map.decode(metadata, offset)))
        self.done = ours | self.recorded(offset, metadata)

    @rule()
    def crash(self) -> None:
        offset, metadata = self.stored
        self.begin(PartitionOffsets(offset, offset_map.decode(metadata, offset)))
        self.done = self.recorded(offset, metadata)

    @rule(count=st.integers(0, 5))
    def be_owned_by_somebody_else_between(self, count: int) -> None:
        offset, metadata = self.stored
        other = PartitionOffsets(offset, offset_map.decode(metadata, offset))
        theirs = [place for place in self.log if place >= offset][:count]
        for place in theirs:
            if other.deliver(place):
                other.complete(place)
        position = theirs[-1] + 1 if theirs else offset
        self.stored = (position, offset_map.encode(position, other.done_above(position)))
        self.reassign()

    def recorded(self, offset: int, metadata: str) -> set[int]:
        return {done for done in self.log if done < offset} | offset_map.decode(metadata, offset)

    @invariant()
    def a_commit_never_passes_an_open_record(self) -> None:
        offset = self.books.committable(self.position)
        assert all(record in self.done for record in self.log if record < offset)
        assert set(self.books.done_above(offset)) <= self.done

    @invariant()
    def a_commit_never_waits_for_what_is_done(self) -> None:
        offset = self.books.committable(self.position)
        assert offset >= min(self.open, default=self.position)
        assert offset not in self.done

    @invariant()
    def a_commit_forgets_nothing_that_is_done(self) -> None:
        offset = self.books.committable(self.position)
        recorded = {done for done in self.log if done < offset} | set(self.books.done_above(offset))
        assert {done for done in self.done if done >= self.books.committed} <= recorded


TestBooks = Books.TestCase


def test_an_operator_who_resets_the_group_to_an_earlier_commit_has_everything_done_again() -> None:
    books = PartitionOffsets(0)
    for offset in range(4):
        books.deliver(offset)
        books.complete(offset)
        books.sending(offset + 1)
        books.answered(offset + 1)
    successor = books.successor(2, [])

    assert [successor.deliver(offset) for offset in (2, 3, 4)] == [True, True, True]
