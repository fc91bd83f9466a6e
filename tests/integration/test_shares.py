"""The shares of all instances together follow the topic's partitions (P6)."""

from tests.integration.stage import NewStage, stop
from tests.service_process import ServiceProcess
from tests.waiting import wait_until


async def shares(services: list[ServiceProcess]) -> list[float]:
    return [await service.metric("quota_share", api="sesamy") for service in services]


async def follow(services: list[ServiceProcess], partitions: int) -> None:
    """All partitions are assigned within half a minute; from then on the sum is at most 1, and soon it is 1."""

    async def assigned() -> bool:
        return sum([await service.metric("assigned_partitions") for service in services]) == partitions

    async def right() -> bool:
        total = sum(await shares(services))
        assert total <= 1 + 1e-6
        return total > 1 - 1e-6

    await wait_until(assigned, 50, what=f"all {partitions} partitions are assigned")
    await wait_until(right, 30, what=f"the shares of {partitions} partitions sum to 1")


async def test_k3_partitions_added_while_two_instances_run_change_the_shares(new_stage: NewStage) -> None:
    stage = await new_stage(1)
    # The first one leads the group and learns of new partitions first. The other one has the lower name and so the
    # partition that there was before: nothing of its own tells it that there are more.
    services = [await stage.service(KAFKA_CLIENT_ID="z"), await stage.service(KAFKA_CLIENT_ID="a")]
    await follow(services, 1)
    for partitions in (2, 8):
        await stage.kafka.add_partitions(stage.topic, partitions)
        await follow(services, partitions)
    for service in services:
        await stop(service)


async def test_k3_a_topic_made_anew_with_fewer_partitions_changes_the_shares(new_stage: NewStage) -> None:
    stage = await new_stage(6)
    services = [await stage.service(), await stage.service()]
    await follow(services, 6)
    await stage.kafka.delete_topic(stage.topic)
    await stage.kafka.create_topic(stage.topic, 2)
    await follow(services, 2)
    for service in services:
        await stop(service)
