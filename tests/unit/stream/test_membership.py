import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.stream.membership import Membership


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def membership(clock: Hand) -> Membership:
    member = Membership(30, clock)
    member.join()
    member.start({0, 1})
    return member


def renew(membership: Membership) -> None:
    membership.renew(membership.now())


def test_before_its_first_commit_a_generation_may_commit_and_not_work(membership: Membership) -> None:
    assert membership.may_commit
    assert not membership.may_work(membership.generation)
    assert membership.lease_remaining() == 0
    assert not membership.lapsed


def test_a_commit_is_a_lease_from_the_moment_it_was_sent(membership: Membership, clock: Hand) -> None:
    sent_at = membership.now()
    clock.now += 4
    membership.renew(sent_at)

    assert membership.lease_remaining() == membership.lease_duration - 4
    assert membership.may_work(membership.generation)


@given(st.floats(0.5, 600))
def test_a_write_that_starts_at_the_last_moment_lands_within_the_session(session: float) -> None:
    clock = Hand()
    membership = Membership(session, clock)

    assert membership.lease_duration > 0
    assert membership.lease_duration + membership.write_timeout < session
    assert 0 < membership.write_timeout <= 5


def test_with_the_default_session_a_lease_lasts_24_seconds() -> None:
    membership = Membership(30, Hand())

    assert (membership.lease_duration, membership.write_timeout) == (24, 5)


@pytest.mark.parametrize(("passed", "works"), [(23.9, True), (24, False), (10_000, False)])
def test_nothing_starts_nor_is_committed_once_the_lease_ran_out(
    membership: Membership, clock: Hand, passed: float, works: bool
) -> None:
    renew(membership)
    clock.now += passed

    assert membership.may_work(membership.generation) is works
    assert membership.may_commit is works
    assert membership.lapsed is not works
    assert membership.lease_remaining() >= 0


def test_without_any_commit_the_first_may_not_come_later_than_a_lease_would_last(
    membership: Membership, clock: Hand
) -> None:
    clock.now += membership.lease_duration

    assert not membership.may_commit
    assert membership.lapsed


def test_the_time_for_the_first_commit_counts_from_the_start_of_the_work(clock: Hand) -> None:
    membership = Membership(30, clock)
    membership.join()
    clock.now += 600  # no partition had a leader
    assert (membership.lapsed, membership.may_commit) == (False, False)

    membership.start({1})
    assert (membership.lapsed, membership.may_commit) == (False, True)
    assert not membership.may_work(membership.generation)
    clock.now += 20
    membership.start({0})
    assert membership.partitions == {0, 1}
    clock.now += 4  # a partition that comes later does not renew anything
    assert membership.lapsed


def test_who_is_expelled_neither_works_nor_commits(membership: Membership) -> None:
    renew(membership)
    membership.expel()

    assert not membership.may_work(membership.generation)
    assert not membership.may_commit
    assert membership.lapsed


def test_a_new_generation_ends_the_work_of_the_one_before(membership: Membership, clock: Hand) -> None:
    renew(membership)
    before = membership.generation
    membership.join()
    membership.start({0, 1})
    assert not membership.may_work(membership.generation)
    renew(membership)

    assert membership.may_work(membership.generation)
    assert not membership.may_work(before)


def test_who_left_neither_works_nor_commits_nor_needs_to_join_anew(membership: Membership, clock: Hand) -> None:
    renew(membership)
    generation = membership.generation
    membership.leave()
    clock.now += 1000

    assert not membership.may_work(generation)
    assert not membership.may_commit
    assert not membership.lapsed
    assert not membership.partitions


def test_a_member_with_no_partition_has_nothing_to_lose(membership: Membership, clock: Hand) -> None:
    membership.join()
    clock.now += 1000

    assert not membership.lapsed
    assert not membership.may_commit
