"""Contestants as programs: the service's syncer and clients under the loops that people write, `sequential|grouped`."""

import asyncio
import gc
import os
import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from consumer import kafka
from consumer.clients.build import open_clients
from consumer.event_loop import run_loop
from consumer.ops import logs
from consumer.ops.metrics import Metrics
from consumer.service import rules_of
from consumer.settings import Settings, load
from consumer.sync.flight import LoneFlight
from consumer.sync.syncer import Syncer
from schemas.events import decode_event

_BATCH = 500
"""Records of a batch, the usual bound (Java's `max.poll.records`)."""

Record = ConsumerRecord[bytes, bytes]


async def run(settings: Settings, loop: str) -> None:
    """Consume until killed."""
    metrics = Metrics()
    arguments: dict[str, Any] = kafka.consumer_arguments(settings.kafka, settings.group_id)
    consumer = AIOKafkaConsumer(settings.kafka.topic, **{**arguments, "auto_offset_reset": "earliest"})
    slots = asyncio.Semaphore(settings.sync.concurrency)
    async with open_clients(settings, metrics) as clients, consumer:
        clients.set_share(1.0)
        syncer = Syncer(clients.sesamy, clients.mailmojo, clients.account_fields, rules_of(settings), metrics)

        async def one_after_another(records: Iterable[Record]) -> None:
            async with slots:
                for record in records:
                    assert record.value is not None
                    await syncer.sync(decode_event(record.value).user_id, LoneFlight())

        while True:
            batches = await consumer.getmany(timeout_ms=250, max_records=_BATCH if loop == "grouped" else None)
            if not batches:
                continue
            lines: Iterable[Iterable[Record]] = batches.values() if loop == "sequential" else _by_key(batches.values())
            async with asyncio.TaskGroup() as tasks:
                for records in lines:
                    tasks.create_task(one_after_another(records))
            await consumer.commit()


def _by_key(batches: Iterable[Iterable[Record]]) -> Iterable[Iterable[Record]]:
    by_key: defaultdict[bytes | None, list[Record]] = defaultdict(list)
    for records in batches:
        for record in records:
            by_key[record.key].append(record)
    return by_key.values()


if __name__ == "__main__":
    configured = load(os.environ, None)
    logs.configure(configured.log)
    gc.freeze()
    gc.set_threshold(10_000)  # as the service does
    run_loop(run(configured, sys.argv[1]))
