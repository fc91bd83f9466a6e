"""What the running service tells: to the probes, to Prometheus and to people. Nothing personal (promise P8)."""

import asyncio
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from consumer.clients.build import Clients
from consumer.clock import Clocks
from consumer.ops.history import INTERVAL, History, totals
from consumer.ops.metrics import Metrics
from consumer.ops.recent import Recent
from consumer.ops.verdict import judge
from consumer.settings import Settings
from consumer.stream.group import Group
from consumer.stream.late_writes import LateWrites
from consumer.stream.malformed import MalformedRecords
from consumer.stream.membership import Membership
from consumer.stream.outgoing import DeadLetterStore
from consumer.stream.quota_share import QuotaShare
from consumer.stream.user_queues import UserQueues
from consumer.sync.evidence import Evidence, Outage

_STUCK_AFTER: Final = 15.0
"""Seconds without a turn of polling and committing until the process counts as stuck; longer where the session is."""


class Parts(Struct, frozen=True, kw_only=True):
    """The running parts that have something to tell."""

    settings: Settings
    group: Group
    queues: UserQueues
    malformed: MalformedRecords
    membership: Membership
    evidence: Evidence
    clients: Clients
    metrics: Metrics
    recent: Recent
    late_writes: LateWrites
    dead_letters: DeadLetterStore
    share: QuotaShare
    clocks: Clocks


class Overview:
    """Answers what the admin port asks. Implements `consumer.ops.admin.Health`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._history = History(parts.metrics, parts.clocks.monotonic)
        self._started_at = parts.clocks.wall()
        self._version = version("sesamy-mailmojo")
        # Everything that the owner of the consumer awaits ends within the session time-out (`stream/source.py`).
        self._stuck_after = max(_STUCK_AFTER, parts.settings.kafka.session_timeout)

    async def run(self) -> None:
        """Sample how fast things go, until cancelled; it costs less than a millisecond a second."""
        while True:
            await asyncio.sleep(INTERVAL)
            self._history.sample()

    def alive(self) -> bool:
        """Return whether the loop and the one task that polls and commits tick."""
        return self._parts.group.stuck_for() < self._stuck_after

    def unready(self) -> Mapping[str, str]:
        """Return why no work is done, by what it waits for."""
        reason = self._parts.group.unready()
        reasons = {} if reason is None else {"kafka": reason}
        if (problem := self._parts.dead_letters.problem) is not None:
            since = datetime.fromtimestamp(problem.since, UTC).isoformat(timespec="seconds")
            reasons["dead_letters"] = f"since {since}: {problem.reason}"
        return reasons | self._parts.evidence.reasons()

    def outages(self) -> Sequence[Outage]:
        """Return the calls of the APIs that are down."""
        return self._parts.evidence.outages()

    def refresh(self) -> None:
        """Bring the gauges that are sampled, not counted, up to date."""
        metrics, parts = self._parts.metrics, self._parts
        metrics.users_in_flight.set(parts.queues.in_flight)
        metrics.events_pending.set(self._pending())
        metrics.oldest_pending.set(self._oldest_pending())
        metrics.lease_remaining.set(parts.membership.lease_remaining())

    def history(self) -> Mapping[str, Any]:
        """Return the last minutes, for charts."""
        return self._history.told()

    def partitions(self) -> dict[str, dict[str, int]]:
        """Return by owned partition how far it was read, how far it is committed, and how much is left."""
        lag = totals(self._parts.metrics.consumer_lag, "partition")
        return {
            partition: progress | {"lag": lag[partition]}
            for partition, progress in self._parts.group.progress().items()
        }

    def status(self) -> Mapping[str, Any]:
        """Return the state of the service."""
        parts, metrics, reasons = self._parts, self._parts.metrics, self.unready()
        partitions = self.partitions()
        status = {
            "version": self._version,
            "python": platform.python_version(),
            "now": parts.clocks.wall(),
            "started_at": self._started_at,
            "instance": parts.settings.kafka.client_id,
            "topic": parts.settings.kafka.topic,
            "group_id": parts.settings.group_id,
            "dry_run": parts.settings.sync.dry_run,
            "concurrency": parts.settings.sync.concurrency,
            "alive": self.alive(),
            "ready": not reasons,
            "reasons": reasons,
            "calls": [asdict(outage) for outage in self.outages()],
            "generation": parts.membership.generation,
            "lease_remaining_seconds": round(parts.membership.lease_remaining(), 3),
            "lease_duration_seconds": round(parts.membership.lease_duration, 3),
            "users_in_flight": parts.queues.in_flight,
            "events_pending": self._pending(),
            "oldest_pending_seconds": self._oldest_pending(),
            "done_per_second": round(self._history.done_per_second, 2),
            "lag": sum(progress["lag"] for progress in partitions.values()),
            "partitions": partitions,
            "partitions_waiting": {
                str(partition): asdict(waiting) for partition, waiting in parts.group.waiting().items()
            },
            "waits": self._waits(),
            "apis": self._apis(),
            "account_fields": parts.clients.account_fields.state,
            "events": totals(metrics.events, "outcome"),
            "syncs": totals(metrics.syncs, "outcome"),
            "dead_letters": totals(metrics.dead_letters, "reason"),
            "counters": {
                name: totals(counter).total()
                for name, counter in (
                    ("rebalances", metrics.rebalances),
                    ("commit_failures", metrics.commit_failures),
                    ("retries", metrics.retries),
                    ("records_lost", metrics.records_lost),
                    ("echo_mismatches", metrics.echo_mismatches),
                    ("contact_conflicts", metrics.contact_conflicts),
                    ("late_writes", metrics.late_writes),
                )
            },
            "last_success": totals(metrics.last_success).total(),
            "sentinels": {
                "order_violations": totals(metrics.order_violations).total(),
                "commit_violations": totals(metrics.commit_violations).total(),
            },
            **parts.recent.told(),
        }
        return status | {"verdict": asdict(judge(status))}

    def _waits(self) -> dict[str, int]:
        """Return users by what they wait for, in the order in which they go through it."""
        waits, in_line = self._parts.queues.waits(), self._parts.clients.quotas()["mailmojo"].in_line
        before_write = min(waits.reading, in_line)
        return {
            "lingering": waits.lingering,
            "ready": waits.ready,
            "sesamy_quota": waits.starting,
            "reading": waits.reading - before_write,
            "mailmojo_quota": before_write,
            "writing": waits.writing,
            "retrying": waits.retrying,
            "parked": waits.parked,
            "giving_up": waits.giving_up,
            "malformed": len(self._parts.malformed),
        }

    def _apis(self) -> dict[str, dict[str, Any]]:
        told: dict[str, dict[str, Any]] = {}
        reasons, answers = self._parts.evidence.reasons(), self._answers()
        for api, quota in self._parts.clients.quotas().items():
            told[api] = {
                "circuit_open": api in reasons,
                "reason": reasons.get(api),
                "quota_share": round(quota.share, 4),
                "allowed_per_second": round(quota.per_second, 4),
                "used_per_second": round(self._history.calls_per_second(api), 3),
                "in_line": quota.in_line,
                "closed_for_seconds": round(quota.closed_for, 1),
                "answers": answers.get(api, {}),
            }
        return told

    def _answers(self) -> dict[str, dict[str, int]]:
        """Return by API the number of requests that ended well, were throttled, or failed."""
        found: dict[str, dict[str, int]] = {}
        for family in self._parts.metrics.api_requests.collect():
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    status = sample.labels["status"]
                    failed = status in {"401", "403", "408"} or status >= "5"  # `error` among them
                    kind = "throttled" if status == "429" else "failed" if failed else "ok"
                    kinds = found.setdefault(sample.labels["api"], {"ok": 0, "throttled": 0, "failed": 0})
                    kinds[kind] += int(sample.value)
        return found

    def _pending(self) -> int:
        return self._parts.queues.pending + len(self._parts.malformed)

    def _oldest_pending(self) -> float:
        arrivals = (self._parts.queues.oldest_arrival(), self._parts.malformed.oldest_arrival())
        oldest = min((arrived for arrived in arrivals if arrived is not None), default=None)
        return 0.0 if oldest is None else round(self._parts.clocks.monotonic() - oldest, 3)
