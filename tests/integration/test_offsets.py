"""Where reading starts, how far it runs ahead (P7), and that lag reaches 0."""

from aiokafka import AIOKafkaProducer
from aiokafka.structs import OffsetAndMetadata

from tests.integration.stage import NewStage, Stage, event, stop
from tests.waiting import wait_until


async def test_a_new_group_starts_at_the_beginning(stage: Stage) -> None:
    users = stage.users(8)
    await stage.send(*(event(user_id) for user_id in users))
    service = await stage.service()
    await stage.all_committed()
    assert stage.stale(users) == {}
    await stop(service)


async def test_a_new_group_starts_at_the_end_when_told_to_and_loses_nothing_from_then_on(stage: Stage) -> None:
    old, new, later = stage.users(3)
    await stage.send(event(old))
    service = await stage.service(KAFKA_AUTO_OFFSET_RESET="latest")
    await stage.send(event(new))
    await stage.all_committed()
    assert stage.stale([new]) == {}
    await stop(service)

    await stage.send(*(event(later, partition=partition) for partition in range(4)))
    again = await stage.service(KAFKA_AUTO_OFFSET_RESET="latest")
    await stage.all_committed()
    assert await again.metric("events_total") == 4
    assert stage.contact(old) is None
    await stop(again)


async def test_a_partition_added_later_starts_at_its_beginning_even_with_latest(new_stage: NewStage) -> None:
    stage = await new_stage(1)
    first, second = stage.users(2)
    service = await stage.service(KAFKA_AUTO_OFFSET_RESET="latest")
    await stage.send(event(first))
    await stage.all_committed()
    await stop(service)
    await stage.kafka.add_partitions(stage.topic, 2)
    await stage.send(event(second, partition=1))
    again = await stage.service(KAFKA_AUTO_OFFSET_RESET="latest")
    await stage.all_committed()
    assert stage.stale([first, second]) == {}
    await stop(again)


async def test_a_commit_below_the_logs_start_goes_on_from_there_and_says_what_was_lost(new_stage: NewStage) -> None:
    stage = await new_stage(1)
    users = stage.users(10)
    await stage.send(*(event(user_id) for user_id in users))
    await stage.kafka.commit(stage.group, stage.topic, {0: OffsetAndMetadata(2, "")})
    await stage.kafka.delete_records(stage.topic, {0: 6})
    service = await stage.service()
    await stage.all_committed()
    assert stage.stale(users[6:]) == {}
    assert len(stage.requests_since(0, "get_user")) == 4
    assert await service.metric("records_lost_total") == 4
    await stop(service)  # and so its log is complete
    assert [line for line in service.events() if line["level"] == "error" and "lost" in str(line)]


async def test_aborted_transactions_are_not_read_and_lag_reaches_0_behind_their_markers(stage: Stage) -> None:
    kept, aborted = stage.users(20), stage.users(5, "email|aborted")
    producer = AIOKafkaProducer(bootstrap_servers=stage.kafka.bootstrap, transactional_id=f"of-{stage.topic}")
    async with producer:
        for users, is_aborted in ((kept, False), (aborted, True)):
            await producer.begin_transaction()
            for user_id in users:
                message = event(user_id)
                await producer.send_and_wait(stage.topic, message.value, message.key)
            await (producer.abort_transaction() if is_aborted else producer.commit_transaction())
    service = await stage.service()
    await stage.all_committed()
    assert stage.stale(kept) == {}
    assert [user_id for user_id in aborted if stage.contact(user_id)] == []
    assert await service.metric("consumer_lag") == 0
    assert await service.metric("events_total") == len(kept)
    await stop(service)


async def test_with_an_api_down_only_so_many_events_are_held_and_all_are_done_afterwards(stage: Stage) -> None:
    limit, events = 300, 6000
    users = stage.users(200)
    stage.fail(api="mailmojo", status=503)
    padding = "x" * 200
    for _ in range(events // len(users)):
        await stage.send(*(event(user_id, someNewKey=padding) for user_id in users))
    service = stage.start(SYNC_MAX_PENDING=str(limit))
    await service.admin_port()
    most = 0.0

    async def is_full() -> bool:
        nonlocal most
        most = max(most, await service.metric("events_pending"))
        return most >= limit and stage.log.count >= 8

    await wait_until(is_full, what="the service holds as much as it may")
    probes = stage.log.count

    async def is_still_full() -> bool:
        await is_full()
        return stage.log.count >= probes + 2

    await wait_until(is_still_full, what="time passes")
    assert most <= limit
    stage.heal()
    await stage.all_committed()
    assert stage.stale(users) == {}
    assert await service.metric("events_total") == events
    assert await service.metric("events_pending") == 0
    await stage.assert_sentinels(service)
    await stop(service)


async def test_a_topic_that_is_deleted_is_waited_for_and_read_when_it_is_made_anew(stage: Stage) -> None:
    users = stage.users(12)
    service = await stage.service()
    await stage.send(*(event(user_id) for user_id in users[:6]))
    await stage.all_committed()
    await stage.kafka.delete_topic(stage.topic)

    async def missed() -> bool:
        status, said = await service.get("/readyz")
        return status == 503 and stage.topic in said

    await wait_until(missed, what="/readyz misses the topic")

    async def released() -> bool:
        return await service.metric("assigned_partitions") == 0

    await wait_until(released, what="nothing is assigned")
    assert (await service.get("/livez"))[0] == 200
    await stage.kafka.create_topic(stage.topic, 4)
    await stage.send(*(event(user_id) for user_id in users[6:]))
    await wait_until(lambda: not stage.stale(users), within=60, what="the new topic's events are synced")
    await stage.all_committed()
    await stop(service)
