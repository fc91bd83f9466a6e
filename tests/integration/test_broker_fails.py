"""When Kafka itself fails: the service waits, says so, and goes on where it was."""

import asyncio

from consumer.sandbox import Plan
from consumer.sandbox.contacts import SESAMY_FIELDS
from tests.integration.stage import Stage, event, headers, stop
from tests.kafka_client import Message
from tests.waiting import wait_until


async def test_a_broker_that_goes_and_comes_back_costs_nothing_but_time(stage: Stage) -> None:
    users = stage.users(200)
    stage.world.fields |= SESAMY_FIELDS
    stage.sandbox.faults.set(Plan(latency=0.1, jitter=0.1))
    service = await stage.service(KAFKA_SESSION_TIMEOUT="6", SYNC_CONCURRENCY="8")
    await stage.send(*(event(user_id) for user_id in users))
    await wait_until(lambda: len(stage.log.writes()) > 40, what="the work is under way")
    before = await stage.committed()
    await asyncio.to_thread(stage.kafka.kill)
    try:

        async def unready() -> bool:
            status, said = await service.get("/readyz")
            return status == 503 and "kafka" in said.lower()

        await wait_until(unready, what="/readyz answers 503")
        assert (await service.get("/livez"))[0] == 200
        seen = stage.log.count
        await wait_until(lambda: quiet_since(stage, seen), what="no write starts any more")
    finally:
        await asyncio.to_thread(stage.kafka.restart)
    assert all(offset >= before.get(partition, 0) for partition, offset in (await stage.committed()).items())
    await service.ready()
    await stage.all_committed()
    assert stage.stale(users) == {}
    assert len(stage.log.writes()) == len(users)
    await stage.assert_sentinels(service)
    await stop(service)


async def quiet_since(stage: Stage, number: int) -> bool:
    seen = stage.log.count
    await asyncio.sleep(1)
    return not stage.writes_since(max(seen, number))


async def test_an_offset_waits_for_its_dead_letter_to_be_stored(stage: Stage) -> None:
    users = stage.users(8)
    letters = f"{stage.topic}.refusing"
    await stage.kafka.create_topic(letters, 1, {"max.message.bytes": "10"})
    service = await stage.service(KAFKA_DEAD_LETTER_TOPIC=letters)
    await stage.send(Message(b"x", b"malformed", partition=0), *(event(user_id, partition=0) for user_id in users))
    await wait_until(lambda: not stage.stale(users), what="the users behind it are synced")
    assert (await stage.committed()).get(0, 0) == 0
    assert await service.metric("dead_letters_total") == 0
    await stop(service)
    assert (await stage.committed()).get(0, 0) == 0

    seen = stage.log.count
    successor = await stage.service()
    await stage.all_committed()
    (letter,) = await stage.dead_letters()
    assert (letter.value, headers(letter)["dead-letter-offset"]) == (b"malformed", "0")
    assert stage.requests_since(seen, "get_user") == []  # the commit says what was done above it
    await stop(successor)
