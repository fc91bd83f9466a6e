"""Clients that Kafka does not serve are replaced, and what cannot be repaired ends the process (P9)."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError

from consumer.failure import Failure
from consumer.kafka_outlook import REPAIR_SECONDS, Outlook
from consumer.ops.metrics import Metrics
from consumer.stream.group import Group
from consumer.stream.limits import Limits
from consumer.stream.source import Source
from tests.unit.stream.in_virtual_time import in_virtual_time

SESSION = 30.0
SERVES, AWAY = Outlook(away=False), Outlook(away=True, reason="cannot reach Kafka")
REFUSES = Outlook(away=False, reason="Kafka refuses the login of ann")


class FakeSource:
    """A source whose commits are accepted as long as its clients are of the right `make`."""

    def __init__(self, world: "World") -> None:
        self.world, self.make = world, world.make
        self.was_served = False
        self.ended = asyncio.Event()
        self.stopped = self.gave_up = self.closed = False
        self.committer = self
        self.failure = "GroupCoordinatorNotAvailableError"
        self._served_at = self.world.now()

    @property
    def is_served(self) -> bool:
        return self.make == self.world.make and self.world.outlook is not AWAY and not self.world.refuses_group

    async def run(self) -> None:
        while not self.ended.is_set():
            if self.world.error is not None:
                raise self.world.error
            self.was_served |= self.is_served
            await asyncio.sleep(0.5)

    def stop(self) -> None:
        self.stopped = True
        self.ended.set()

    def give_up(self) -> None:
        self.gave_up = True
        self.ended.set()

    async def close(self) -> None:
        self.closed = True

    @property
    def served_at(self) -> float:
        if self.is_served:
            self._served_at = self.world.now()
        return self._served_at

    @property
    def rebalanced_at(self) -> float:
        return self.world.now() - self.world.quiet_for

    def unready(self) -> str | None:
        return None if self.is_served else "not a member of the consumer group"

    @property
    def is_joining(self) -> bool:
        return self.world.joining

    def stuck_for(self) -> float:
        return 0.0


class World:
    """A Kafka, and the group of one process in it."""

    def __init__(self) -> None:
        self.outlook, self.credentials = SERVES, "old password"
        self.make = 1
        self.refuses_group = self.joining = False
        self.error: Exception | None = None
        self.quiet_for = 1000.0
        self.look_takes = 0.1
        self.sources: list[FakeSource] = []
        self.metrics = Metrics()
        self.group = Group(
            self.build,
            self.look,
            lambda: self.credentials,
            repr,
            limits=Limits(max_pending=10, session_timeout=SESSION, heartbeat_interval=3, shutdown_timeout=20),
            metrics=self.metrics,
        )

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def build(self) -> Source:
        if self.outlook.reason is not None:
            raise Failure(self.outlook.reason)
        await asyncio.sleep(0.1)
        self.sources.append(FakeSource(self))
        return cast("Source", self.sources[-1])

    async def look(self) -> Outlook:
        await asyncio.sleep(self.look_takes)
        return self.outlook

    async def replaced_within(self, seconds: float) -> bool:
        count = len(self.sources)
        await asyncio.sleep(seconds)
        return len(self.sources) > count


def in_world(test: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test beside a group that is served so far."""

    @in_virtual_time
    async def run() -> None:
        world = World()
        await world.group.start()
        running = asyncio.create_task(world.group.run())
        await asyncio.sleep(60)
        assert len(world.sources) == 1
        assert world.group.unready() is None
        try:
            await test(world)
        finally:
            if not running.done():
                world.group.stop()
                await asyncio.wait_for(running, 1)
            world.ended = running  # type: ignore[attr-defined]

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@in_world
async def test_p9_as_long_as_kafka_serves_it_nothing_is_replaced(world: World) -> None:
    await asyncio.sleep(3600)
    assert len(world.sources) == 1


@in_world
async def test_k6_clients_that_kafka_does_not_serve_are_replaced_within_two_sessions(world: World) -> None:
    world.make = 2  # as when every broker has another address
    assert await world.replaced_within(2 * SESSION - 10)
    assert world.sources[0].gave_up
    await asyncio.sleep(5)
    assert world.group.unready() is None
    assert world.metrics.registry.get_sample_value("sesamy_mailmojo_kafka_rebuilds_total") == 1


@in_world
async def test_k6_a_renewed_password_is_used_as_soon_as_it_works(world: World) -> None:
    world.make, world.outlook = 2, REFUSES
    await asyncio.sleep(100)
    assert len(world.sources) == 1
    assert "refuses the login" in (world.group.unready() or "")
    world.credentials, world.outlook = "new password", SERVES
    assert await world.replaced_within(2 * SESSION / 6)


@in_world
async def test_p9_while_kafka_is_away_for_everybody_it_waits(world: World) -> None:
    world.outlook = AWAY
    await asyncio.sleep(4 * REPAIR_SECONDS)
    assert len(world.sources) == 1
    world.outlook = SERVES
    await asyncio.sleep(60)
    assert len(world.sources) == 1, "aiokafka comes back by itself"
    assert world.group.unready() is None


@in_world
async def test_p9_a_rebalance_that_takes_its_time_replaces_nothing(world: World) -> None:
    world.refuses_group, world.quiet_for = True, 10.0
    assert not await world.replaced_within(4 * SESSION)


@in_world
async def test_p9_while_the_broker_has_its_join_to_answer_nothing_is_replaced(world: World) -> None:
    """A client that is given up while it joins stays a member for a session, and the others wait for it."""
    world.refuses_group = world.joining = True
    assert not await world.replaced_within(4 * SESSION)
    world.joining = False
    assert not await world.replaced_within(SESSION / 2)
    assert await world.replaced_within(SESSION)


@in_virtual_time
async def test_p9_what_cannot_be_repaired_in_five_minutes_ends_with_the_reason() -> None:
    for outlook, words in ((SERVES, "GroupCoordinatorNotAvailableError"), (REFUSES, "refuses the login of ann")):
        world = World()
        await world.group.start()
        running = asyncio.create_task(world.group.run())
        await asyncio.sleep(60)
        world.outlook, world.refuses_group = outlook, True
        began = world.now()
        with pytest.raises(Failure, match=words):
            await running
        assert REPAIR_SECONDS <= world.now() - began < REPAIR_SECONDS + SESSION


@in_world
async def test_p9_the_five_minutes_begin_anew_when_it_was_served_or_kafka_was_away(world: World) -> None:
    for outlook, refuses in ((SERVES, False), (AWAY, True)):
        for _ in range(3):
            world.outlook, world.refuses_group = SERVES, True
            await asyncio.sleep(REPAIR_SECONDS - 30)
            world.outlook, world.refuses_group = outlook, refuses
            await asyncio.sleep(60)


@in_virtual_time
async def test_a_refusal_before_it_was_ever_served_ends_it_at_once() -> None:
    world = World()
    world.error, world.refuses_group = GroupAuthorizationFailedError("g"), True
    await world.group.start()
    with pytest.raises(GroupAuthorizationFailedError):
        await world.group.run()


@in_world
async def test_p9_a_refusal_later_is_tried_again_with_new_clients(world: World) -> None:
    world.error = KafkaError("Unexpected error during coordination")
    await asyncio.sleep(60)
    assert 5 < len(world.sources) < 30, "with longer and longer pauses"
    world.error = None
    await asyncio.sleep(10)
    assert world.group.unready() is None


@in_virtual_time
async def test_an_error_that_is_none_of_kafkas_ends_it() -> None:
    world = World()
    await world.group.start()
    running = asyncio.create_task(world.group.run())
    await asyncio.sleep(60)
    world.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await running


@pytest.mark.parametrize("outlook", [SERVES, AWAY, REFUSES])
@in_virtual_time
async def test_it_stops_at_once_whatever_it_waits_for(outlook: Outlook) -> None:
    for look_takes in (0.1, 20.0):
        for waited in (1.0, 17.0, 50.0, 77.7):
            world = World()
            await world.group.start()
            running = asyncio.create_task(world.group.run())
            await asyncio.sleep(60)
            world.error, world.outlook, world.look_takes = KafkaError("gone"), outlook, look_takes
            await asyncio.sleep(waited)
            world.group.stop()
            await asyncio.wait_for(running, 1)
            assert world.group.stuck_for() == 0
            await world.group.close()


@in_world
async def test_it_lives_while_it_waits_for_new_clients(world: World) -> None:
    world.error, world.outlook = KafkaError("gone"), AWAY
    for _ in range(200):
        await asyncio.sleep(1)
        assert world.group.stuck_for() < 10
    assert "cannot reach Kafka" in (world.group.unready() or "")


@in_virtual_time
async def test_before_it_is_connected_it_has_no_partitions_and_says_so() -> None:
    world = World()
    assert (world.group.waiting(), world.group.progress()) == ({}, {})
    assert world.group.unready() == "not a member of the consumer group: connecting anew"
    await world.group.close()
    await world.group.start()
    await world.group.close()
    assert world.sources[0].closed
