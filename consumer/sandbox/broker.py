"""The demo's broker: librdkafka's mock cluster, in this very process.

It is a mock. It speaks Kafka over real sockets and serves one consumer well; it knows neither several members of a
group nor restarts, keeps nothing, and holds 100,000 records a partition at the most. Never judge Kafka by it.
"""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Self

from consumer.failure import Failure

if TYPE_CHECKING:
    from confluent_kafka import Producer

ABOUT: Final = "librdkafka's mock cluster, a stand-in for Kafka"
PARTITIONS: Final = 4
"""Of every topic; the mock decides that."""

CONSUMER_OPTIONS: Final[dict[str, Any]] = {"fetch_max_wait_ms": 20}
"""What aiokafka's consumers need here: the mock answers a fetch only when its wait is over."""

_SECONDS: Final = 5.0


class MockBroker:
    """A mock cluster with these topics, from `async with MockBroker(topics)` to the end of the block."""

    def __init__(self, topics: Iterable[str]) -> None:
        """Prepare a broker.

        Raises:
            Failure: the packages of the extra `demo` are not installed.
        """
        try:
            import confluent_kafka  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise Failure("the demo needs more packages: pip install 'sesamy-mailmojo[demo]'") from error
        self._library = confluent_kafka
        self._topics = tuple(topics)
        self._cluster: Producer | None = None
        self.bootstrap_servers = ""

    async def __aenter__(self) -> Self:
        """Open the sockets and make the topics.

        Raises:
            Failure: the mock does not start.
        """
        try:
            self.bootstrap_servers = await asyncio.to_thread(self._start)
        except self._library.KafkaException as error:
            raise Failure(f"the mock broker does not start: {error}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the sockets; what the topics held is gone."""
        self._cluster = None  # the cluster ends with the client that made it

    def _start(self) -> str:
        # `log_level` 0: librdkafka writes to stderr by itself.
        self._cluster = self._library.Producer(
            {"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0}
        )
        (broker,) = self._cluster.list_topics(timeout=_SECONDS).brokers.values()
        for topic in self._topics:  # asked for by name, a topic comes to be; there is no call to create one
            found = self._cluster.list_topics(topic, timeout=_SECONDS).topics[topic]
            if found.error is not None:
                raise self._library.KafkaException(found.error)
        return f"{broker.host}:{broker.port}"
