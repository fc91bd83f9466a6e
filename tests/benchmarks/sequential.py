"""A contestant as a program: the service's syncer and clients under the plainest loop that keeps order per user."""

import asyncio
import gc
import os
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from consumer import kafka
from consumer.cli.run import run_loop
from consumer.clients.build import open_clients
from consumer.ops import logs
from consumer.ops.metrics import Metrics
from consumer.service import rules_of
from consumer.settings import Settings, load
from consumer.sync.flight import LoneFlight
from consumer.sync.syncer import Syncer
from schemas.events import decode_event


async def run(settings: Settings) -> None:
    """Consume until killed."""
    metrics = Metrics()
    arguments: dict[str, Any] = kafka.consumer_arguments(settings.kafka, settings.group_id)
    consumer = AIOKafkaConsumer(settings.kafka.topic, **{**arguments, "auto_offset_reset": "earliest"})
    async with open_clients(settings, metrics) as clients, consumer:
        clients.set_share(1.0)
        syncer = Syncer(clients.sesamy, clients.mailmojo, clients.account_fields, rules_of(settings), metrics)
        while True:
            batches = await consumer.getmany(timeout_ms=250)
            if not batches:
                continue
            async with asyncio.TaskGroup() as tasks:
                for records in batches.values():
                    tasks.create_task(_one_after_another(syncer, records))
            await consumer.commit()


async def _one_after_another(syncer: Syncer, records: Iterable[ConsumerRecord[bytes, bytes]]) -> None:
    for record in records:
        assert record.value is not None
        await syncer.sync(decode_event(record.value).user_id, LoneFlight())


if __name__ == "__main__":
    configured = load(os.environ, None)
    logs.configure(configured.log)
    gc.freeze()
    gc.set_threshold(10_000)  # as the service does
    run_loop(run(configured))
