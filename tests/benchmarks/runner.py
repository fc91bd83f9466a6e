"""A contestant at work: its processes, its topic and group, and its share of the machine."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from msgspec import Struct

from consumer.kafka import group_offsets
from consumer.sandbox.population import Seed
from tests.benchmarks.contestants import Contestant
from tests.benchmarks.fake_process import FakeProcess
from tests.benchmarks.loads import Load
from tests.benchmarks.producing import produce_at_once
from tests.benchmarks.usage import Usage, usage_of
from tests.kafka_broker import KafkaBroker
from tests.waiting import wait_until

if TYPE_CHECKING:
    from consumer.loadtest.processes import Child

PARTITIONS = 8
_PATIENCE = 60.0
_SETTLE = 0.3


class Site(Struct, frozen=True):
    """What all contestants work with. Runs put their output into folders of `folder`."""

    kafka: KafkaBroker
    fake: FakeProcess
    folder: Path


class Runner:
    """The processes of one contestant, in one group; obtained from `running`."""

    def __init__(self, contestant: Contestant, site: Site, folder: Path, *, width: int, instances: int) -> None:
        self.contestant = contestant
        self.instances = instances
        self._kafka, self._fake, self._folder, self._width = site.kafka, site.fake, folder, width
        self._topic = f"bench-{uuid.uuid4().hex[:8]}"
        self._processes: list[Child] = []
        self._ends: dict[int, int] = {}
        self._number = 0

    async def start(self) -> None:
        """Start all instances and wait until each has its partitions.

        Raises:
            RuntimeError: see `done`.
        """
        self._processes = []
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": self._kafka.bootstrap,
            "KAFKA_TOPIC": self._topic,
            "KAFKA_GROUP_ID": self._topic,
            "SYNC_CONCURRENCY": str(self._width),
            **self._fake.environment,
        }
        for number in range(self.instances):
            self._processes.append(self.contestant.start(self._folder / f"instance-{number}", settings))
        if self.contestant.reads_topic:
            await self._joined()

    async def create_topics(self) -> None:
        """Create what it reads, and what it might write to."""
        await self._kafka.create_topic(self._topic, PARTITIONS)
        await self._kafka.create_topic(f"{self._topic}.dead-letters")

    def kill(self) -> None:
        """End all instances by SIGKILL."""
        for process in self._processes:
            process.kill()

    def usage(self) -> Usage:
        """Return what all instances have used so far."""
        used = [usage_of(process.pid) for process in self._processes]
        return Usage(sum(one.cpu for one in used), sum(one.peak_rss for one in used))

    async def send(self, sequence: Sequence[Seed]) -> None:
        """Hand over the events, all in one moment."""
        if self.contestant.reads_topic:
            ends = await produce_at_once(self._kafka.bootstrap, self._topic, sequence, PARTITIONS)
            self._ends |= ends
        else:
            self._number += 1
            load = self._folder / "instance-0" / f"load-{self._number}"
            load.with_suffix(".part").write_text("".join(f"{seed.user_id}\n" for seed in sequence))
            load.with_suffix(".part").rename(load)

    async def done(self, events: int, patience: float) -> None:
        """Wait until so many events, which were sent since the fake's reset, have had the last of their responses.

        Raises:
            RuntimeError: an instance ended, or it takes longer than `patience` seconds.
        """
        if self.contestant.coalesces:
            await self.committed(patience)  # as many syncs as it likes
        else:
            await self.finished(events, patience)

    async def finished(self, syncs: int, patience: float) -> None:
        """Wait until so many syncs have had the last of their responses.

        Raises:
            RuntimeError: see `done`.
        """

        async def done() -> bool:
            self.check()
            return (await self._fake.state()).finished >= syncs

        await self._until(done, patience, f"{syncs} syncs")

    async def committed(self, patience: float) -> None:
        """Wait until all events sent so far are committed.

        Raises:
            RuntimeError: see `done`.
        """
        if not self.contestant.reads_topic:
            return
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka.bootstrap)

        async def done() -> bool:
            self.check()
            commits = await group_offsets(admin, self._topic, self._topic)
            return all(part in commits and commits[part].offset >= end for part, end in self._ends.items())

        try:
            await admin.start()
            await self._until(done, patience, "the commits")
        finally:
            await admin.close()

    def check(self) -> None:
        """Raise RuntimeError when an instance has ended."""
        for number, process in enumerate(self._processes):
            if process.returncode is not None:
                output = (self._folder / f"instance-{number}" / "output").read_text(errors="replace")
                raise RuntimeError(f"it ended with {process.returncode}: {output[-1500:]}")

    async def _joined(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka.bootstrap)

        async def shared() -> bool:
            self.check()
            try:
                (response,) = await admin.describe_consumer_groups([self._topic])
            except KafkaError:  # no coordinator yet
                return False
            (group,) = response.to_object()["groups"]
            members = group["members"]
            return (
                group["state"] == "Stable"
                and len(members) == self.instances
                and all(member["member_assignment"] for member in members)
            )

        try:
            await admin.start()
            await self._until(shared, _PATIENCE, f"a group of {self.instances}")
        finally:
            await admin.close()

    @staticmethod
    async def _until(done: Callable[[], Awaitable[bool]], patience: float, what: str) -> None:
        try:
            await wait_until(done, patience, what=what)
        except TimeoutError as error:
            raise RuntimeError(str(error)) from None


@asynccontextmanager
async def running(contestant: Contestant, site: Site, *, width: int = 64, instances: int = 1) -> AsyncIterator[Runner]:
    """Start a contestant with a topic of its own, and warm it up; it is killed when the block ends."""
    runner = Runner(contestant, site, site.folder / uuid.uuid4().hex[:8], width=width, instances=instances)
    await runner.create_topics()
    try:
        await runner.start()
        await _warm_up(runner, site.fake)
        yield runner
    finally:
        runner.kill()


async def _warm_up(runner: Runner, fake: FakeProcess) -> None:
    """Have it work off some events that do not count: connections, tokens, compilers."""
    await fake.reset(0)
    events = runner.contestant.warm_up * runner.instances
    await runner.send(Load(latency=0, events=events).sequence())
    await runner.done(events, _PATIENCE + events / 20)
    await asyncio.sleep(_SETTLE)
