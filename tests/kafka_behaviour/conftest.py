"""Every behaviour is tested twice: in the simulated Kafka, and in a real one."""

from collections.abc import Iterator

import pytest

from tests.kafka_behaviour.real import GATEWAY, RealWorld
from tests.kafka_behaviour.simulated import SimulatedWorld
from tests.kafka_behaviour.world import World
from tests.kafka_broker import KafkaBroker, free_ports


@pytest.fixture(scope="session")
def cleaning_broker() -> Iterator[KafkaBroker]:
    """A broker that compacts its topics at once; tests freeze and kill it."""
    gateway = f"127.0.0.1:{free_ports(1)[0]}"
    listeners, advertised = {GATEWAY: "PLAINTEXT"}, {GATEWAY: gateway}
    with KafkaBroker({"log.cleaner.backoff.ms": "200"}, listeners=listeners, advertised=advertised) as broker:
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
