"""One run of one contestant: a fresh topic, group and sandbox, a warm-up, then the load in one moment."""

import asyncio
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from msgspec import Struct

from consumer.kafka import count_partitions, group_offsets
from consumer.sandbox.contacts import fold
from consumer.sandbox.population import Seed
from tests.benchmarks.contestants import Contestant
from tests.benchmarks.counting import Counts, count
from tests.benchmarks.sandbox_process import serve_sandbox
from tests.benchmarks.scenarios import Scenario
from tests.benchmarks.usage import usage_of
from tests.kafka_broker import KafkaBroker
from tests.processes import Child

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
        warm_up, measured = scenario.population(width, scenario.users_for(width))
        await sandbox.add((*warm_up, *measured))
        await sandbox.set_latency(scenario.latency)
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "KAFKA_TOPIC": topic,
            "KAFKA_GROUP_ID": topic,
            "SYNC_CONCURRENCY": str(scenario.concurrency),
            "SYNC_LINGER": "0",
            **_UNBOUNDED,
            **sandbox.environment,
        }
        process = contestant.start(folder / "contestant", settings)
        try:
            # Joining the group, the token, the account fields and the connections are the warm-up's.
            await _work_off(kafka, topic, warm_up, process)
            before, sandbox_before, logged = usage_of(process.pid), usage_of(sandbox.pid), await sandbox.requests()
            await _work_off(kafka, topic, measured, process, patience=10 * scenario.seconds)
            after, sandbox_after = usage_of(process.pid), usage_of(sandbox.pid)
        finally:
            process.kill()
        counts = count(await sandbox.log(logged), {fold(seed.address): seed.user_id for seed in measured})
    _check(scenario, counts)
    return Measurement(
        counts=counts,
        cpu_per_event=(after.cpu - before.cpu) / counts.users,
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
    if seen != (scenario.calls, scenario.round_trips) and not counts.lost:
        raise RuntimeError(f"a sync made {seen[0]} calls, {seen[1]} in sequence, not as in {scenario}")


async def _work_off(
    kafka: KafkaBroker, topic: str, users: Sequence[Seed], process: Child, *, patience: float = 0.0
) -> None:
    """Put one event per user into the topic and wait until the group, named as the topic, has committed them all."""
    deadline = asyncio.get_running_loop().time() + patience + _PATIENCE
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    try:
        await admin.start()
        partitions = (await count_partitions(admin, {topic}))[topic]
        left = await _produce(kafka, topic, users, partitions)
        while left:
            await asyncio.sleep(_POLL)
            for partition, commit in (await group_offsets(admin, topic, topic)).items():
                if commit.offset >= left.get(partition, 0):
                    left.pop(partition, None)
            if left and process.returncode is not None:
                raise RuntimeError(f"the contestant ended with {process.returncode}")
            if left and asyncio.get_running_loop().time() > deadline:
                raise RuntimeError(f"not done in time; by partition, the offsets that were not reached: {left}")
    finally:
        await admin.close()


async def _produce(kafka: KafkaBroker, topic: str, users: Sequence[Seed], partitions: int) -> dict[int, int]:
    """Append the events in one transaction: they are seen all at once, and producing takes no time from the run.

    The users go round the partitions, so that none is longer; that a user keeps to one partition is all that order asks
    for. Returns by partition the offset after the last event.
    """
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=uuid.uuid4().hex)
    async with producer, producer.transaction():
        sent = [
            await producer.send(topic, _event(seed), seed.user_id.encode(), number % partitions)
            for number, seed in enumerate(users)
        ]
        stored = await asyncio.gather(*sent)
    return {place.partition: place.offset + 1 for place in sorted(stored, key=lambda place: place.offset)}


def _event(seed: Seed) -> bytes:
    return msgspec.json.encode(
        {
            "eventType": "contract.1#update",
            "vendorId": "bench",
            "userId": seed.user_id,
            "contractId": "contract_1",
            "occured_at": "2026-01-01T12:00:00Z",
        }
    )
