"""One run of the demo: broker, fakes, events and the real service, in one process, until every event is done."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from msgspec import Struct

from consumer import files, kafka
from consumer.demo.cast import Role, cast
from consumer.demo.events import VENDOR, Feeder, script
from consumer.failure import Failure
from consumer.line_writer import text_stream_to
from consumer.ops import logs
from consumer.ops.metrics import Metrics
from consumer.records.fetching import decodable
from consumer.sandbox import Contact, Options, Plan, Rule, Sandbox, World
from consumer.sandbox.broker import CONSUMER_OPTIONS, MockBroker
from consumer.service import Service, open_service
from consumer.settings import LogSettings, Settings, load

TOPIC: Final = "sesamy.events"
LINGER: Final = 0.5
_STREAM_SHARE: Final = 0.2
_QUOTA_SHARE: Final = 0.3
"""Of the time there is: what the stream of events takes, and what the quotas alone would take."""
_READS_PER_USER: Final = 5.0
_MAILMOJO_CALLS_PER_USER: Final = 2.5
_CLOSING: Final = 3.0
"""Seconds kept for stopping the service and looking at the result."""


class Pace(Struct, frozen=True):
    """How fast the demo goes: the quotas of the demo are higher than the real ones, or it would take minutes."""

    sesamy_per_minute: int
    mailmojo_per_second: int
    stream_seconds: float

    @property
    def sesamy_burst(self) -> int:
        """A quarter of a second's worth."""
        return max(4, self.sesamy_per_minute // 240)

    @property
    def mailmojo_burst(self) -> int:
        """A quarter of a second's worth."""
        return max(4, self.mailmojo_per_second // 4)


def pace_for(users: int, seconds: float) -> Pace:
    """Return the pace that brings so many users through within that time."""
    span = seconds * _QUOTA_SHARE
    return Pace(
        sesamy_per_minute=round(max(10, users * _READS_PER_USER / span)) * 60,
        mailmojo_per_second=round(max(10, users * _MAILMOJO_CALLS_PER_USER / span)),
        stream_seconds=seconds * _STREAM_SHARE,
    )


class Letter(Struct, frozen=True):
    """A record of the dead-letter topic: its own headers, and how many bytes of the event are kept."""

    headers: dict[str, str]
    bytes_kept: int


class Stage:
    """Everything the demo is made of, while it runs and afterwards."""

    def __init__(self, users: int, seed: int, seconds: float) -> None:
        """Set the stage: the world, its past, and the script."""
        self.users, self.seconds, self.pace = users, seconds, pace_for(users, seconds)
        self.world = World()
        self.world.populate(users, seed)
        self.roles: tuple[Role, ...] = cast()
        for role in self.roles:
            role.enter(self.world)
        self.before: dict[str, Contact] = {contact.email.lower(): contact for contact in self.world.contacts()}
        self.steps = script(self.world, self.roles, seed)
        self.metrics = Metrics()
        self.sandbox = Sandbox(Options(plan=_faults(self.roles), seed=seed), world=self.world)
        self.log_file = Path(tempfile.mkdtemp(prefix="sesamy-mailmojo-demo-")) / "service.log"
        # Of the run:
        self.began = 0.0
        self.took = 0.0
        self.readiness: tuple[int, str] = (0, "")
        # Known when it is over:
        self.committed: Mapping[int, int] = {}
        self.letters: list[Letter] = []


class Running(Struct, frozen=True):
    """The parts of a run that only exist while it runs."""

    service: Service
    feeder: Feeder
    settings: Settings
    over: asyncio.Event

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, well or not."""
        return self.over.is_set()

    @property
    def is_done(self) -> bool:
        """Whether everything was stored, and is committed."""
        if not self.feeder.finished:
            return False
        progress = self.service.overview.partitions()
        return all(
            progress.get(str(partition), {}).get("committed") == end for partition, end in self.feeder.ends.items()
        )


@asynccontextmanager
async def run(stage: Stage) -> AsyncIterator[Running]:
    """Run the demo beside the block until every event is done; then leave the result in the stage.

    Raises:
        Failure: a part does not start, the service fails, or the time is not enough.
    """
    loop = asyncio.get_running_loop()
    stage.began = loop.time()
    with files.create(stage.log_file, overwrite=True) as file, text_stream_to(file.fileno()) as log:
        logs.configure(LogSettings(level="info", format="json"), log)
        async with MockBroker([TOPIC, f"{TOPIC}.dead-letters"]) as broker, stage.sandbox:
            settings = _settings(stage, broker.bootstrap_servers)
            feeder = Feeder(settings, stage.steps)
            try:
                await feeder.start()
                async with open_service(settings, stage.metrics, consumer_options=CONSUMER_OPTIONS) as service:
                    stopping = asyncio.Event()
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(service.run(stopping), name="service")
                        running = Running(service, feeder, settings, asyncio.Event())
                        playing = tasks.create_task(_play(stage, running), name="play")
                        yield running
                        await playing
                        stopping.set()
                stage.committed, stage.letters = await _look(settings)
            finally:
                await feeder.stop()
    stage.took = loop.time() - stage.began


async def _play(stage: Stage, running: Running) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(stage.began + stage.seconds - _CLOSING):
            while running.service.overview.unready():  # noqa: ASYNC110 - no event says it
                await asyncio.sleep(0.05)
            stage.readiness = await _ask(f"http://127.0.0.1:{running.service.admin_port}/readyz")
            await running.feeder.stream(stage.pace.stream_seconds)
            while not running.is_done:  # noqa: ASYNC110 - it hangs on counts
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise Failure(
            f"not done after {loop.time() - stage.began:.0f} s; give it fewer users (--users) or more time "
            f"(--seconds-at-most); the service's log is {stage.log_file}"
        ) from None
    finally:
        running.over.set()


async def _ask(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


def _settings(stage: Stage, bootstrap_servers: str) -> Settings:
    """Return the settings of the demo's service, read as those of any other."""
    pace = stage.pace
    return load(
        {
            **stage.sandbox.environment,
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "KAFKA_TOPIC": TOPIC,
            "KAFKA_CLIENT_ID": "demo",
            "SESAMY_VENDOR_ID": VENDOR,
            "SESAMY_REQUESTS_PER_MINUTE": str(pace.sesamy_per_minute),
            "SESAMY_BURST": str(pace.sesamy_burst),
            "MAILMOJO_REQUESTS_PER_SECOND": str(pace.mailmojo_per_second),
            "MAILMOJO_BURST": str(pace.mailmojo_burst),
            "SYNC_LINGER": str(LINGER),
            "SYNC_RETRY_BASE": "0.2",
            "SYNC_RETRY_CAP": "1",
            "ADMIN_PORT": "0",
        }
    )


def _faults(roles: tuple[Role, ...]) -> Plan:
    """Return what goes wrong: answers take their time, some fail, one is lost, one asks for a pause."""
    return Plan(
        latency=0.02,
        jitter=0.03,
        rules=(
            *(
                Rule(api="mailmojo", operation="post_subscriber", key=role.address, status=422)
                for role in roles
                if role.refused
            ),
            Rule(api="mailmojo", operation="get_contact", status=429, times=1, start=5),
            Rule(api="sesamy", status=503, rate=0.05, times=3, start=4),
            Rule(api="mailmojo", operation="patch_contact", cut=True, stage="after", times=1, start=4),
        ),
    )


async def _look(settings: Settings) -> tuple[dict[int, int], list[Letter]]:
    """Return what the broker says once the service has left: the group's offsets, and the dead letters."""
    async with kafka.admin(settings.kafka) as client:
        commits = await kafka.group_offsets(client, settings.group_id, settings.kafka.topic)
        topic = settings.kafka.dead_letter_topic
        count = (await kafka.count_partitions(client, {topic}))[topic]
    consumer = AIOKafkaConsumer(**kafka.reader_arguments(settings.kafka), **CONSUMER_OPTIONS)
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(count)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        await consumer.seek_to_beginning(*places)
        letters = []
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            letters += [_letter(record) for record in decodable(await consumer.getmany(timeout_ms=200))]
    finally:
        await consumer.stop()
    return {partition: commit.offset for partition, commit in commits.items()}, letters


def _letter(record: "ConsumerRecord[bytes, bytes]") -> Letter:
    headers = {name.removeprefix("dead-letter-"): value.decode() for name, value in record.headers}
    return Letter(headers, len(record.value or b""))
