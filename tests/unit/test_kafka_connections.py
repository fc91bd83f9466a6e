"""Connections that died silently are closed, and no others (P9)."""

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from consumer.kafka_connections import ConnectionWatch
from tests.unit.stream.in_virtual_time import in_virtual_time

TIMEOUT = 5.0


class Connection:
    host, port = "broker", 9092

    def __init__(self) -> None:
        self._requests: deque[Any] = deque()
        self._reader = SimpleNamespace(_buffer=bytearray())
        self.closed = False

    def ask(self, request: Any = HeartbeatRequest) -> None:
        self._requests.append((len(self._requests), request, None))

    def answer(self) -> None:
        self._requests.popleft()

    def receive(self, count: int) -> None:
        self._reader._buffer += bytes(count)

    def close(self, reason: Any) -> None:
        self.closed = True
        self._requests.clear()


class Client:
    def __init__(self) -> None:
        self.connection = Connection()
        self._conns = {(1, 0): self.connection}
        self.connecting_takes = 0.0
        self.updates = 0

    async def _get_conn(self, node_id: int, *, group: int, no_hint: bool) -> Connection:
        await asyncio.sleep(self.connecting_takes)
        return self.connection

    def force_metadata_update(self) -> None:
        self.updates += 1


class Bench:
    def __init__(self) -> None:
        self.client = Client()
        self.connection = self.client.connection
        loop = asyncio.get_running_loop()
        self.watch = ConnectionWatch(
            cast("Any", SimpleNamespace(_client=self.client)), timeout=TIMEOUT, clock=loop.time
        )

    async def after(self, seconds: float) -> bool:
        """Look as often as the consumer's owner does, and return whether the connection was closed."""
        for _ in range(round(seconds / 0.25)):
            await asyncio.sleep(0.25)
            self.watch.look()
        return self.connection.closed


@in_virtual_time
async def test_k5_a_connection_that_does_not_answer_is_closed_within_the_call_timeout() -> None:
    bench = Bench()
    bench.connection.ask()
    assert not await bench.after(TIMEOUT - 0.5)
    assert await bench.after(1)


@in_virtual_time
async def test_a_connection_without_a_request_may_be_idle_for_ever() -> None:
    bench = Bench()
    assert not await bench.after(3600)
    bench.connection.ask()
    assert not await bench.after(TIMEOUT - 0.5)


@in_virtual_time
async def test_each_answer_gives_the_next_request_its_time() -> None:
    bench = Bench()
    for _ in range(5):
        bench.connection.ask()
    for _ in range(5):
        assert not await bench.after(TIMEOUT - 1)
        bench.connection.answer()
        bench.connection._requests = deque((number + 1, *rest) for number, *rest in bench.connection._requests)
    assert not await bench.after(60)


@in_virtual_time
async def test_a_long_answer_may_take_its_time_as_long_as_bytes_arrive() -> None:
    bench = Bench()
    bench.connection.ask()
    for _ in range(20):
        assert not await bench.after(TIMEOUT - 1)
        bench.connection.receive(1000)
    assert await bench.after(TIMEOUT + 0.5)


@pytest.mark.parametrize("request_type", [JoinGroupRequest, SyncGroupRequest])
@in_virtual_time
async def test_a_join_waits_for_the_other_members(request_type: Any) -> None:
    bench = Bench()
    bench.connection.ask(request_type)
    assert not await bench.after(60)


@in_virtual_time
async def test_a_process_that_stood_still_reads_first_what_has_arrived() -> None:
    bench = Bench()
    bench.connection.ask()
    await bench.after(1)
    await asyncio.sleep(600)
    bench.watch.look()
    assert not bench.connection.closed
    assert await bench.after(TIMEOUT + 0.5)


@in_virtual_time
async def test_k4_connecting_to_a_node_that_does_not_answer_ends_in_time() -> None:
    bench = Bench()
    get: Any = bench.client._get_conn
    assert await get(1, group=0, no_hint=False) is bench.connection
    bench.client.connecting_takes = 3600
    began = asyncio.get_running_loop().time()
    assert await get(1) is None
    assert asyncio.get_running_loop().time() - began == TIMEOUT
    assert bench.client.updates == 1, "metadata may tell where the node is now"


@pytest.mark.parametrize("request_", [JoinGroupRequest, SyncGroupRequest])
@in_virtual_time
async def test_a_member_joins_until_its_request_is_answered_or_the_connection_is_closed(request_: Any) -> None:
    bench = Bench()
    bench.connection.ask(HeartbeatRequest)
    assert not bench.watch.is_joining()
    bench.connection.ask(request_)
    assert bench.watch.is_joining()
    bench.connection.answer()
    bench.connection.answer()
    assert not bench.watch.is_joining()
    bench.connection.ask(request_)
    bench.connection.close(None)
    assert not bench.watch.is_joining()
