"""The limit of one Python process: the six calls alone, without Kafka, `session|connections FOLDER`.

It works off files of user ids, a line for each event, as they appear in a folder, and creates `done-N` there. As every
contestant it keeps the order of a user's events, one at a time.
"""

import asyncio
import gc
import os
import sys
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from consumer.event_loop import run_loop
from tests.benchmarks.calls import Kind, SixCalls, open_calls

_LOOK = 0.02


async def run(kind: Kind, folder: Path) -> None:
    """Work off the files until killed."""
    async with open_calls(kind) as calls:
        number = 0
        while True:
            number += 1
            load = folder / f"load-{number}"
            while not load.exists():  # noqa: ASYNC110 - another process creates it
                await asyncio.sleep(_LOOK)
            await work_off(load.read_text().splitlines(), calls, int(os.environ["SYNC_CONCURRENCY"]))
            (folder / f"done-{number}").touch()


async def work_off(user_ids: Iterable[str], calls: SixCalls, width: int) -> None:
    """Sync once for each line, `width` users at a time, each user once at a time."""
    left = Counter(user_ids)
    ready = deque(left)

    async def worker() -> None:
        while ready:
            user_id = ready.popleft()
            await calls.sync(user_id)
            left[user_id] -= 1
            if left[user_id]:
                ready.append(user_id)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(width, len(left))):
            tasks.create_task(worker())


if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(10_000)  # as the service does
    run_loop(run(cast("Kind", sys.argv[1]), Path(sys.argv[2])))
