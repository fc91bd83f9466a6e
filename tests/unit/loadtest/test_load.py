"""What a load test sends, and what it tells its instances."""

import asyncio
import os
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest
from msgspec import structs

from consumer.failure import Failure
from consumer.loadtest import environment, events, stage
from consumer.loadtest.events import Expectation, Invented
from consumer.loadtest.fakes import Fakes
from consumer.loadtest.plan import LoadPlan
from consumer.loadtest.sent import NUMBER, NotingSink
from consumer.loadtest.stage import LoadTest, beside
from consumer.loadtest.topics import OwnTopics
from consumer.replay.pace import Pacer, at_once, at_rate
from consumer.replay.record import Record, to_line
from consumer.replay.run import Replay, Summary
from consumer.sandbox import Plan, Quota, World
from consumer.sandbox.population import USERS
from consumer.settings import load
from schemas.events import decode_event
from tests.unit.loadtest.runs import MACHINE
from tests.waiting import wait_until

SANDBOX = {"SESAMY_API_URL": "http://127.0.0.1:1", "SESAMY_CLIENT_SECRET": "sandbox-secret"}


def expectation(**environ: str) -> Expectation:
    return Expectation(load(environ, needs=()))


async def invented(plan: LoadPlan) -> list[Record]:
    return [record async for batch in Invented(plan, "vendor").batches() for record in batch]


async def test_invented_events_are_the_same_for_the_same_seed_and_about_users_of_the_sandbox() -> None:
    plan = LoadPlan(events=1200, users=50)
    first, again = await invented(plan), await invented(plan)
    assert len(first) == 1200
    assert [record.key for record in first] == [record.key for record in again]
    world = World()
    world.populate(50, plan.seed, kinds=USERS)
    assert {(record.key or b"").decode() for record in first} <= set(world.user_ids())
    assert set(events.people(plan, [])) == set(world.user_ids())
    assert all(decode_event(record.value or b"").user_id.encode() == record.key for record in first)


async def test_by_zipfs_law_few_users_get_most_of_the_events() -> None:
    counts = Counter(record.key for record in await invented(LoadPlan(events=2000, users=1000, zipf=1.2)))
    assert sum(count for _, count in counts.most_common(50)) > 1000
    even = Counter(record.key for record in await invented(LoadPlan(events=2000, users=1000)))
    assert sum(count for _, count in even.most_common(50)) < 500


def test_the_sandbox_can_have_the_users_of_a_recording() -> None:
    plan = LoadPlan(source="file", seed=3)
    ids = ["email|a", "email|b~2"]
    world = World()
    world.populate(2, 3, kinds=events.kinds(plan), ids=ids)
    assert world.user_ids() == ids
    people = events.people(plan, ids)
    user = world.user("email|b~2")
    assert user is not None
    assert user.profile["userId"] == "email|b~2"
    assert user.profile["email"] == people["email|b~2"].address


async def test_a_recordings_users_are_those_whom_its_events_ask_to_sync(tmp_path: Path) -> None:
    path = tmp_path / "recording.ndjson"
    values = [
        value_of("email|1"),
        value_of(r"a\nb"),
        value_of(r"a\rb"),
        value_of("guest|1"),
        None,
        b"no",
        value_of("email|2"),
        value_of("email|1"),
    ]
    path.write_bytes(b"".join(to_line(Record(key=b"k", value=value)) for value in values))
    assert await events.user_ids(path, expectation(), 0) == ["email|1", "email|2"]
    assert await events.user_ids(path, expectation(), 6) == ["email|1"]


def value_of(user_id: str, event_type: str = "contract.1#update", vendor: str = "v") -> bytes:
    return b'{"eventType": "%s", "vendorId": "%s", "userId": "%s"}' % tuple(
        text.encode() for text in (event_type, vendor, user_id)
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (value_of("email|1"), ("email|1", "")),
        (value_of("email|1", "sesamy-mailmojo#sync"), ("email|1", "")),
        (None, (None, "skipped_tombstone")),
        (b"{", (None, "dead_lettered")),
        (value_of("email|1", "other"), (None, "skipped_type")),
        (value_of("email|1", vendor="w"), (None, "skipped_vendor")),
        (value_of("anonymous|1"), (None, "skipped_guest")),
    ],
)
def test_what_is_expected_of_a_record_follows_the_contract(
    value: bytes | None, expected: tuple[str | None, str]
) -> None:
    assert expectation(SESAMY_VENDOR_ID="v").of(Record(value=value)) == expected


class Topic:
    def __init__(self) -> None:
        self.records: list[Record] = []

    async def put(self, record: Record, due: float | None = None) -> None:
        self.records.append(record)

    async def flush(self) -> None:
        pass


class Changing:
    """Changes users, the slower the earlier, so that nothing but the lanes keeps an order."""

    def __init__(self) -> None:
        self.versions: Counter[str] = Counter()

    async def change(self, user_id: str) -> int:
        await asyncio.sleep(0.001 if self.versions.total() < 20 else 0)
        self.versions[user_id] += 1
        return 1 + self.versions[user_id]


async def sent_by(plan: LoadPlan, pacer: Pacer) -> tuple[NotingSink, Topic, Changing]:
    topic, world = Topic(), Changing()
    people = events.people(plan, [])
    sink = NotingSink(topic, pacer, expectation(), people, change=world.change, share=plan.changes, seed=plan.seed)
    running = asyncio.create_task(sink.run())
    await Replay(Invented(plan, "vendor"), sink, pacer).run(events.whole)
    running.cancel()
    return sink, topic, world


async def test_every_event_is_noted_with_its_number_and_version_and_order_per_key_is_kept() -> None:
    plan = LoadPlan(events=500, users=40)
    sink, topic, world = await sent_by(plan, Pacer(at_once, time.monotonic))
    assert sink.sent.count == len(topic.records) == 500
    numbers: dict[bytes | None, list[int]] = {}
    for record in topic.records:
        for name, content in record.headers:
            assert name == NUMBER
            numbers.setdefault(record.key, []).append(int(content or b""))
    assert all(found == list(range(len(found))) for found in numbers.values())
    for user_id, user in sink.sent.users.items():
        versions = list(user.versions)
        assert versions == sorted(versions)
        assert (versions[0], versions[-1]) == ((1, 1) if user.skipped else (2, user.version))
        assert user.skipped or user.address
        assert world.versions[user_id] == user.version - 1


async def test_a_topic_that_refuses_ends_the_replay() -> None:
    class Refusing(Topic):
        async def put(self, record: Record, due: float | None = None) -> None:
            raise Failure("no")

    plan, pacer = LoadPlan(events=5000, users=40), Pacer(at_once, time.monotonic)
    people = events.people(plan, [])
    sink = NotingSink(Refusing(), pacer, expectation(), people, change=Changing().change, share=1, seed=1)
    with pytest.raises(ExceptionGroup) as refusal:
        async with asyncio.timeout(60) as patience, beside(sink.run()):
            await Replay(Invented(plan, "vendor"), sink, pacer).run(events.whole)
    assert refusal.group_contains(Failure)
    assert not patience.expired()


async def test_a_replay_that_is_given_up_does_not_wait_for_what_is_queued() -> None:
    async def never(_user_id: str) -> int:
        forever: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        return await forever

    plan, pacer = LoadPlan(events=5000, users=40, ordinary=True), Pacer(at_once, time.monotonic)
    sink = NotingSink(Topic(), pacer, expectation(), events.people(plan, []), change=never, share=1, seed=1)

    async def replay() -> None:
        async with beside(sink.run()):
            await Replay(Invented(plan, "vendor"), sink, pacer).run(events.whole)

    replaying = asyncio.create_task(replay())
    await wait_until(lambda: any(lane.full() for lane in sink._lanes), what="a full lane")
    replaying.cancel()
    await asyncio.wait([replaying], timeout=60)
    ended = replaying.cancelled()
    replaying.cancel()
    assert ended


async def test_intended_times_are_the_schedules_and_no_event_is_sent_before_its_own() -> None:
    plan = LoadPlan(events=100, users=10, ordinary=True, changes=0)
    sink, _, _ = await sent_by(plan, Pacer(at_rate(2000), time.monotonic))
    meant = sorted(at for user in sink.sent.users.values() for at in user.meant_at)
    assert meant == pytest.approx([sink.sent.began + number / 2000 for number in range(100)])
    for user in sink.sent.users.values():
        assert all(sent >= at - 0.002 for sent, at in zip(user.sent_at, user.meant_at, strict=True))
        assert user.version == 1


@pytest.mark.parametrize(
    ("backlog", "order"),
    [(False, ["instances", "faults", "replay"]), (True, ["replay", "faults", "instances"])],
    ids=["paced", "backlog"],
)
async def test_faults_begin_with_the_load_and_not_before_the_instances_are_ready(
    backlog: bool, order: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[str] = []

    def note(step: str) -> None:
        seen.append(step)
        if len(seen) == len(order):
            raise Failure("enough")

    class Stage(LoadTest):
        async def _start(self, sandbox: Fakes) -> None:
            note("instances")

        async def _replay(self, recording: Path | None, sink: NotingSink, pacer: Pacer) -> Summary:
            note("replay")
            sink.sent.others["skipped_type"] += 1
            return Summary(read=1, stored=1, seconds=1, per_second=1, complete=True, last_timestamp=None)

    class Sandbox(Fakes):
        def __init__(self) -> None:
            self.pid = os.getpid()

        async def set_faults(self, plan: Plan) -> None:
            note("faults")

    async def lag(_: OwnTopics) -> tuple[int, int]:
        return 1, 0

    monkeypatch.setattr(OwnTopics, "lag", lag)
    monkeypatch.setattr(stage, "TopicSink", lambda *_: nullcontext())
    test = Stage(LoadPlan(events=1, users=1, backlog=backlog), load({}, needs=()), tmp_path)
    with pytest.raises((Failure, ExceptionGroup)):
        await test._under_load(Sandbox(), None, {}, MACHINE)
    assert seen == order


async def test_what_the_system_refuses_is_said_with_what_was_being_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    test = LoadTest(LoadPlan(events=1, users=1), load({}, needs=()), tmp_path / "gone")
    monkeypatch.setattr(test, "_topics", nullcontext())
    with pytest.raises(Failure, match=r"starting the sandbox: .*No such file or directory"):
        await test.run()


def test_an_instance_gets_the_sandboxs_addresses_and_nothing_of_the_real_apis(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("file-secret")
    real = {
        "SESAMY_CLIENT_ID": "real-client",
        "SESAMY_CLIENT_SECRET_FILE": str(secret),
        "SESAMY_API_URL": "https://real.example.com",
        "MAILMOJO_API_TOKEN": "real-token",
        "MAILMOJO_API_URL": "https://real.example.org",
        "INGEST_SECRET": "real-webhook",
        "SESAMY_MAILMOJO_CONFIG": "",
        "KAFKA_BOOTSTRAP_SERVERS": "kafka.example.com:9093",
        "KAFKA_TOPIC": "real.events",
        "KAFKA_GROUP_ID": "real-group",
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "me",
        "KAFKA_SASL_PASSWORD": "for-kafka",
        "SYNC_LINGER": "0.5",
        "SYNC_COALESCE": "false",
        "SYNC_GUEST_PREFIXES": "a|,b|",
        "SYNC_TIME_ZONE": "Europe/Oslo",
        "SYNC_DRY_RUN": "true",
    }
    for name, value in real.items():
        monkeypatch.setenv(name, value)
    settings = load(real, needs={"kafka"})
    plan = LoadPlan(sesamy=Quota(100 / 60, 20))
    found = environment.of_instance(settings, plan, SANDBOX, "load-test-1", 2)
    assert not [value for value in found.values() if "real" in value or "file-secret" in value]
    assert found["SESAMY_API_URL"] == SANDBOX["SESAMY_API_URL"]
    instance = load({**found, "MAILMOJO_API_TOKEN": "t", "MAILMOJO_LIST_ID": "7", "SESAMY_CLIENT_ID": "c"})
    assert (instance.kafka.topic, instance.group_id) == ("load-test-1", "load-test-1")
    assert instance.kafka.dead_letter_topic == "load-test-1.dead-letters"
    assert instance.kafka.sasl_password.value == "for-kafka"
    assert instance.sync == structs.replace(settings.sync, dry_run=False)
    assert instance.sesamy.requests_per_minute == pytest.approx(100)
    assert (instance.admin.host, instance.admin.port) == ("127.0.0.1", 0)
    assert environment.syncing(settings)["SYNC_LINGER"] == "0.5"


def test_an_instance_knows_no_guests_by_id_where_the_caller_has_none() -> None:
    settings = load({"SYNC_GUEST_PREFIXES": ","}, needs=())
    found = environment.of_instance(settings, LoadPlan(), SANDBOX, "load-test-1", 1)
    assert load(found, needs=()).sync.guest_prefixes == settings.sync.guest_prefixes == ()
