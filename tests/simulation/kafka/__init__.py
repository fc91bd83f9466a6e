"""A simulated Kafka in virtual time, for deterministic tests of the whole service.

The clients are aiokafka's own classes, so everything that a client does is the real thing: its group protocol, what it
swallows, rewinds and forgets. Simulated are the brokers, the connections, and the clocks and dice of aiokafka
(`seams.py`). Record batches are bytes, decoded by `consumer/records`. `tests/kafka_behaviour` runs one suite of
behaviours against this and against a real Apache Kafka.

Not modelled: TLS and logins, static members, several assignment strategies in a group, transactional producers (a test
writes transactions itself), the deduplication of an idempotent producer's batches, followers that lag, lookups of
offsets by time, quotas, automatic creation of topics, and the 100 ms rhythm of empty fetches (`fetches.py`).
"""

from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.faults import Fault
from tests.simulation.kafka.log import NewRecord

__all__ = ["Cluster", "Fault", "NewRecord"]
