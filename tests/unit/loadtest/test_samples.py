"""What a load test's samples do while Kafka does not tell."""

import asyncio

import pytest

from consumer.failure import Failure
from consumer.loadtest import samples
from consumer.loadtest.instances import Group
from consumer.loadtest.samples import Sampler
from consumer.loadtest.topics import OwnTopics
from consumer.settings import KafkaSettings
from tests.waiting import wait_until


class Restarting(OwnTopics):
    """Topics of a broker that does not answer at first."""

    def __init__(self, silent: int) -> None:
        super().__init__(KafkaSettings(), 1)
        self.asked = 0
        self._silent = silent

    async def lag(self) -> tuple[int, int]:
        self.asked += 1
        if self.asked <= self._silent:
            raise Failure("cannot reach Kafka")
        return 5, 2


@pytest.fixture(autouse=True)
def _without_a_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_EVERY", 0)


async def test_a_load_test_outlives_a_brokers_restart() -> None:
    sampler = Sampler(Restarting(3), Group(), {})
    running = asyncio.create_task(sampler.run())
    await wait_until(lambda: sampler.samples or running.done(), what="a sample")
    running.cancel()
    assert [(one.records, one.lag) for one in sampler.samples[:1]] == [(5, 2)]


async def test_a_broker_that_stays_away_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_SILENT_SECONDS", 0.0)
    with pytest.raises(Failure, match="cannot reach Kafka"):
        await Sampler(Restarting(1 << 30), Group(), {}).run()
