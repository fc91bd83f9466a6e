"""The shares of all instances together follow the topic's partitions (P6)."""

from tests.integration.stage import NewStage, stop
from tests.service_process import ServiceProcess
from tests.waiting import wait_until


async def shares(services: list[ServiceProcess]) -> list[float]:
    return [await service.metric("quota_share", api="sesamy") for service in services]


async def sums_to_one(services: list[ServiceProcess], partitions: int) -> bool:
    owned = sum([await service.metric("assigned_partitions") for service in services])
    return owned == partitions and abs(sum(await shares(services)) - 1) < 1e-6


async def follow(services: list[ServiceProcess], partitions: int) -> None:
    """Within half a minute the sum must be 1 again, and never be more from the moment at which it was right."""

    async def right() -> bool:
        return await sums_to_one(services, partitions)

    await wait_until(right, 30, what=f"the shares of {partitions} partitions sum to 1")


async def test_k3_partitions_added_while_two_instances_run_change_the_shares(new_stage: NewStage) -> None:
    stage = await new_stage(1)
    services = [await stage.service(), await stage.service()]
    await follow(services, 1)
    for partitions in (3, 8):
        await stage.kafka.add_partitions(stage.topic, partitions)
        await follow(services, partitions)
        for _ in range(20):
            assert sum(await shares(services)) <= 1 + 1e-6
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
