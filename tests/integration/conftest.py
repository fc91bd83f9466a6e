"""The deployment that tests act on, and what must hold at the end of each of them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from consumer.sandbox import Sandbox
from tests.integration.stage import NewStage, Stage
from tests.kafka_broker import KafkaBroker
from tests.service_process import ServiceProcess


@pytest.fixture
async def new_stage(
    kafka: KafkaBroker,
    topic: Callable[..., Awaitable[str]],
    service_process: Callable[..., ServiceProcess],
) -> AsyncIterator[NewStage]:
    """A coroutine function that sets up a deployment, with fakes of its own and so many partitions.

    Whatever a test does to it: in the end its `assert_clean` must hold.
    """
    stages: list[Stage] = []
    async with AsyncExitStack() as sandboxes:

        async def create(partitions: int) -> Stage:
            sandbox = await sandboxes.enter_async_context(Sandbox())
            stages.append(Stage(kafka, await topic(partitions), sandbox, service_process))
            return stages[-1]

        yield create
        for stage in stages:
            for process in stage.processes:
                process.kill()
            stage.assert_clean()


@pytest.fixture
async def stage(new_stage: NewStage) -> Stage:
    """A deployment with four partitions."""
    return await new_stage(4)
