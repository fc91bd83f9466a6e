"""Where a run takes place: a topic on a real broker, the fakes over sockets, instances of the service, and a watch."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
from aiokafka import AIOKafkaProducer

from consumer.sandbox import Options, Sandbox, World
from consumer.sandbox.contacts import fold
from tests.chaos.commits import CommitWatch
from tests.chaos.events import Events, Sent
from tests.chaos.evidence import DeadLetter, Edit, Evidence
from tests.chaos.group import Group
from tests.kafka_broker import KafkaBroker
from tests.kafka_client import Record
from tests.waiting import wait_until

SESSION: Final = 6.0
"""Seconds until a silent instance is replaced: the least that the settings take."""

_SETTINGS: Final = {
    "KAFKA_SESSION_TIMEOUT": f"{SESSION:g}",
    "SESAMY_REQUESTS_PER_MINUTE": "1000000",
    "SESAMY_BURST": "100000",
    "MAILMOJO_REQUESTS_PER_SECOND": "100000",
    "MAILMOJO_BURST": "100000",
    "SYNC_CONCURRENCY": "16",
    "SYNC_LINGER": "0.2",
    "SYNC_RETRY_BASE": "0.2",
    "SYNC_RETRY_CAP": "2",
    "SHUTDOWN_TIMEOUT": "10",
}


class Stage:
    """Everything of one run. Obtained from `open_stage`."""

    def __init__(
        self, kafka: KafkaBroker, sandbox: Sandbox, topic: str, *, events: Events, commits: CommitWatch, group: Group
    ) -> None:
        self.kafka = kafka
        self.sandbox = sandbox
        self.topic = topic
        self.events = events
        self.commits = commits
        self.group = group
        self.edits: list[Edit] = []

    def edit(self, user_id: str) -> None:
        """Have a marketer put a new tag on the user's contact, if there is one."""
        address = self.address(user_id)
        contact = self.sandbox.world.contact(address)
        if contact is not None:
            edit = Edit(address, f"manual-{len(self.edits)}", time.monotonic())
            self.sandbox.world.edit_contact(address, tags=[*contact.tags, edit.tag])
            self.edits.append(edit)

    async def drained(self, within: float) -> float:
        """Wait until every event is committed, and return the seconds that it took."""
        began = time.monotonic()
        ends = ends_of(await self.events.stored())
        committed = self.commits
        await wait_until(
            lambda: all(committed.committed.get(partition, 0) >= end for partition, end in ends.items()),
            within,
            what=f"all events are committed, up to {ends}",
        )
        return time.monotonic() - began

    async def evidence(self) -> Evidence:
        """Return what there is to judge the run by, as of now."""
        sent = await self.events.stored()
        users = {event.user_id for event in sent}
        contacts = {user_id: self.sandbox.world.contact(self.address(user_id)) for user_id in users}
        return Evidence(
            sent=sent,
            addresses={user_id: self.address(user_id) for user_id in users},
            final={user_id: contact.user_version if contact else None for user_id, contact in contacts.items()},
            log=self.sandbox.log,
            observed=self.commits.observed,
            letters=[_letter(record) for record in await self.kafka.read_all(f"{self.topic}.dead-letters")],
            edits=self.edits,
        )

    def address(self, user_id: str) -> str:
        """Return the address of the user's contact, in lower case."""
        user = self.sandbox.world.user(user_id)
        assert user is not None
        return fold(user.profile["email"])

    def version(self, user_id: str) -> int:
        """Return the user's version at Sesamy."""
        user = self.sandbox.world.user(user_id)
        assert user is not None
        return user.version


@asynccontextmanager
async def open_stage(
    kafka: KafkaBroker,
    folder: Path,
    world: World,
    *,
    settings: Mapping[str, str] | None = None,
    options: Options | None = None,
    partitions: int = 12,
) -> AsyncIterator[Stage]:
    """Set the stage, without an instance yet, and clear it in the end."""
    topic = f"chaos-{uuid.uuid4().hex[:8]}"
    await kafka.create_topic(topic, partitions)
    await kafka.create_topic(f"{topic}.dead-letters")
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", enable_idempotence=True)
    async with Sandbox(options, world=world) as sandbox, producer:
        of_this_run = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "KAFKA_TOPIC": topic, "KAFKA_GROUP_ID": topic}
        group = Group(folder, {**_SETTINGS, **of_this_run, **sandbox.environment, **(settings or {})})
        commits = CommitWatch(kafka.bootstrap, topic)
        watch = asyncio.create_task(commits.run(), name="commit-watch")
        try:
            events = Events(world, producer, topic)
            yield Stage(kafka, sandbox, topic, events=events, commits=commits, group=group)
        finally:
            group.close()
            watch.cancel()
            await asyncio.wait([watch])


def ends_of(sent: list[Sent]) -> dict[int, int]:
    """Return by partition the offset after its last event."""
    return {event.partition: event.offset + 1 for event in sorted(sent, key=lambda event: event.offset)}


def _letter(record: Record) -> DeadLetter:
    headers = {name.removeprefix("dead-letter-"): value.decode() for name, value in record.headers}
    event = msgspec.json.decode(record.value or b"{}")
    return DeadLetter(
        user_id=event.get("userId", ""),
        partition=int(headers["partition"]),
        offset=int(headers["offset"]),
        reason=headers["reason"],
        at=record.timestamp / 1000 - time.time() + time.monotonic(),
    )
