from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import NodeNotReadyError
from aiokafka.structs import OffsetAndMetadata

from consumer import kafka
from consumer.kafka import Committed


class LoadingCoordinator:
    """An admin client of a cluster with the topic `a` of two partitions, whose coordinator loads at first."""

    def __init__(self) -> None:
        self.asked = 0

    async def describe_topics(self) -> list[dict[str, Any]]:
        return [{"topic": "a", "error_code": 0, "partitions": [{"partition": 0}, {"partition": 1}]}]

    async def list_consumer_group_offsets(
        self, group_id: str, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        self.asked += 1
        if self.asked == 1:
            return {}  # measured: what aiokafka makes of COORDINATOR_LOAD_IN_PROGRESS
        offsets = {0: OffsetAndMetadata(7, "v1:7:"), 1: OffsetAndMetadata(-1, "")}
        return {place: offsets[place.partition] for place in partitions}


async def test_a_group_whose_coordinator_still_loads_does_not_look_new() -> None:
    client: Any = LoadingCoordinator()
    assert await kafka.group_offsets(client, "group", "a") == {0: Committed(7, "v1:7:")}
    assert client.asked == 2


class OneNodeDown(LoadingCoordinator):
    """Its cluster has a node that does not answer, and was asked first."""

    async def describe_topics(self) -> list[dict[str, Any]]:
        self.asked += 1
        if self.asked == 1:
            raise NodeNotReadyError("the node of a broker that has just gone down")
        return await super().describe_topics()


async def test_k4_a_node_that_is_down_is_not_the_only_one_asked() -> None:
    client: Any = OneNodeDown()
    assert await kafka.count_partitions(client, {"a"}) == {"a": 2}
    assert client.asked == 2
