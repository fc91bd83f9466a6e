"""Instances of the service that share the accounts' quotas, in front of a sandbox in a process of its own.

The sandbox's process is there for the arrival times: in the one that tests, they would show its own pauses.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from consumer.sandbox import RequestLog
from consumer.sandbox.log import Record
from consumer.sandbox.population import Seed
from tests.benchmarks.producing import produce_at_once
from tests.benchmarks.sandbox_process import SandboxProcess, serve_sandbox
from tests.kafka_broker import KafkaBroker
from tests.service_process import ServiceProcess
from tests.waiting import wait_until

JITTER = 0.05
"""Seconds by which one request may be longer on its way than another: from the gate through aiohttp and the loopback
into the sandbox's loop, while a broker and other programs share the cores. The gate keeps the bound at the moment of
sending; what arrives in t was sent in t + JITTER, so up to rate * JITTER more may arrive."""


class Quota(Struct, frozen=True):
    """An account's requests a second, and how many may come at once."""

    rate: float
    burst: float

    def excess(self, log: RequestLog, api: str) -> float:
        """Return by how many requests the worst window exceeds the quota, once jitter is allowed for (P6: at most 0).

        One request more is no breach either: an excess counts whole requests against a line.
        """
        return log.excess(api, rate=self.rate, burst=self.burst) - self.rate * JITTER  # type: ignore[arg-type]

    def used(self, records: Iterable[Record], begin: float, end: float) -> float:
        """Return the share that was used from begin to end, on the log's clock."""
        return sum(begin <= record.start < end for record in records) / (self.rate * (end - begin))


class Fleet:
    """A topic, its group and the instances in it; obtained from `fleet`."""

    def __init__(self, kafka: KafkaBroker, folder: Path, sandbox: SandboxProcess, settings: dict[str, str]) -> None:
        self.sandbox = sandbox
        self.instances: list[ServiceProcess] = []
        self.topic = settings["KAFKA_TOPIC"]
        self._kafka, self._folder, self._settings = kafka, folder, settings

    async def join(self) -> ServiceProcess:
        """Start one more instance and wait until every one has its part."""
        process = ServiceProcess(self._folder / f"service-{len(self.instances)}", self._settings)
        self.instances.append(process)
        await process.ready()
        await self._shared()
        return process

    async def leave(self, process: ServiceProcess) -> None:
        """Stop an instance as an operator does and wait until the others have its part."""
        process.terminate()
        await process.exit_code()
        process.kill()  # what watches over it, too
        self.instances.remove(process)
        await self._shared()

    async def send(self, sequence: Sequence[Seed]) -> dict[int, int]:
        """Append these users' events in one moment; return by partition the offset after the last."""
        return await produce_at_once(self._kafka.bootstrap, self.topic, sequence, await self._partitions())

    async def drain(self, ends: dict[int, int], within: float) -> None:
        """Wait until the group's commits reach these ends."""

        async def reached() -> bool:
            commits = await self._kafka.committed(self.topic, self.topic)
            return all(partition in commits and commits[partition].offset >= end for partition, end in ends.items())

        await wait_until(reached, within, what=f"the commits reach {ends}")

    async def log(self, since: int = 0) -> RequestLog:
        return await self.sandbox.log(since)

    def kill(self) -> None:
        for process in self.instances:
            process.kill()

    async def _partitions(self) -> int:
        return len(await self._kafka.end_offsets(self.topic))

    async def _shared(self) -> None:
        total = await self._partitions()
        least = total // len(self.instances)

        async def shared() -> bool:
            parts = [await one.metric("assigned_partitions") for one in self.instances]
            return sum(parts) == total and min(parts) >= least

        await wait_until(shared, 30, what="every instance has its part")


@asynccontextmanager
async def fleet(
    kafka: KafkaBroker,
    folder: Path,
    users: Sequence[Seed],
    *,
    sesamy: Quota,
    mailmojo: Quota,
    partitions: int = 9,
    latency: float = 0.02,
    **settings: str,
) -> AsyncIterator[Fleet]:
    """Set up a deployment without an instance, which knows these users."""
    topic = f"fleet-{uuid.uuid4().hex[:8]}"
    await kafka.create_topic(topic, partitions)
    await kafka.create_topic(f"{topic}.dead-letters")
    async with serve_sandbox(folder) as sandbox:
        await sandbox.add(users)
        await sandbox.set_latency(latency)
        deployment = Fleet(
            kafka,
            folder,
            sandbox,
            {
                "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
                "KAFKA_TOPIC": topic,
                "KAFKA_GROUP_ID": topic,
                "KAFKA_SESSION_TIMEOUT": "10",
                "SESAMY_REQUESTS_PER_MINUTE": str(60 * sesamy.rate),
                "SESAMY_BURST": str(sesamy.burst),
                "MAILMOJO_REQUESTS_PER_SECOND": str(mailmojo.rate),
                "MAILMOJO_BURST": str(mailmojo.burst),
                **sandbox.environment,
                **settings,
            },
        )
        try:
            yield deployment
        finally:
            deployment.kill()


class Drain(Struct, frozen=True, kw_only=True):
    """A backlog of few users worked off under a quota: what it took, and the least that it could take."""

    events: int
    users: int
    requests: int
    least_requests: int
    seconds: float
    least_seconds: float
    excess: float


READS = 4
"""Calls of Sesamy that the sync of one subscriber takes at least."""


async def drain_few_users(
    kafka: KafkaBroker, folder: Path, *, users: int, events: int, sesamy: Quota, mailmojo: Quota
) -> Drain:
    """Let one instance work off `events` of `users` that lie in the topic; seconds count from their arrival."""
    seeds = [Seed(1, number, "recurring", "tagged") for number in range(users + 1)]
    async with fleet(kafka, folder, seeds, sesamy=sesamy, mailmojo=mailmojo) as group:
        await group.join()
        await group.drain(await group.send(seeds[users:]), 60)  # the token and the account fields
        since = await group.sandbox.requests()
        sent_at = time.monotonic()
        ends = await group.send((seeds[:users] * (events // users + 1))[:events])
        await group.drain(ends, 60 + 2 * READS * users / sesamy.rate)
        log = await group.log(since)
        everything = await group.log()
    requests = len(log.requests("sesamy"))
    return Drain(
        events=events,
        users=users,
        requests=requests,
        least_requests=READS * users,
        seconds=max(record.end for record in log.records) - sent_at,
        least_seconds=requests / sesamy.rate,
        excess=max(sesamy.excess(everything, "sesamy"), mailmojo.excess(everything, "mailmojo")),
    )


class Sharing(Struct, frozen=True, kw_only=True):
    """Three instances that came one after the other and of which one left: quota use while 1, 3 and 2 were there."""

    used_by_one: float
    used_by_three: float
    used_by_two: float
    excess: float


async def share_among_three(
    kafka: KafkaBroker, folder: Path, *, sesamy: Quota, mailmojo: Quota, seconds: float
) -> Sharing:
    """Let instances join and leave while there is more work than the quota lets through."""
    changes = 60  # seconds, generously, that two joins and a leave take
    users = round((5 * seconds + changes) * sesamy.rate / READS)
    seeds = [Seed(1, number, "recurring", "tagged") for number in range(users)]
    async with fleet(kafka, folder, seeds, sesamy=sesamy, mailmojo=mailmojo, SYNC_LINGER="0") as group:
        await group.join()
        await group.send(seeds)
        spans = [await _steady(seconds)]
        await group.join()
        third = await group.join()
        spans.append(await _steady(seconds))
        await group.leave(third)
        spans.append(await _steady(seconds))
        log = await group.log()
    reads = log.requests("sesamy")
    one, three, two = (sesamy.used(reads, *span) for span in spans)
    excess = max(sesamy.excess(log, "sesamy"), mailmojo.excess(log, "mailmojo"))
    return Sharing(used_by_one=one, used_by_three=three, used_by_two=two, excess=excess)


async def _steady(seconds: float) -> tuple[float, float]:
    # A new share begins with an empty bucket: the first permits take a moment.
    await asyncio.sleep(2)
    begin = time.monotonic()
    await asyncio.sleep(seconds)
    return begin, begin + seconds
