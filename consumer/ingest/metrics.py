"""What `ingest` counts. `docs/feeding-the-topic.md` lists the same."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from consumer.ops.metrics import ReadCounter
from consumer.stdio import lines_dropped

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_PREFIX = "sesamy_mailmojo_ingest_"


class IngestMetrics:
    """The metrics of one running endpoint, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            f"{_PREFIX}requests_total",
            "Requests answered; 202 means that the event is stored.",
            ["status"],
            registry=self.registry,
        )
        self.duration = Histogram(
            f"{_PREFIX}request_duration_seconds",
            "From a request's headers to the answer.",
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.in_flight = Gauge(
            f"{_PREFIX}requests_in_flight",
            "Requests with the secret that are being read or wait for the broker.",
            registry=self.registry,
        )
        self.ready = Gauge(f"{_PREFIX}ready", "1 while the broker takes events.", registry=self.registry)
        self.producers_replaced = Counter(
            f"{_PREFIX}producers_replaced_total",
            "Producers given up because a batch of theirs had failed.",
            registry=self.registry,
        )
        self.last_stored = Gauge(
            f"{_PREFIX}last_stored_timestamp_seconds", "When an event was last stored.", registry=self.registry
        )

        self.registry.register(
            ReadCounter(
                "sesamy_mailmojo_log_lines_dropped_total", "Lines of the log that could not be written.", lines_dropped
            )
        )

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
