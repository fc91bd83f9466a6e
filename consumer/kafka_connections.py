"""A time-out for every call of a Kafka consumer, by its connections (promise P9).

aiokafka 0.14 has one time-out for all requests. It must be longer than a rebalance, which a join waits for, and so
longer than a session: a heartbeat on a connection that died silently would wait until the membership is lost. A
metadata request that times out does not even close its connection, and nodes are connected to one after the other.
"""

import asyncio
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.client import ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest

from consumer.clock import Clock

_log = structlog.get_logger("kafka_connections")

_LONG: Final = {JoinGroupRequest.API_KEY, SyncGroupRequest.API_KEY}
"""Requests that the broker answers when all members of the group are back; aiokafka's own time-out is for them."""


class ConnectionWatch:
    """Closes connections on which nothing moves though a request waits; aiokafka connects anew then."""

    def __init__(self, consumer: AIOKafkaConsumer, *, timeout: float, clock: Clock) -> None:
        """Watch a consumer's connections, and let each connection take `timeout` seconds to be made."""
        client: Any = consumer._client  # noqa: SLF001 - there is no public way to its connections
        self._client = client
        self._timeout = timeout
        self._clock = clock
        self._states: dict[Any, tuple[object, float]] = {}
        """By connection what it waits for, and since when nothing of that has arrived."""
        self._looked_at = clock()
        self._connect = self._client._get_conn  # noqa: SLF001
        self._client._get_conn = self._connect_in_time  # noqa: SLF001

    def look(self) -> None:
        """Close what is dead. To be called several times per time-out."""
        now, states = self._clock(), {}
        if now - self._looked_at > self._timeout / 2:
            self._states = {}  # This process stood still, and answers may have arrived that it has not read.
        self._looked_at = now
        for connection in list(self._client._conns.values()):  # noqa: SLF001
            state = _state(connection)
            if state is None:
                continue
            known, since = self._states.get(connection, (None, now))
            since = since if known == state else now
            if now - since >= self._timeout:
                _log.warning("kafka.connection_dead", host=connection.host, port=connection.port)
                connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
            else:
                states[connection] = state, since
        self._states = states

    def is_joining(self) -> bool:
        """Return whether a request to join the group waits for its answer. A connection that is closed has none."""
        return any(
            request.API_KEY in _LONG
            for connection in self._client._conns.values()  # noqa: SLF001
            for _, request, *_ in connection._requests  # noqa: SLF001
        )

    async def _connect_in_time(
        self, node_id: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT, no_hint: bool = False
    ) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._connect(node_id, group=group, no_hint=no_hint)
        except TimeoutError:
            _log.warning("kafka.node_unreachable", node=node_id)
            self._client.force_metadata_update()
            return None


def _state(connection: Any) -> object:
    """Return what changes with every byte that arrives, or None if no answer is due."""
    requests = connection._requests  # noqa: SLF001
    if not requests or requests[0][1].API_KEY in _LONG:
        return None
    correlation_id, *_ = requests[0]
    reader = connection._reader  # noqa: SLF001
    return correlation_id, len(reader._buffer) if reader is not None else 0  # noqa: SLF001
