"""Topics, who leads their partitions, and what a node tells of them."""

from collections.abc import Mapping
from typing import Any, Final

from tests.simulation.kafka.log import PartitionLog

LEADER_NOT_AVAILABLE: Final = 5
UNKNOWN_TOPIC_OR_PARTITION: Final = 3

NO_LEADER: Final = -1


class Partition:
    """A partition: its log, and the node that leads it."""

    def __init__(self, leader: int, replicas: list[int]) -> None:
        self.log = PartitionLog()
        self.leader = leader
        self.replicas = replicas
        self.last_leader = leader
        """The node that led it last, and so has all of its records."""


class Topic:
    """A topic with its settings."""

    def __init__(self, name: str, config: Mapping[str, str], replication: int) -> None:
        self.name: Final = name
        self.replication: Final = replication
        self.config: dict[str, str] = {"cleanup.policy": "delete", "max.message.bytes": "1048588", **config}
        self.partitions: list[Partition] = []

    def described(self) -> tuple[Any, ...]:
        """Return the topic as an answer about metadata has it (version 5)."""
        return (
            0,
            self.name,
            False,
            [
                (
                    LEADER_NOT_AVAILABLE if it.leader == NO_LEADER else 0,
                    number,
                    it.leader,
                    it.replicas,
                    it.replicas,
                    [],
                )
                for number, it in enumerate(self.partitions)
            ],
        )
