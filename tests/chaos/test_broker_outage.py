import asyncio
from pathlib import Path

from consumer.sandbox import World
from consumer.sandbox.population import ORDINARY
from tests.chaos.findings import findings
from tests.chaos.stage import SESSION, open_stage
from tests.kafka_broker import KafkaBroker


async def test_an_instance_outlives_a_broker_that_is_away_for_longer_than_its_session(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    world = World()
    world.populate(60, kinds=ORDINARY)
    users = world.user_ids()
    async with open_stage(kafka, tmp_path, world) as stage:
        stage.group.start("a", "b")
        await stage.group.joined()
        for user_id in users[:30]:
            await stage.events.change(user_id)
        await asyncio.to_thread(kafka.kill)
        for user_id in users:
            await stage.events.change(user_id)
        await asyncio.sleep(SESSION + 1)
        await asyncio.to_thread(kafka.start)
        await stage.drained(45)
        assert [stage.group[name].returncode for name in "ab"] == [None, None], stage.group.outputs()
        assert not findings(await stage.evidence())
