"""A log that is not read: the service works on, and counts the lines that were lost (P9)."""

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress

import aiohttp
import pytest

from tests.integration.stage import Stage, event


@pytest.fixture(params=["a pipe that is not read", "a pipe without a reader", "a full disk"])
def stderr(request: pytest.FixtureRequest) -> Iterator[int]:
    if request.param == "a full disk":
        writer = os.open("/dev/full", os.O_WRONLY)
        yield writer
        os.close(writer)
        return
    reader, writer = os.pipe()
    if request.param == "a pipe without a reader":
        os.close(reader)
    else:
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while os.write(writer, b"x" * 4096):
                pass
        os.set_blocking(writer, True)
    yield writer
    for descriptor in {reader, writer} if request.param != "a pipe without a reader" else {writer}:
        os.close(descriptor)


async def test_p1_the_service_works_on_though_its_log_is_not_read(
    stage: Stage, stderr: int, request: pytest.FixtureRequest
) -> None:
    users = stage.users(200)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "consumer",
        "run",
        stderr=stderr,
        env={
            **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
            **stage.settings,
            "LOG_LEVEL": "debug",
            "LOG_FORMAT": "json",
            "ADMIN_HOST": "127.0.0.1",
            "ADMIN_PORT": str(port),
        },
    )
    try:
        await stage.send(*(event(user_id) for user_id in users))
        await stage.all_committed()
        assert stage.stale(users) == {}
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            metrics = await answer.text()
        (dropped,) = [
            float(line.split()[1])
            for line in metrics.splitlines()
            if line.startswith("sesamy_mailmojo_log_lines_dropped_total ")
        ]
        assert dropped > 0 or "not read" in request.node.name  # the queue holds as many lines as these
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 15) == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
