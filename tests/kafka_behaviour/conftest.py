"""Every behaviour is tested twice: in the simulated Kafka, and in a real one."""

from collections.abc import Iterator

import pytest

from tests.kafka_behaviour.real import RealWorld
from tests.kafka_behaviour.simulated import SimulatedWorld
from tests.kafka_behaviour.world import World
from tests.kafka_broker import KafkaBroker


@pytest.fixture(scope="session")
def cleaning_broker() -> Iterator[KafkaBroker]:
    """A broker that compacts its topics at once; tests freeze and kill it."""
    with KafkaBroker({"log.cleaner.backoff.ms": "200"}) as broker:
        yield broker


@pytest.fixture(
    params=[pytest.param("simulated", marks=pytest.mark.simulated), pytest.param("real", marks=pytest.mark.kafka)]
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The simulated Kafka, or the real one."""
    if request.param == "simulated":
        simulated = SimulatedWorld(1)
        yield simulated
        simulated.host.close()
        return
    broker: KafkaBroker = request.getfixturevalue("cleaning_broker")
    yield RealWorld(broker)
