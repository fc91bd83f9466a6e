"""Every metric in one place: its name, its labels and one line of meaning; `docs/metrics.md` is made from it."""

from collections.abc import Callable, Iterable
from typing import Final, Literal

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from consumer.stdio import lines_dropped

REASONS: Final = ("malformed", "rejected", "exhausted")
"""Why a record is a dead letter: the values of that label."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_AGES = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)


class Description(Struct, frozen=True):
    """What is known of a metric besides its value."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()


class Metrics:
    """The metrics of one running service, in a registry of its own. Durations are seconds, times unix seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.descriptions: list[Description] = []
        self.events = self._counter("events_total", "Records of the topic that are done.", "type", "outcome")
        self.syncs = self._counter("syncs_total", "Syncs of one user that ended.", "outcome")
        call = ("api", "operation", "status")
        self.api_request_duration = self._histogram(
            "api_request_duration_seconds", "From sending a request to its whole answer.", _SECONDS, *call
        )
        self.api_requests = self._count_of(
            self.api_request_duration,
            "api_requests_total",
            "Requests sent; status is `error` when no answer came.",
            *call,
        )
        self.rate_limit_wait = self._histogram(
            "rate_limit_wait_seconds", "What a sync waited for its permits of an API's quota.", _AGES, "api"
        )
        self.quota_share = self._gauge("quota_share", "This instance's part of the account's quota, 0 to 1.", "api")
        self.circuit_open = self._gauge("circuit_open", "1 while consumption waits for this API.", "api")
        self.event_age = self._histogram("event_age_seconds", "From a record's timestamp to done.", _AGES)
        self.users_in_flight = self._gauge("users_in_flight", "Users being synced at this moment.")
        self.events_pending = self._gauge("events_pending", "Events read from the topic and not done.")
        self.oldest_pending = self._gauge("oldest_pending_seconds", "Since the oldest event that is not done was read.")
        self.consumer_lag = self._gauge(
            "consumer_lag", "Records between the committed offset and the partition's end.", "partition"
        )
        self.committed_offset = self._gauge("committed_offset", "The last offset committed.", "partition")
        self.assigned_partitions = self._gauge("assigned_partitions", "Partitions this instance owns.")
        self.waiting_partitions = self._gauge(
            "waiting_partitions", "Assigned partitions that could not be started yet, as one without a leader."
        )
        self.rebalances = self._counter("rebalances_total", "Assignments received from the group.")
        self.kafka_rebuilds = self._counter(
            "kafka_rebuilds_total", "Times the group's Kafka clients were replaced, since Kafka did not serve them."
        )
        self.lease_remaining = self._gauge(
            "lease_remaining_seconds",
            "For how long writes may still start unless a commit succeeds; 0 without a lease.",
        )
        self.commit_failures = self._counter("commit_failures_total", "Commits that failed or timed out.")
        self.retries = self._counter("retries_total", "Syncs that failed and are to be tried again.")
        self.records_lost = self._counter(
            "records_lost_total", "Records removed from the log before they were read (the commit lay below its start)."
        )
        self.echo_mismatches = self._counter("echo_mismatches_total", "Writes whose echo differs from what was sent.")
        self.contact_conflicts = self._counter(
            "contact_conflicts_total", "Writes to a contact that carried another Sesamy User ID."
        )
        self.late_writes = self._counter(
            "late_writes_total",
            "Writes that took longer than the write time-out, as this process stood still; the user is synced again.",
        )
        self.last_success = self._gauge("last_success_timestamp_seconds", "When a sync last ended well.")
        self.build_info = self._gauge("build_info", "Always 1; the labels say what runs.", "version", "python", "group")
        self.dead_letters = self._counter("dead_letters_total", "Records stored in the dead-letter topic.", "reason")
        for reason in REASONS:  # there from the start, or the step to the first one would be invisible
            self.dead_letters.labels(reason)
        self.order_violations = self._counter(
            "order_violations_total", "Sentinel of P2: two open syncs of one user. Must stay 0."
        )
        self.commit_violations = self._counter(
            "commit_violations_total", "Sentinel of P1: a commit ahead of the work. Must stay 0."
        )
        self.account_fields_degraded = self._gauge(
            "account_fields_degraded", "1 when Mailmojo offers no way to list and create account fields."
        )
        self.http_fallback = self._gauge(
            "http_fallback",
            "1 when aiohttp lacks what the HTTP client needs, so that `ClientSession` serves.",
        )
        self._read(
            "log_lines_dropped_total",
            "Lines of the log that could not be written: the reader is too slow or gone, or the disk is full.",
            lines_dropped,
        )

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        name = self._describe("counter", name, labels, meaning)
        return Counter(name, meaning, labels, registry=self.registry)

    def _count_of(self, histogram: Histogram, name: str, meaning: str, *labels: str) -> "CountOf":
        name = self._describe("counter", name, labels, meaning)
        count = CountOf(histogram, name, meaning, labels)
        self.registry.register(count)
        return count

    def _read(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        name = self._describe("counter", name, (), meaning)
        self.registry.register(ReadCounter(name, meaning, value))

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        name = self._describe("gauge", name, labels, meaning)
        return Gauge(name, meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        name = self._describe("histogram", name, labels, meaning, buckets)
        return Histogram(name, meaning, labels, registry=self.registry, buckets=buckets)

    def _describe(
        self,
        kind: Literal["counter", "gauge", "histogram"],
        name: str,
        labels: tuple[str, ...],
        meaning: str,
        buckets: tuple[float, ...] = (),
    ) -> str:
        name = f"sesamy_mailmojo_{name}"
        self.descriptions.append(Description(name, kind, labels, meaning, buckets))
        return name


class CountOf(Collector):
    """A counter of what a histogram observed, read off when asked for: the hot path has one to tell, not two."""

    def __init__(self, histogram: Histogram, name: str, meaning: str, labels: tuple[str, ...]) -> None:
        self._histogram = histogram
        self._about = (name, meaning, labels)

    def collect(self) -> Iterable[Metric]:
        """Return the one family there is."""
        name, meaning, labels = self._about
        family = CounterMetricFamily(name, meaning, labels=labels)
        for durations in self._histogram.collect():
            for sample in durations.samples:
                if sample.name.endswith("_count"):
                    family.add_metric([sample.labels[label] for label in labels], sample.value)
        return [family]


class ReadCounter(Collector):
    """A counter that is kept elsewhere, and read when asked for."""

    def __init__(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        self._about = (name, meaning)
        self._value = value

    def collect(self) -> Iterable[Metric]:
        """Return the one family there is."""
        return [CounterMetricFamily(*self._about, value=self._value())]
