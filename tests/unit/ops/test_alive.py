"""Liveness: the loop lives, and the task that polls and commits is stuck all the same."""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consumer.clock import REAL_CLOCKS
from consumer.ops.metrics import Metrics
from consumer.ops.overview import Overview, Parts
from consumer.settings import Settings
from consumer.stream.limits import Limits
from consumer.stream.membership import Membership
from consumer.stream.source import Source
from tests.unit.stream.in_virtual_time import in_virtual_time

SESSION = 30.0


class Consumer:
    """Polls as aiokafka does: it comes back soon, with nothing, broker or not."""

    _coordinator = None

    def __init__(self) -> None:
        self.hangs = False
        self.fails: Exception | None = None

    def subscribe(self, topics: list[str], listener: object) -> None:
        pass

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[Any, Any]:
        await asyncio.sleep(100_000 if self.hangs else timeout_ms / 1000)
        if self.fails:
            raise self.fails
        return {}

    def assignment(self) -> set[Any]:
        return set()

    async def stop(self) -> None:
        pass


class Committer:
    def __init__(self) -> None:
        self.hangs = False

    async def note_positions(self) -> None:
        pass

    def member(self) -> None:
        pass

    def renewing(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def due_in(self) -> float:
        return 1.0

    async def commit_if_due(self) -> None:
        if self.hangs:
            await asyncio.sleep(100_000)


class Starts:
    """All partitions that were found have been started."""

    waiting: dict[int, object] = {}  # noqa: RUF012 - never filled

    def take(self) -> dict[int, object]:
        return {}

    async def end(self) -> None:
        pass


class Malformed(list[object]):
    bytes_waiting = 0


class Bench:
    def __init__(self) -> None:
        self.consumer, self.committer = Consumer(), Committer()
        loop = asyncio.get_running_loop()
        nothing = cast("Any", SimpleNamespace(counted=0))
        self.source = Source(
            cast("Any", self.consumer),
            cast("Any", Starts()),
            nothing,
            cast("Any", self.committer),
            queues=nothing,
            malformed=cast("Any", Malformed()),
            ledger=nothing,
            membership=Membership(SESSION, loop.time),
            topic="t",
            limits=Limits(max_pending=10, session_timeout=SESSION, heartbeat_interval=3, shutdown_timeout=20),
            metrics=Metrics(),
            share=nothing,
            connections=cast("Any", SimpleNamespace(look=lambda: None)),
        )
        settings = Settings()
        parts = SimpleNamespace(group=self.source, settings=settings, metrics=Metrics(), clocks=REAL_CLOCKS)
        assert settings.kafka.session_timeout == SESSION
        self.overview = Overview(cast("Parts", parts))

    async def after(self, seconds: float) -> bool:
        await asyncio.sleep(seconds)
        return self.overview.alive()


@in_virtual_time
async def test_it_lives_as_long_as_it_polls_whatever_the_broker_does() -> None:
    bench = Bench()
    running = asyncio.create_task(bench.source.run())
    for _ in range(20):
        assert await bench.after(60)
    bench.source.stop()
    await running
    assert await bench.after(600)  # leaving takes as long as it is given


@in_virtual_time
async def test_a_poll_that_never_ends_is_noticed() -> None:
    bench = Bench()
    bench.source.is_member = True
    running = asyncio.create_task(bench.source.run())
    assert await bench.after(10)
    bench.consumer.hangs = True
    assert await bench.after(SESSION - 2)
    assert not await bench.after(3)
    assert not running.done()
    bench.source.is_member = False
    running.cancel()
    await asyncio.wait([running])


@in_virtual_time
async def test_a_poll_that_waits_for_an_assignment_is_no_reason_to_restart() -> None:
    bench = Bench()
    bench.consumer.hangs = True
    running = asyncio.create_task(bench.source.run())
    assert await bench.after(3600)
    running.cancel()
    await asyncio.wait([running])


@in_virtual_time
async def test_a_commit_that_never_ends_is_noticed() -> None:
    bench = Bench()
    bench.source.is_member = True
    running = asyncio.create_task(bench.source.run())
    assert await bench.after(10)
    bench.committer.hangs = True
    assert not await bench.after(SESSION + 2)
    assert not running.done()
    bench.source.is_member = False
    running.cancel()
    await asyncio.wait([running])


@in_virtual_time
async def test_an_end_of_the_groups_coordination_ends_the_service() -> None:
    bench = Bench()
    bench.consumer.fails = AssertionError("what a broken coordination raises at the next poll")
    with pytest.raises(AssertionError, match="broken coordination"):
        await bench.source.run()
