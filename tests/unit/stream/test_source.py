"""The owner of the consumer over its real parts and a fake group: assignments, revokes, the lease, shutdown."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaConnectionError,
    NoOffsetForPartitionError,
    NotLeaderForPartitionError,
    OffsetOutOfRangeError,
)

from consumer.ops.metrics import Metrics
from consumer.stream import offset_map
from consumer.stream.committer import Committer
from consumer.stream.dead_letters import DeadLetterError, Letter
from consumer.stream.flight import Flight, GiveUp, Landed
from consumer.stream.intake import Intake
from consumer.stream.ledger import Ledger
from consumer.stream.limits import Limits
from consumer.stream.malformed import MalformedRecords
from consumer.stream.membership import Membership
from consumer.stream.partition_starts import PartitionStarts
from consumer.stream.quota_share import QuotaShare
from consumer.stream.source import Source
from consumer.stream.start_offsets import Layout, Start
from consumer.stream.user_queues import UserQueues
from consumer.sync.flight import LeaseLost
from tests.unit.stream.fake_group import TOPIC, FakeConsumer, event
from tests.unit.stream.in_virtual_time import in_virtual_time

SESSION = 30.0
LINGER = 0.5


def now() -> float:
    return asyncio.get_running_loop().time()


class Open:
    """An admission that stops nothing."""

    stopped = False


class Quiet:
    """Connections on which nothing hangs."""

    def look(self) -> None: ...


class Bench:
    """A source with real queues, offsets and lease. A sync takes `read_takes` to read, `write_takes` to write."""

    def __init__(self, *, session: float = SESSION, heartbeat: float = 3.0, max_pending: int = 1000) -> None:
        self.metrics = metrics = Metrics()
        self.consumer = FakeConsumer()
        self.frozen_for = 0.0
        self.membership = Membership(session, lambda: now() + self.frozen_for)
        self.ledger = Ledger(metrics, lambda: 0.0)
        self.shares: list[float] = []
        self.stored_letters: list[int] = []
        self.letters_fail = False
        self.begun: list[str] = []
        self.written: list[str] = []
        self.refused: list[str] = []
        """Whose writes the lease did not allow."""
        self.reads_can_be_cancelled = True
        self.read_takes = self.write_takes = 0.0
        self.leaders = {0: 1, 1: 1}
        self.lookups = 0
        """How often it was asked where partitions start."""
        self.polls: list[int] = []
        self.queues = UserQueues(
            self.membership, Open(), concurrency=64, linger=LINGER, coalesce=True, clock=now, watch=None
        )
        self.malformed = MalformedRecords(self, self.ledger)
        self.share = QuotaShare(self._count, self.shares.append, timeout=5)
        self.limits = Limits(
            max_pending=max_pending, session_timeout=session, heartbeat_interval=heartbeat, shutdown_timeout=20
        )
        consumer = cast("Any", self.consumer)
        committer = Committer(
            consumer,
            self.ledger,
            self.membership,
            topic=TOPIC,
            timeout=self.limits.call_timeout,
            metrics=metrics,
            leased=self.queues.open,
        )
        self.source = Source(
            consumer,
            PartitionStarts(self, timeout=5, wall_clock=now, counted=self.share.counted),
            Intake(self.queues, self.ledger, self.malformed, vendor_id=None, value_pointer=None, clock=now),
            committer,
            queues=self.queues,
            malformed=self.malformed,
            ledger=self.ledger,
            membership=self.membership,
            topic=TOPIC,
            limits=self.limits,
            metrics=metrics,
            share=self.share,
            connections=cast("Any", Quiet()),
            polled=lambda _seconds, count: self.polls.append(count),
        )
        self.running: asyncio.Task[None]

    async def _count(self) -> int:
        return len(self.leaders)

    # Where partitions start (`Lookup`), and the dead-letter topic (`DeadLetters`).

    async def layout(self) -> Layout:
        self.lookups += 1
        return Layout(self.leaders, {})

    async def find(self, partitions: Iterable[int], _layout: Layout) -> dict[int, Start]:
        stored = self.consumer.stored
        return {it: Start(*stored.get(it, (0, "")), len(self.consumer.logs[it])) for it in partitions}

    async def store(self, letter: Letter, *_: object) -> None:
        await asyncio.sleep(0.1)
        if self.letters_fail:
            raise DeadLetterError("down")
        self.stored_letters.append(letter.offset)

    # What the queues run.

    async def work(self, flight: Flight) -> Landed:
        flight.reading()
        self.begun.append(flight.user_id)
        await self._read()
        try:
            with flight.sending("mailmojo", "patch_contact", writes=True):
                await asyncio.sleep(self.write_takes)
                self.written.append(flight.user_id)
        except LeaseLost:
            self.refused.append(flight.user_id)
            return Landed()
        self.ledger.answered(flight.generation, flight.events, "synced")
        return Landed()

    async def _read(self) -> None:
        end = now() + self.read_takes
        while now() < end:
            try:
                await asyncio.sleep(end - now())
            except asyncio.CancelledError:
                if self.reads_can_be_cancelled:
                    raise

    async def give_up(self, _flight: Flight, _end: GiveUp) -> Landed:
        raise NotImplementedError

    # What a test looks at.

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        helpers = [
            asyncio.create_task(self.queues.run(self.work, self.give_up)),
            asyncio.create_task(self.malformed.run()),
        ]
        self.running = asyncio.create_task(self.source.run())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            self.source.stop()
            if not self.running.done():
                await asyncio.wait_for(self.running, 60)
            for helper in helpers:
                helper.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*helpers)

    def committed(self, partition: int) -> int:
        return self.consumer.stored.get(partition, (0, ""))[0]

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"sesamy_mailmojo_{name}", labels) or 0

    def synced(self) -> float:
        return self.metric("events_total", type="contract.1#update", outcome="synced")


def in_group(test: Callable[[Bench], Awaitable[None]]) -> Callable[[], None]:
    """Run a test beside a source that owns both partitions and has synced one user of each."""

    @in_virtual_time
    async def run() -> None:
        bench = Bench()
        async with bench.open():
            bench.consumer.produce(0, "a")
            bench.consumer.produce(1, "b")
            await bench.consumer.assign(0, 1)
            await asyncio.sleep(2)
            assert (sorted(bench.written), bench.committed(0), bench.committed(1)) == (["a", "b"], 1, 1)
            await test(bench)

    run.__doc__ = test.__doc__
    return run


@in_group
async def test_a_member_reads_syncs_and_commits_and_has_its_share_of_the_quota(bench: Bench) -> None:
    assert bench.source.is_member
    assert bench.source.was_served
    assert bench.source.unready() is None
    assert bench.source.waiting() == {}
    assert bench.shares == [1.0]
    assert bench.polls == [2]
    assert bench.metric("assigned_partitions") == 2
    assert bench.source.committer.progress()["0"] == {"position": 1, "committed": 1}


@in_virtual_time
async def test_p4_what_the_commit_says_is_done_is_not_done_again() -> None:
    bench = Bench()
    bench.consumer.produce(0, "a", "b", "c", "d")
    bench.consumer.stored[0] = (1, offset_map.encode(1, [2]))
    async with bench.open():
        await bench.consumer.assign(0)
        await asyncio.sleep(2)
        assert bench.written == ["b", "d"]
        assert bench.committed(0) == 4


@in_group
async def test_p1_a_commit_waits_for_the_oldest_open_record_and_tells_what_is_done_above_it(bench: Bench) -> None:
    bench.consumer.produce(0, "slow")
    bench.read_takes = 10.0
    await asyncio.sleep(1)
    bench.read_takes = 0.0
    bench.consumer.produce(0, "quick")
    await asyncio.sleep(2)
    assert bench.written[2:] == ["quick"]
    offset, metadata = bench.consumer.stored[0]
    assert (offset, offset_map.decode(metadata, offset)) == (1, frozenset({2}))


@in_group
async def test_commits_pass_transaction_markers_so_that_the_lag_reaches_zero(bench: Bench) -> None:
    bench.consumer.ends[0] = 7
    bench.consumer.produce(0, "c")
    await asyncio.sleep(2)
    assert bench.committed(0) == 7
    assert bench.metric("consumer_lag", partition="0") == 0


@in_group
async def test_a_revoke_awaits_writes_commits_and_returns_at_once(bench: Bench) -> None:
    bench.consumer.produce(0, "c")
    bench.write_takes = 3.0
    await asyncio.sleep(1)
    assert bench.begun[2:] == ["c"]
    began = now()
    await bench.consumer.revoke()
    assert 2.0 < now() - began < 3.1
    assert bench.written[2:] == ["c"]
    assert bench.committed(0) == 2
    assert not bench.source.is_member
    assert not bench.membership.partitions
    assert bench.shares[-1] == 0
    assert bench.metric("assigned_partitions") == 0
    assert (bench.source.unready() or "").startswith("not a member")


@in_group
async def test_a_revoke_cancels_reads_and_forgets_what_waits(bench: Bench) -> None:
    bench.consumer.produce(0, "c")
    bench.read_takes = 20.0
    await asyncio.sleep(1)
    bench.consumer.produce(0, "d")
    await asyncio.sleep(0.3)
    assert bench.queues.pending == 2
    began = now()
    await bench.consumer.revoke()
    assert now() - began < 0.2
    assert (bench.queues.pending, bench.queues.in_flight) == (0, 0)
    bench.read_takes = 0.0
    bench.consumer.join(1)
    await asyncio.sleep(5)
    assert bench.written == ["a", "b"], "partition 0 is another instance's"
    assert bench.committed(0) == 1


@in_group
async def test_a_revoke_waits_no_longer_than_a_rebalance_may_take_and_books_nothing_of_it(bench: Bench) -> None:
    bench.consumer.produce(0, "c")
    bench.write_takes = 100.0
    await asyncio.sleep(1)
    began = now()
    await bench.consumer.revoke()
    assert now() - began < bench.limits.revoke_budget
    synced = bench.synced()
    await asyncio.sleep(120)
    assert bench.written[2:] == ["c"], "a write is not cancelled"
    assert bench.synced() == synced, "its record belongs to the next owner"
    assert bench.committed(0) == 1


@in_group
async def test_p2_a_sync_of_an_old_generation_starts_no_write(bench: Bench) -> None:
    bench.consumer.produce(0, "c")
    bench.read_takes, bench.reads_can_be_cancelled = 20.0, False
    await asyncio.sleep(1)
    await bench.consumer.assign(0, 1)
    await asyncio.sleep(10)
    assert bench.membership.lease_remaining() > 0, "of the next generation"
    await asyncio.sleep(10)
    assert bench.refused == ["c"]
    assert "c" not in bench.written


@in_group
async def test_a_rebalance_rewinds_and_the_next_generation_starts_where_the_commit_is(bench: Bench) -> None:
    bench.consumer.stored[0] = (0, "")  # an operator reset the group
    await bench.consumer.assign(0)
    await asyncio.sleep(2)
    assert bench.written == ["a", "b"], "its own commit before the rebalance is what counts"
    await bench.consumer.revoke()
    bench.consumer.stored[0] = (0, "")
    bench.consumer.join(0)
    await asyncio.sleep(2)
    assert bench.written == ["a", "b", "a"]


@in_group
async def test_records_that_were_read_across_a_rebalance_are_not_taken(bench: Bench) -> None:
    bench.consumer.commit_takes = 1.0
    await bench.consumer.revoke()
    bench.consumer.join(0)
    bench.consumer.produce(1, "theirs")
    bench.consumer.produce(0, "ours")
    await asyncio.sleep(5)
    assert bench.written[2:] == ["ours"]
    assert bench.committed(1) == 1


@in_group
async def test_a_poll_that_ends_during_a_revoke_brings_nothing(bench: Bench) -> None:
    bench.write_takes = 2.0
    bench.consumer.produce(0, "c")
    await asyncio.sleep(1)
    revoking = asyncio.create_task(bench.consumer.revoke())
    bench.consumer.produce(0, "d")  # the poll that is under way returns it
    await revoking
    assert bench.begun[2:] == ["c"]
    assert bench.queues.pending == 0
    assert bench.committed(0) == 2
    bench.consumer.join(0)
    await asyncio.sleep(5)
    assert bench.written[2:] == ["c", "d"]


@in_virtual_time
async def test_nothing_is_read_before_it_is_known_where_a_partition_starts() -> None:
    bench = Bench()
    bench.leaders = {0: -1, 1: 1}
    bench.consumer.produce(0, "a")
    async with bench.open():
        await bench.consumer.assign(0)
        await asyncio.sleep(10)
        assert bench.queues.pending == 0
        assert bench.consumer.paused == {0}
        assert "no partition could be started: partition 0: it has no leader" in (bench.source.unready() or "")
        assert list(bench.source.waiting()) == [0]
        assert bench.metric("waiting_partitions") == 1
        bench.leaders = {0: 1, 1: 1}
        await asyncio.sleep(6)
        assert bench.written == ["a"]
        assert bench.source.unready() is None


@in_virtual_time
async def test_p5_a_partition_without_a_leader_delays_only_itself() -> None:
    bench = Bench()
    bench.leaders = {0: -1, 1: 1}
    bench.consumer.produce(0, "a")
    bench.consumer.produce(1, "b")
    async with bench.open():
        await bench.consumer.assign(0, 1)
        await asyncio.sleep(3)
        assert bench.written == ["b"]
        assert bench.source.unready() is None
        await bench.consumer.assign(1)
        bench.leaders = {0: 1, 1: 1}
        await asyncio.sleep(10)
        assert bench.written == ["b"], "partition 0 is another instance's by now"


@in_group
async def test_a_process_that_was_frozen_drops_everything_and_joins_anew(bench: Bench) -> None:
    bench.consumer.produce(0, "c")
    bench.read_takes = 5.0
    await asyncio.sleep(1)
    commits = len(bench.consumer.commits)
    bench.frozen_for = 60.0
    await asyncio.sleep(1)
    assert bench.consumer.rejoins == 1
    assert bench.queues.pending == 0
    assert not bench.source.is_member
    assert len(bench.consumer.commits) == commits, "another member may have committed since"
    bench.read_takes = 0.0
    await bench.consumer.assign(0)
    await asyncio.sleep(2)
    assert bench.written[2:] == ["c"]


@in_group
async def test_a_member_whose_commits_fail_starts_no_write_after_its_lease(bench: Bench) -> None:
    bench.consumer.commit_fails = KafkaConnectionError("gone")
    await asyncio.sleep(bench.membership.lease_duration - 1)
    bench.consumer.produce(0, "c")
    await asyncio.sleep(20)
    assert bench.written == ["a", "b"]
    assert bench.consumer.rejoins == 1


@in_group
async def test_a_member_that_the_broker_refuses_joins_anew_at_once(bench: Bench) -> None:
    bench.consumer.commit_fails = CommitFailedError()
    await asyncio.sleep(4)
    assert bench.consumer.rejoins == 1
    assert not bench.membership.may_work(bench.membership.generation)


@pytest.mark.parametrize("error", [OffsetOutOfRangeError({}), NoOffsetForPartitionError()])
def test_a_log_whose_start_overtook_the_consumer_is_begun_again_from_the_commits(error: Exception) -> None:
    @in_group
    async def test(bench: Bench) -> None:
        bench.consumer.poll_fails = [error]
        await asyncio.sleep(1)
        assert bench.consumer.rejoins == 1
        await bench.consumer.assign(0)
        bench.consumer.produce(0, "c")
        await asyncio.sleep(2)
        assert bench.written[2:] == ["c"]

    test()


@in_virtual_time
async def test_without_an_offset_a_member_that_reads_nothing_yet_goes_on_waiting() -> None:
    bench = Bench()
    bench.leaders = {0: -1, 1: -1}
    bench.consumer.poll_fails = [NoOffsetForPartitionError()] * 20
    async with bench.open():
        await bench.consumer.assign(0)
        await asyncio.sleep(2)
        assert bench.consumer.rejoins == 0
        assert len(bench.consumer.poll_fails) > 5, "with a pause after each"


@in_group
async def test_an_error_that_passes_is_waited_for(bench: Bench) -> None:
    bench.consumer.poll_fails = [NotLeaderForPartitionError(), IllegalStateError(), ConsumerStoppedError()]
    bench.consumer.produce(0, "c")
    await asyncio.sleep(3)
    assert bench.written[2:] == ["c"]
    assert bench.consumer.rejoins == 0


@in_virtual_time
async def test_an_error_that_does_not_pass_ends_it_and_the_group_is_left() -> None:
    bench = Bench()
    async with bench.open():
        await bench.consumer.assign(0)
        await asyncio.sleep(1)
        bench.consumer.poll_fails = [GroupAuthorizationFailedError("g")]
        with pytest.raises(GroupAuthorizationFailedError):
            await bench.running
        assert bench.consumer.stopped


@in_group
async def test_a_shutdown_lets_reads_end_writes_and_commits_them(bench: Bench) -> None:
    bench.consumer.produce(0, "c")
    bench.read_takes, bench.write_takes = 3.0, 1.0
    await asyncio.sleep(1)
    began = now()
    bench.source.stop()
    assert bench.source.stuck_for() == 0
    await bench.running
    assert 3 < now() - began < 5
    assert bench.written[2:] == ["c"]
    assert bench.committed(0) == 2
    assert bench.consumer.stopped
    assert bench.shares[-1] == 0


@in_group
async def test_a_shutdown_ends_in_its_time_whatever_hangs(bench: Bench) -> None:
    bench.consumer.produce(0, "c")
    bench.write_takes = 1000.0
    await asyncio.sleep(1)
    bench.consumer.commit_takes = 1000.0
    began = now()
    bench.source.stop()
    await bench.running
    assert now() - began < bench.limits.shutdown_timeout
    assert bench.consumer.stopped


@in_group
async def test_k11_the_lease_stays_valid_for_the_last_commit_of_a_shutdown(bench: Bench) -> None:
    bench.membership.lease_duration = 3.5
    bench.consumer.produce(0, "c")
    bench.read_takes = 4.5
    await asyncio.sleep(1)
    bench.source.stop()
    await bench.running
    assert bench.written[2:] == ["c"]
    assert bench.committed(0) == 2


@in_group
async def test_k11_the_lease_stays_valid_for_the_last_commit_of_a_revoke(bench: Bench) -> None:
    bench.consumer.produce(0, "c")
    bench.write_takes = 5.0
    await asyncio.sleep(1)
    bench.membership.lease_duration = 4.0
    await bench.consumer.revoke()
    assert bench.written[2:] == ["c"]
    assert bench.committed(0) == 2


@in_group
async def test_clients_that_are_given_up_end_without_waiting_for_reads(bench: Bench) -> None:
    bench.consumer.produce(0, "c")
    bench.read_takes = 10.0
    await asyncio.sleep(1)
    began = now()
    bench.source.give_up()
    await bench.running
    assert now() - began < 1
    assert bench.written == ["a", "b"]
    assert bench.consumer.stopped


@in_group
async def test_a_shutdown_in_the_midst_of_a_poll_that_hangs_ends(bench: Bench) -> None:
    bench.consumer.poll_hangs = True
    await asyncio.sleep(20)
    assert bench.source.stuck_for() > 15, "a member's poll ends in a fraction of a second"
    bench.source.stop()
    await bench.running


@in_group
async def test_a_revoke_that_comes_after_the_shutdown_is_not_waited_for(bench: Bench) -> None:
    bench.source.stop()
    await bench.running
    began = now()
    await bench.source.on_partitions_revoked([])
    assert now() == began


@in_group
async def test_a_revoke_during_the_drain_of_a_shutdown_ends_with_it(bench: Bench) -> None:
    bench.consumer.produce(0, "c")
    bench.read_takes = 4.0
    await asyncio.sleep(1)
    bench.source.stop()
    await asyncio.sleep(1)
    began = now()
    await bench.consumer.revoke()
    assert now() - began < 5
    await bench.running
    assert bench.written[2:] == ["c"]


@in_group
async def test_a_source_that_moves_on_is_not_stuck(bench: Bench) -> None:
    for _ in range(40):
        await asyncio.sleep(0.5)
        assert bench.source.stuck_for() < 1


@in_group
async def test_a_topic_that_is_gone_is_the_reason_and_nothing_is_committed(bench: Bench) -> None:
    commits = len(bench.consumer.commits)
    bench.consumer.partitions = set()
    await asyncio.sleep(5)
    assert "topic t (KAFKA_TOPIC) does not exist any more" in (bench.source.unready() or "")
    assert len(bench.consumer.commits) == commits


@in_virtual_time
async def test_p7_no_more_events_wait_than_the_settings_allow() -> None:
    bench = Bench(max_pending=10)
    bench.consumer.produce(0, *(f"user {number}" for number in range(200)))
    bench.read_takes = 0.5
    most = 0
    async with bench.open():
        await bench.consumer.assign(0)
        while len(bench.written) < 200:
            await asyncio.sleep(0.05)
            most = max(most, bench.queues.pending)
        await asyncio.sleep(1)
        assert most == 10
        assert bench.committed(0) == 200


@in_group
async def test_p7_while_too_much_waits_the_partitions_are_paused(bench: Bench) -> None:
    bench.read_takes = 1000.0
    bench.consumer.produce(0, *(f"user {number}" for number in range(1500)))
    await asyncio.sleep(5)
    assert bench.queues.pending == 1000
    assert bench.consumer.paused == {0, 1}
    await bench.consumer.assign(0)
    await asyncio.sleep(5)
    assert bench.consumer.paused == {0}, "a rebalance forgets pauses"


@in_group
async def test_malformed_records_are_stored_before_a_revoke_ends_and_forgotten_if_they_are_not(bench: Bench) -> None:
    bench.consumer.logs[0].append(event("x", 0, 1, b"not JSON"))
    await asyncio.sleep(0.05)
    await bench.consumer.revoke()
    assert bench.stored_letters == [1]
    assert bench.committed(0) == 2
    bench.letters_fail = True
    bench.consumer.logs[0].append(event("x", 0, 2, b"not JSON"))
    bench.consumer.join(0)
    await asyncio.sleep(1)
    assert len(bench.malformed) == 1
    await bench.consumer.revoke()
    assert len(bench.malformed) == 0
    assert bench.committed(0) == 2


@in_virtual_time
async def test_a_member_without_partitions_is_ready_and_served() -> None:
    bench = Bench()
    async with bench.open():
        assert (bench.source.unready() or "").startswith("not a member")
        await bench.consumer.assign()
        await asyncio.sleep(1)
        assert bench.source.unready() is None
        assert bench.source.was_served
        assert bench.shares == []


@in_virtual_time
async def test_an_assignment_that_is_revoked_before_it_begins_is_ignored() -> None:
    bench = Bench()
    async with bench.open():
        await bench.consumer.revoke()
        bench.source.on_partitions_assigned([])
        bench.consumer.join(0)
        bench.consumer._assigned = set()  # revoked by aiokafka, whose listener is told next
        await asyncio.sleep(1)
        assert not bench.source.is_member
        await bench.consumer.assign(0)
        await asyncio.sleep(1)
        assert bench.source.is_member


@in_virtual_time
async def test_close_disconnects_where_it_never_ran() -> None:
    bench = Bench()
    await bench.source.close()
    assert bench.consumer.stopped


@in_virtual_time
async def test_a_revoke_ends_the_search_for_the_starts_of_its_partitions() -> None:
    bench = Bench()
    bench.leaders = {0: -1, 1: 1}
    async with bench.open():
        await bench.consumer.assign(0)
        await asyncio.sleep(5)
        assert list(bench.source.waiting()) == [0]
        await bench.consumer.revoke()
        lookups = bench.lookups
        await asyncio.sleep(30)
        assert bench.source.waiting() == {}
        assert bench.lookups == lookups
