"""What the service uses of the process and the machine around it: all of it can be given, for a simulation."""

import os
import random
from collections.abc import Mapping

from msgspec import Struct, field

from consumer.clients.http import HttpClientFactory
from consumer.clock import REAL_CLOCKS, Clocks
from consumer.kafka_factory import AIOKAFKA, KafkaFactory


class Surroundings(Struct, frozen=True, kw_only=True):
    """The real ones, unless others are given. Timers are those of the running event loop."""

    clocks: Clocks = REAL_CLOCKS
    kafka: KafkaFactory = AIOKAFKA
    http: HttpClientFactory | None = None
    """Makes what sends the requests of both APIs; None leaves the choice to `open_clients`."""
    rng: random.Random = field(default_factory=random.Random)
    """For jitter, not for secrets."""
    environment: Mapping[str, str] = os.environ
    has_admin_port: bool = True
