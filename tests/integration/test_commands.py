"""The commands beside the service: `check`, `sync`, and a dry run. What only looks changes nothing."""

import json
import os
import signal
from collections.abc import Iterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from consumer.sandbox.contacts import SESAMY_FIELDS
from consumer.stream.offset_map import decode
from tests.integration.stage import VENDOR, Stage, event, stop
from tests.kafka_broker import KafkaBroker
from tests.kafka_client import Message
from tests.service_process import ServiceProcess
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def creating_kafka() -> Iterator[KafkaBroker]:
    """A broker that creates each topic that somebody asks for by name, as brokers do by default."""
    with KafkaBroker({"auto.create.topics.enable": "true"}) as broker:
        yield broker


async def topics(kafka: KafkaBroker) -> set[str]:
    """Return the topics, less those that the broker has for itself."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    try:
        await admin.start()
        return {topic for topic in await admin.list_topics() if not topic.startswith("__")}
    finally:
        await admin.close()


async def groups(kafka: KafkaBroker) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    try:
        await admin.start()
        return {name for name, _ in await admin.list_consumer_groups()}
    finally:
        await admin.close()


def spoken(process: ServiceProcess) -> str:
    return process.stdout.read_text()


async def test_check_finds_a_healthy_setup_healthy_and_creates_nothing(stage: Stage) -> None:
    before = await topics(stage.kafka)
    check = await stage.finish("check")
    assert check.returncode == 0, check.output()
    for name in (stage.topic, f"{stage.topic}.dead-letters", "Sesamy", "Mailmojo"):
        assert name in spoken(check)
    assert await topics(stage.kafka) == before
    assert stage.group not in await groups(stage.kafka)
    assert stage.world.fields == {}
    assert stage.writes_since(0) == []


@pytest.mark.parametrize("missing", ["", ".dead-letters"])
@pytest.mark.parametrize("command", ["run", "check", "sync"])
async def test_a_missing_topic_is_said_plainly_and_never_created_by_looking(
    stage: Stage, creating_kafka: KafkaBroker, command: str, missing: str
) -> None:
    there = {"": f"{stage.topic}.dead-letters", ".dead-letters": stage.topic}[missing]
    await creating_kafka.create_topic(there)
    before = await topics(creating_kafka)
    arguments = ("sync", "email|x") if command == "sync" else (command,)
    process = await stage.finish(*arguments, settings={"KAFKA_BOOTSTRAP_SERVERS": creating_kafka.bootstrap})
    assert process.returncode == 1
    assert stage.topic + missing in process.output()
    assert ("KAFKA_DEAD_LETTER_TOPIC" if missing else "KAFKA_TOPIC") in process.output()
    assert "Traceback" not in process.output()
    assert await topics(creating_kafka) == before


async def test_sync_waits_until_the_service_has_done_it_and_says_so(stage: Stage) -> None:
    users = stage.users(3)
    service = await stage.service()
    done = await stage.finish("sync", *users)
    assert done.returncode == 0, done.output()
    assert stage.stale(users) == {}  # it came back no sooner
    assert all(f"{user_id}: created" in done.output() for user_id in users)
    assert await service.metric("events_total", type="sesamy-mailmojo#sync") == len(users)
    await stop(service)


async def test_sync_reports_the_dead_letter_of_a_user_that_failed(stage: Stage) -> None:
    failing, other = stage.users(2)
    stage.fail(api="mailmojo", key="user.0000@example.no", operation="post_subscriber", status=422)
    service = await stage.service()
    refused = stage.start("sync", failing)
    await wait_until(lambda: len(stage.log.requests("mailmojo", "post_subscriber")) >= 2, what="it was refused twice")
    # Only now does anything tell whether this is about the user: Mailmojo accepts another one.
    accepted = await stage.finish("sync", other)
    assert await refused.exit_code() == 1
    assert f"{failing}: dead-lettered: rejected; " in refused.output()
    assert (accepted.returncode, f"{other}: created" in accepted.output()) == (0, True)
    assert stage.stale([other]) == {}
    await stop(service)


async def test_k16_sync_reports_what_became_of_each_user(stage: Stage) -> None:
    new, same = stage.users(2)
    stage.users(1, "guest|guest")
    guest, unknown = "guest|guest-0000", "email|nobody"
    service = await stage.service()
    await stage.finish("sync", same)

    done = await stage.finish("sync", "--json", new, same, guest, unknown)
    told = {line["user_id"]: line for line in map(json.loads, done.stdout.read_text().splitlines())}

    assert done.returncode == 0, done.output()
    assert told == {
        new: {"user_id": new, "status": "created"},
        same: {"user_id": same, "status": "unchanged"},
        guest: {"user_id": guest, "status": "skipped", "reason": "guest"},
        unknown: {"user_id": unknown, "status": "skipped", "reason": "unknown_user"},
    }
    await stop(service)


async def test_sync_that_is_interrupted_reports_the_users_that_are_done(stage: Stage) -> None:
    done, failing = stage.users(2)
    stage.fail(api="mailmojo", key="user.0001@example.no", status=500)
    service = await stage.service()
    asked = stage.start("sync", done, failing)

    async def is_recorded() -> bool:
        commits = await stage.kafka.committed(stage.group, stage.topic)
        return any(commit.offset or decode(commit.metadata, 0) for commit in commits.values())

    await wait_until(is_recorded, what="a commit says that one of them is done")
    os.kill(asked.pid, signal.SIGINT)
    assert await asked.exit_code(30) == 130
    assert f"{done}: created" in asked.output()
    assert f"{failing}: waiting; not done when the command was interrupted" in asked.output()
    stage.heal()
    await stop(service)


async def test_k16_sync_says_that_the_service_skips_the_vendor(stage: Stage) -> None:
    (user_id,) = stage.users(1)
    service = await stage.service(SESAMY_VENDOR_ID=VENDOR)
    done = await stage.finish("sync", user_id, settings={"SESAMY_VENDOR_ID": "vendor_other"})
    assert f"{user_id}: skipped: another vendor" in done.output()
    assert stage.contact(user_id) is None
    await stop(service)


async def test_sync_without_waiting_leaves_the_request_for_the_service(stage: Stage) -> None:
    (user_id,) = stage.users(1)
    asked = await stage.finish("sync", "--no-wait", user_id)
    assert asked.returncode == 0, asked.output()
    assert stage.contact(user_id) is None
    service = await stage.service()
    await stage.all_committed()
    assert stage.stale([user_id]) == {}
    await stop(service)


async def test_sync_direct_does_it_itself_but_not_beside_a_running_service(stage: Stage) -> None:
    first, second = stage.users(2)
    done = await stage.finish("sync", "--direct", first)
    assert done.returncode == 0, done.output()
    assert stage.stale([first]) == {}
    service = await stage.service()
    refused = await stage.finish("sync", "--direct", second)
    assert refused.returncode == 1
    assert "--direct" in refused.output()
    assert stage.contact(second) is None
    await stop(service)


async def test_a_dry_sync_says_what_would_be_written_and_writes_nothing(stage: Stage) -> None:
    (user_id,) = stage.users(1)
    done = await stage.finish("sync", "--dry-run", user_id)
    assert done.returncode == 0, done.output()
    assert "sesamy_active_subscriber" in spoken(done)
    assert all(name in spoken(done) for name in ("Sesamy User ID", "Issues Remaining"))
    assert stage.writes_since(0) == []
    assert set(await stage.kafka.end_offsets(stage.topic)) == {0, 1, 2, 3}
    assert sum((await stage.kafka.end_offsets(stage.topic)).values()) == 0


async def test_a_dry_service_plans_and_commits_for_itself_and_leaves_everything_to_the_real_one(stage: Stage) -> None:
    users = stage.users(20)
    await stage.send(*(event(user_id) for user_id in users))
    before = await groups(stage.kafka)
    dry = await stage.service(SYNC_DRY_RUN="true")
    (own,) = await groups(stage.kafka) - before
    await stage.all_committed(group=own)
    assert own != stage.group
    assert len(stage.requests_since(0, "get_user")) == len(users)
    assert stage.writes_since(0) == []
    assert stage.world.fields == {}
    assert "sesamy_active_subscriber" in dry.output()

    service = await stage.service()
    await stage.all_committed()
    assert stage.stale(users) == {}
    assert stage.world.fields.items() >= SESAMY_FIELDS.items()
    await stop(dry)
    await stop(service)


async def test_requests_of_ours_yield_to_events_of_users(stage: Stage) -> None:
    requested, eager = stage.users(60, "email|asked"), stage.users(20, "email|eager")
    await stage.send(*(event(user_id, "sesamy-mailmojo#sync") for user_id in requested))
    service = await stage.service(MAILMOJO_REQUESTS_PER_SECOND="40", MAILMOJO_BURST="4", SYNC_CONCURRENCY="4")
    await wait_until(lambda: len(stage.log.writes()) > 2, what="requests are under way")
    await stage.send(*(event(user_id) for user_id in eager))
    await stage.all_committed()
    order = [write.user_id for write in stage.log.writes()]
    assert max(order.index(user_id) for user_id in eager) < len(order) - 20
    await stop(service)


async def test_p9_variables_of_kubernetes_are_ignored_and_a_misspelt_one_is_named(stage: Stage) -> None:
    of_others = {"INGEST_PORT": "tcp://10.96.0.12:8090", "KAFKA_PORT_9092_TCP": "tcp://10.96.0.13:9092"}
    service = await stage.service(SYNC_CONCURENCY="7", **of_others)
    (warning,) = await service.logged("settings.doubtful")
    assert "did you mean SYNC_CONCURRENCY?" in warning["reason"]
    checked = await stage.finish("check", settings={"SYNC_CONCURENCY": "7", **of_others})
    assert checked.returncode == 0, checked.output()
    assert "warning  settings" in checked.output()
    assert checked.output().count("SYNC_CONCURENCY") == 1
    await stop(service)


async def test_k14_a_dry_service_stores_no_dead_letter_and_passes_what_would_be_one(stage: Stage) -> None:
    failing, other = stage.users(2)
    stage.fail(api="sesamy", key=failing, operation="get_user", status=500)
    letters = f"{stage.topic}.dead-letters"
    await stage.send(Message(b"x", b"nonsense"), event(failing), event(other))
    before = await groups(stage.kafka)
    dry = await stage.service(SYNC_DRY_RUN="true", SYNC_MAX_ATTEMPTS="2")
    (own,) = await groups(stage.kafka) - before
    await stage.all_committed(group=own)
    assert await stage.kafka.read_all(letters) == []
    would_be = await dry.logged("dead_letter.would_be_stored", 2)
    assert {line["reason"] for line in would_be} == {"malformed", "exhausted"}
    assert await dry.metric("dead_letters_total") == 0
    assert await dry.metric("events_total", outcome="dead_lettered") == 2
    assert (await dry.status())["recent_dead_letters"] == []
    await stop(dry)


@pytest.mark.parametrize(
    "command",
    [("sync",), ("sync", "--direct"), ("sync", "--no-wait"), ("backfill",), ("dead-letters", "retry", "--yes")],
)
async def test_k14_with_the_setting_a_command_writes_nothing_either(stage: Stage, command: tuple[str, ...]) -> None:
    (user_id,) = stage.users(1)
    await stage.kafka.produce(f"{stage.topic}.dead-letters", [Message(user_id.encode(), b"{}")])
    arguments = (*command, user_id) if command[0] == "sync" else command
    done = await stage.finish(*arguments, settings={"SYNC_DRY_RUN": "true"})
    assert done.returncode == 0, done.output()
    assert "would be" in done.output()
    assert stage.writes_since(0) == []
    assert sum((await stage.kafka.end_offsets(stage.topic)).values()) == 0


async def test_k16_sync_says_that_it_does_not_know_when_the_service_did_not_tell(stage: Stage) -> None:
    (user_id,) = stage.users(1)
    asking = stage.start("sync", "--json", user_id)

    async def asked() -> bool:
        return sum((await stage.kafka.end_offsets(stage.topic)).values()) == 1

    await wait_until(asked, what="the request is in the topic")
    ends = await stage.kafka.end_offsets(stage.topic)
    await stage.kafka.commit(
        stage.group, stage.topic, {partition: OffsetAndMetadata(end, "") for partition, end in ends.items()}
    )
    assert await asking.exit_code() == 1
    told = json.loads(asking.stdout.read_text())
    assert (told["user_id"], told["status"]) == (user_id, "unknown")
