"""The group's commits, looked at from outside, again and again, while a run goes on."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError
from msgspec import Struct

_INTERVAL = 0.1
_PATIENCE = 3.0


class Observed(Struct, frozen=True):
    """A commit of one partition, and the monotonic second at which it had been seen."""

    at: float
    partition: int
    offset: int
    metadata: str


class CommitWatch:
    """Sees every commit that stands for a tenth of a second, while the broker can be reached."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self.observed: list[Observed] = []
        self.committed: Mapping[int, int] = {}
        """By partition, the offset seen last."""
        self._bootstrap = bootstrap
        self._group = group
        self._latest: dict[int, tuple[int, str]] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
            try:
                async with asyncio.timeout(_PATIENCE):
                    await admin.start()
                while True:
                    await self._look(admin)
                    await asyncio.sleep(_INTERVAL)
            except (KafkaError, OSError):  # the broker is away, or too slow
                await asyncio.sleep(_INTERVAL)
            finally:
                await admin.close()

    async def owned(self) -> dict[str, frozenset[int]]:
        """Return which partitions the members of the group have, by client id, as the broker knows it.

        Raises:
            KafkaError, TimeoutError: the broker is away.
        """
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        try:
            async with asyncio.timeout(_PATIENCE):
                await admin.start()
                (response,) = await admin.describe_consumer_groups([self._group])
        finally:
            await admin.close()
        (group,) = response.to_object()["groups"]
        return {member["client_id"]: _partitions(member["member_assignment"]) for member in group["members"]}

    async def _look(self, admin: AIOKafkaAdminClient) -> None:
        async with asyncio.timeout(_PATIENCE):
            commits = await admin.list_consumer_group_offsets(self._group)
        now = time.monotonic()
        for place, commit in commits.items():
            latest = (commit.offset, commit.metadata)
            if self._latest.get(place.partition) != latest:
                self._latest[place.partition] = latest
                self.observed.append(Observed(now, place.partition, *latest))
        self.committed = {partition: offset for partition, (offset, _) in self._latest.items()}


def _partitions(assignment: Any) -> frozenset[int]:
    if not assignment:
        return frozenset()
    decoded = ConsumerProtocolMemberAssignment.decode(assignment)
    return frozenset(place.partition for place in decoded.partitions())
