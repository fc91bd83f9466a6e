"""The one way to stop a Kafka client."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient


async def stop(client: AIOKafkaConsumer | AIOKafkaProducer | AIOKafkaAdminClient, patience: float = 1.5) -> None:
    """Stop a client within about so many seconds, its tasks and connections too.

    With the broker away its own `stop` goes on trying, and a consumer's may raise CancelledError though nobody
    cancelled it (measured). Cancelled, it leaves its tasks running: a heartbeat would keep up a membership of nobody.
    """
    close = client.close if isinstance(client, AIOKafkaAdminClient) else client.stop
    stopping: asyncio.Future[None] = asyncio.ensure_future(close())  # type: ignore[no-untyped-call]
    await asyncio.wait([stopping], timeout=patience)
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return
    left = [asyncio.ensure_future(_connections_of(client).close()), *_tasks_of(client), stopping]
    for task in left[1:]:
        task.cancel()
    await asyncio.wait(left, timeout=0.5)
    for task in left:
        if task.done() and not task.cancelled():
            task.exception()  # heard; there is nothing left to do about it


def _connections_of(client: AIOKafkaConsumer | AIOKafkaProducer | AIOKafkaAdminClient) -> Any:
    return client.client if isinstance(client, AIOKafkaProducer) else client._client  # noqa: SLF001


def _tasks_of(client: AIOKafkaConsumer | AIOKafkaProducer | AIOKafkaAdminClient) -> "list[asyncio.Future[Any]]":
    """Return the tasks that aiokafka's own `stop` may leave behind (0.14: by reading its source)."""
    owners = [getattr(client, name, None) for name in ("_coordinator", "_fetcher", "_sender")]
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_fetch_task", "_sender_task")
    tasks = [getattr(owner, name, None) for owner in owners for name in names]
    return [task for task in tasks if task is not None and not task.done()]
