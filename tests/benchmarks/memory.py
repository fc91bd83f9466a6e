"""How much a service holds while a backlog waits: records in the topic, Sesamy down, memory over time."""

import asyncio
import time
import uuid
from pathlib import Path

from aiokafka import AIOKafkaProducer
from msgspec import Struct

from consumer.sandbox import Plan, Rule
from tests.benchmarks.producing import event_of
from tests.benchmarks.sandbox_process import serve_sandbox
from tests.benchmarks.usage import usage_of
from tests.kafka_broker import KafkaBroker
from tests.service_process import ServiceProcess

_PARTITIONS = 8
_CHUNK = 20_000
_WATCH = 30.0
_PATIENCE = 180.0


class Backlog(Struct, frozen=True, kw_only=True):
    """A backlog while it waits. Memory is MiB: before it, when all that may wait was read, and `_WATCH` s later.

    `cpu` is the share of a core that waiting takes.
    """

    records: int
    users: int
    max_pending: int
    pending: int
    before: float
    when_read: float
    later: float
    read_seconds: float
    cpu: float


async def hold(kafka: KafkaBroker, folder: Path, *, records: int, users: int, max_pending: int) -> Backlog:
    """Let one instance read a backlog that it cannot work off."""
    topic = f"backlog-{uuid.uuid4().hex[:8]}"
    await kafka.create_topic(topic, _PARTITIONS)
    await kafka.create_topic(f"{topic}.dead-letters")
    async with serve_sandbox(folder) as sandbox:
        await sandbox.set_faults(Plan(rules=(Rule(api="sesamy", status=503),)))
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "KAFKA_TOPIC": topic,
            "KAFKA_GROUP_ID": topic,
            "SYNC_MAX_PENDING": str(max_pending),
            **sandbox.environment,
        }
        await _produce(kafka.bootstrap, topic, records, users)
        began = time.monotonic()
        service = ServiceProcess(folder / "service", settings)
        try:
            await service.admin_port()
            before = usage_of(service.pid).peak_rss
            pending = await _all_read(service, min(records, max_pending))
            read_seconds = time.monotonic() - began
            when_read = usage_of(service.pid)
            await asyncio.sleep(_WATCH)
            later = usage_of(service.pid)
        finally:
            service.kill()
    return Backlog(
        records=records,
        users=users,
        max_pending=max_pending,
        pending=pending,
        before=before,
        when_read=when_read.peak_rss,
        later=later.peak_rss,
        read_seconds=read_seconds,
        cpu=(later.cpu - when_read.cpu) / _WATCH,
    )


async def _all_read(service: ServiceProcess, wanted: int) -> int:
    deadline, pending = time.monotonic() + _PATIENCE, 0
    while pending < wanted and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        pending = int((await service.status())["events_pending"])
    return pending


async def _produce(bootstrap: str, topic: str, records: int, users: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=1 << 18) as producer:
        for begin in range(0, records, _CHUNK):
            sent = []
            for number in range(begin, min(begin + _CHUNK, records)):
                user = number % users
                user_id = f"email|{user:024x}"
                sent.append(await producer.send(topic, event_of(user_id), user_id.encode(), user % _PARTITIONS))
            await asyncio.gather(*sent)
