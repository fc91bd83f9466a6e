"""A fake of aiokafka's consumer, and of the group around it: rebalances happen when a test says so.

It has what `consumer.stream` uses and no more. `tests/simulation/kafka` simulates the brokers under aiokafka's own
consumer; this fake is for tests of one step, which can then say what happens between two calls.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError

TOPIC = "t"


def place(partition: int) -> TopicPartition:
    return TopicPartition(TOPIC, partition)


def event(user_id: str, partition: int, offset: int, value: bytes | None = None) -> ConsumerRecord[bytes, bytes]:
    if value is None:
        value = b'{"eventType": "contract.1#update", "vendorId": "v", "userId": "%s"}' % user_id.encode()
    return ConsumerRecord(TOPIC, partition, offset, 1000, 0, user_id.encode(), value, 0, 1, len(value), ())


class FakeConsumer:
    """A consumer of one topic. `assign` is a rebalance, with what aiokafka 0.14 does around it."""

    def __init__(self) -> None:
        self._coordinator: Any = SimpleNamespace(
            member_id="member", generation=0, coordinator_id=1, request_rejoin=self._rejoin
        )
        self.partitions: set[int] = {0, 1}
        """The topic's."""
        self.logs: dict[int, list[ConsumerRecord[bytes, bytes]]] = defaultdict(list)
        self.ends: dict[int, int] = {}
        """Where positions are when all was read, if that is beyond the last record: behind transaction markers."""
        self.stored: dict[int, tuple[int, str]] = {}
        """What the group committed."""
        self.commits: list[dict[int, tuple[int, str]]] = []
        self.commit_fails: Exception | None = None
        self.commit_takes = 0.0
        self.poll_fails: list[Exception] = []
        self.poll_hangs = False
        self.rejoins = 0
        self.stopped = False
        self.paused: set[int] = set()
        self._assigned: set[int] = set()
        self._positions: dict[int, int] = {}
        self._listener: ConsumerRebalanceListener | None = None

    # The group.

    async def revoke(self) -> None:
        """Begin a rebalance: the listener is told, and has to end what it does."""
        assert self._listener is not None
        await self._listener.on_partitions_revoked([place(one) for one in self._assigned])
        self._assigned = set()

    def join(self, *partitions: int) -> None:
        """End a rebalance: positions go back to the commits, and pauses are forgotten."""
        assert self._listener is not None
        self._coordinator.generation += 1
        self._assigned = set(partitions)
        self.paused = set()
        self._positions = {one: self.stored.get(one, (0, ""))[0] for one in partitions}
        self._listener.on_partitions_assigned([place(one) for one in partitions])

    async def assign(self, *partitions: int) -> None:
        await self.revoke()
        self.join(*partitions)

    def produce(self, partition: int, *user_ids: str) -> None:
        for user_id in user_ids:
            log = self.logs[partition]
            log.append(event(user_id, partition, log[-1].offset + 1 if log else 0))

    def _rejoin(self) -> None:
        self.rejoins += 1

    # The consumer, as aiokafka has it.

    def subscribe(self, topics: list[str], *, listener: ConsumerRebalanceListener) -> None:
        assert topics == [TOPIC]
        self._listener = listener

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        assert topic == TOPIC
        return self.partitions or None

    async def getmany(
        self, *places: TopicPartition, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]:
        """Without partitions those that are assigned and not paused are polled."""
        if self.poll_fails:
            raise self.poll_fails.pop(0)
        if self.poll_hangs:
            await asyncio.Event().wait()
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_ms / 1000
        while True:
            wanted = {it.partition for it in places} or self._assigned
            if found := self._fetched((wanted & self._assigned) - self.paused, max_records):
                return found
            if loop.time() >= end:
                return {}
            await asyncio.sleep(0.01)

    def _fetched(
        self, partitions: set[int], max_records: int
    ) -> dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]:
        found = {}
        for partition in sorted(partitions):
            batch = [it for it in self.logs[partition] if it.offset >= self._positions[partition]][:max_records]
            max_records -= len(batch)
            if batch:
                found[place(partition)] = batch
                self._positions[partition] = batch[-1].offset + 1
                if batch[-1] is self.logs[partition][-1]:
                    self._positions[partition] = max(batch[-1].offset + 1, self.ends.get(partition, 0))
        return found

    async def position(self, at: TopicPartition) -> int:
        self._check([at])
        return self._positions[at.partition]

    def highwater(self, at: TopicPartition) -> int | None:
        self._check([at])
        log = self.logs[at.partition]
        return max(log[-1].offset + 1, self.ends.get(at.partition, 0)) if log else None

    def seek(self, at: TopicPartition, offset: int) -> None:
        self._check([at])
        self._positions[at.partition] = offset

    def pause(self, *places: TopicPartition) -> None:
        self._check(places)
        self.paused |= {it.partition for it in places}

    def resume(self, *places: TopicPartition) -> None:
        self._check(places)
        self.paused -= {it.partition for it in places}

    async def commit(self, offsets: dict[TopicPartition, tuple[int, str]]) -> None:
        self._check(offsets)
        await asyncio.sleep(self.commit_takes)
        if self.commit_fails is not None:
            raise self.commit_fails
        commit = {at.partition: stored for at, stored in offsets.items()}
        self.commits.append(commit)
        self.stored |= commit

    async def stop(self) -> None:
        self.stopped = True

    def _check(self, places: Iterable[TopicPartition]) -> None:
        if not {it.partition for it in places} <= self._assigned:
            raise IllegalStateError("a partition is not assigned")
