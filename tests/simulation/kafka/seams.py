"""What aiokafka's modules use instead of sockets, clocks and chance, in the loops of simulated hosts only.

Everything of aiokafka that is replaced is named here. In any other loop these names do what they always do.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from typing import Any, Final

import aiokafka.client
import aiokafka.cluster
import aiokafka.conn
import aiokafka.consumer.fetcher
import aiokafka.consumer.group_coordinator
import aiokafka.consumer.subscription_state
import aiokafka.partitioner
import aiokafka.producer.message_accumulator

from tests.simulation.kafka.connection import Connector

_connectors: dict[int, tuple[asyncio.AbstractEventLoop, Connector]] = {}
_create_conn: Final = aiokafka.client.create_conn


def enter(loop: asyncio.AbstractEventLoop, connector: Connector) -> None:
    """Have the clients in this loop connect with `connector`."""
    _install()
    _connectors[id(loop)] = loop, connector


def leave(loop: asyncio.AbstractEventLoop) -> None:
    """Forget a loop."""
    _connectors.pop(id(loop), None)


def _connector() -> Connector | None:
    loop = asyncio._get_running_loop()
    if loop is None:
        return None
    known = _connectors.get(id(loop))
    return known[1] if known is not None and known[0] is loop else None


async def _connect(host: str, port: int, **options: Any) -> Any:
    connector = _connector()
    if connector is None:
        return await _create_conn(host, port, **options)  # type: ignore[no-untyped-call]
    return await connector.connect(host, port, **options)


class _Time:
    """In the place of the module `time`."""

    @staticmethod
    def monotonic() -> float:
        connector = _connector()
        return time.monotonic() if connector is None else connector.host.loop.time()

    @staticmethod
    def time() -> float:
        connector = _connector()
        return time.time() if connector is None else connector.host.wall_clock()


class _Random:
    """In the place of the module `random`."""

    @staticmethod
    def choice(items: Any) -> Any:
        connector = _connector()
        if connector is None:
            return random.choice(items)
        return connector.network.rng.choice(sorted(items, key=str))  # from a set, whose order differs between runs

    @staticmethod
    def shuffle(items: Any) -> None:
        connector = _connector()
        if connector is None:
            random.shuffle(items)
        else:
            items.sort(key=str)  # as above
            connector.network.rng.shuffle(items)


class _Sorted(frozenset[Any]):
    """In the place of `frozenset`, where aiokafka keeps topics and partitions: the order decides what is sent first."""

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__()))


def _install() -> None:
    aiokafka.client.create_conn = _connect
    for module in (
        aiokafka.client,
        aiokafka.cluster,
        aiokafka.conn,
        aiokafka.consumer.fetcher,
        aiokafka.consumer.group_coordinator,
        aiokafka.consumer.subscription_state,
        aiokafka.producer.message_accumulator,
    ):
        module.time = _Time  # type: ignore[attr-defined]
    aiokafka.consumer.subscription_state.frozenset = _Sorted  # type: ignore[attr-defined]
    for module in (aiokafka.client, aiokafka.conn, aiokafka.consumer.fetcher, aiokafka.partitioner):
        module.random = _Random  # type: ignore[attr-defined]
