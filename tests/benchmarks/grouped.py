"""The loop that most people write: aiokafka, batches grouped by key, `ClientSession`, a commit after each batch."""

import asyncio
import gc
import os
from collections import defaultdict
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from consumer.event_loop import run_loop
from schemas.events import decode_event
from tests.benchmarks.calls import open_calls

_BATCH = 500
"""Records of a batch, the usual bound (Java's `max.poll.records`)."""

Record = ConsumerRecord[bytes, bytes]


async def run() -> None:
    """Consume until killed."""
    consumer = AIOKafkaConsumer(
        os.environ["KAFKA_TOPIC"],
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        group_id=os.environ["KAFKA_GROUP_ID"],
        session_timeout_ms=1000 * int(os.environ["KAFKA_SESSION_TIMEOUT"]),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    slots = asyncio.Semaphore(int(os.environ["SYNC_CONCURRENCY"]))
    async with open_calls("session") as calls, consumer:

        async def one_after_another(records: Iterable[Record]) -> None:
            async with slots:
                for record in records:
                    assert record.value is not None
                    await calls.sync(decode_event(record.value).user_id)

        while True:
            batches = await consumer.getmany(timeout_ms=250, max_records=_BATCH)
            if not batches:
                continue
            async with asyncio.TaskGroup() as tasks:
                for records in _by_key(batches.values()):
                    tasks.create_task(one_after_another(records))
            await consumer.commit()


def _by_key(batches: Iterable[Iterable[Record]]) -> Iterable[Iterable[Record]]:
    by_key: defaultdict[bytes | None, list[Record]] = defaultdict(list)
    for records in batches:
        for record in records:
            by_key[record.key].append(record)
    return by_key.values()


if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(10_000)  # as the service does
    run_loop(run())
