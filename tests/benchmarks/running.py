"""One run of one contestant: a fresh topic, group and sandbox, a warm-up, then the load in one moment."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from msgspec import Struct

from consumer.kafka import count_partitions, group_offsets
from consumer.loadtest.processes import Child
from consumer.sandbox.contacts import fold
from consumer.sandbox.population import Seed
from tests.benchmarks.contestants import Contestant
from tests.benchmarks.counting import Counts, count
from tests.benchmarks.producing import produce_at_a_pace, produce_at_once
from tests.benchmarks.sandbox_process import serve_sandbox
from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.usage import usage_of
from tests.kafka_broker import KafkaBroker
from tests.waiting import wait_until

_POLL = 0.5
_PATIENCE = 60.0
"""Seconds on top of ten times what the load should take, until a run counts as stuck."""

_UNBOUNDED = {
    "SESAMY_REQUESTS_PER_MINUTE": "1000000",
    "SESAMY_BURST": "100000",
    "MAILMOJO_REQUESTS_PER_SECOND": "100000",
    "MAILMOJO_BURST": "100000",
}


class Measurement(Struct, frozen=True, kw_only=True):
    """One run: counts of the request log, and what the processes took between the load's arrival and its last commit.

    `cpu_per_event` is seconds; `busy` and `sandbox_busy` are shares of one core while the load was worked off.
    """

    counts: Counts
    cpu_per_event: float
    peak_rss: float
    busy: float
    sandbox_busy: float


async def measure(scenario: Scenario, contestant: Contestant, kafka: KafkaBroker, folder: Path) -> Measurement:
    """Run once.

    Raises:
        RuntimeError: the contestant ended, got stuck, or made another number of calls than the scenario says.
    """
    width = contestant.width(scenario)
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    await kafka.create_topic(topic, scenario.partitions)
    await kafka.create_topic(f"{topic}.dead-letters")
    async with serve_sandbox(folder) as sandbox:
        warm_up, measured = scenario.population(max(width, contestant.warm_up), scenario.users_for(width))
        sequence = scenario.sequence(measured)
        await sandbox.add((*warm_up, *measured))
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "KAFKA_TOPIC": topic,
            "KAFKA_GROUP_ID": topic,
            "SYNC_CONCURRENCY": str(scenario.concurrency),
            "SYNC_LINGER": "0",
            **_UNBOUNDED,
            **sandbox.environment,
        }
        place = folder / "contestant"
        process = contestant.start(place, settings)
        work = _Topic(kafka, topic, process) if contestant.reads_topic else _Files(place, process)
        try:
            # Joining the group, the token, the account fields and the connections are the warm-up's.
            await work.off(warm_up, None, _PATIENCE)
            await sandbox.set_latency(scenario.latency)
            before, sandbox_before, logged = usage_of(process.pid), usage_of(sandbox.pid), await sandbox.requests()
            meant_at = await work.off(sequence, scenario.pace, _PATIENCE + 10 * scenario.seconds)
            after, sandbox_after = usage_of(process.pid), usage_of(sandbox.pid)
        finally:
            process.kill()
        counts = count(
            await sandbox.log(logged),
            {fold(seed.address): seed.user_id for seed in sequence},
            Counter(seed.user_id for seed in sequence),
            meant_at,
        )
    _check(scenario, counts)
    return Measurement(
        counts=counts,
        cpu_per_event=(after.cpu - before.cpu) / counts.events,
        peak_rss=after.peak_rss,
        busy=(after.cpu - before.cpu) / counts.seconds,
        sandbox_busy=(sandbox_after.cpu - sandbox_before.cpu) / counts.seconds,
    )


def _check(scenario: Scenario, counts: Counts) -> None:
    """Refuse to compare with a line that was drawn for other calls.

    The least counts are taken: what is done again adds calls, and on a busy machine reads side by side follow one
    another now and then; without latency, always.
    """
    seen = (counts.calls[0], counts.round_trips[0] if scenario.latency else scenario.round_trips)
    if scenario.users is None and seen != (scenario.calls, scenario.round_trips) and not counts.lost:
        raise RuntimeError(f"a sync made {seen[0]} calls, {seen[1]} in sequence, not as in {scenario}")


class _Topic:
    """Work for those who read the topic; the group is named as the topic."""

    def __init__(self, kafka: KafkaBroker, topic: str, process: Child) -> None:
        self._kafka, self._topic, self._process = kafka, topic, process

    async def off(self, sequence: Sequence[Seed], pace: float | None, patience: float) -> Mapping[str, float] | None:
        """Append the events, wait until all are committed, and return when each user's was meant to be sent."""
        deadline = time.monotonic() + patience
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka.bootstrap)
        meant_at = None
        try:
            await admin.start()
            partitions = (await count_partitions(admin, {self._topic}))[self._topic]
            if pace is None:
                left = await produce_at_once(self._kafka.bootstrap, self._topic, sequence, partitions)
            else:
                left, meant_at = await produce_at_a_pace(self._kafka.bootstrap, self._topic, sequence, partitions, pace)
            while left:
                await asyncio.sleep(_POLL)
                for partition, commit in (await group_offsets(admin, self._topic, self._topic)).items():
                    if commit.offset >= left.get(partition, 0):
                        left.pop(partition, None)
                if left and self._process.returncode is not None:
                    raise RuntimeError(f"the contestant ended with {self._process.returncode}")
                if left and time.monotonic() > deadline:
                    raise RuntimeError(f"not done in time; by partition, the offsets that were not reached: {left}")
        finally:
            await admin.close()
        return meant_at


class _Files:
    """Work for the one who knows no Kafka."""

    def __init__(self, folder: Path, process: Child) -> None:
        self._folder, self._process = folder, process
        self._number = 0

    async def off(self, sequence: Sequence[Seed], _pace: float | None, patience: float) -> None:
        """Put the users into a file and wait until it is done."""
        self._number += 1
        load = self._folder / f"load-{self._number}"
        text = "".join(f"{seed.user_id}\t{fold(seed.address)}\n" for seed in sequence)
        load.with_suffix(".part").write_text(text)
        load.with_suffix(".part").rename(load)

        def done() -> bool:
            if self._process.returncode is not None:
                raise RuntimeError(f"the contestant ended with {self._process.returncode}")
            return (self._folder / f"done-{self._number}").exists()

        await wait_until(done, patience, what=f"{load.name} is worked off")
