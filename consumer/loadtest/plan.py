"""What a load test does: the load, what stands against it, and how long it may take."""

from typing import Final, Self

from msgspec import Struct, structs

from consumer.masking import mask_addresses
from consumer.sandbox import Plan, Quota, Rule
from consumer.sandbox.faults import ApiName

JITTER: Final = 0.25
"""Seconds by which one request may be longer on its way than another while brokers, instances and sandbox share the
cores. An instance keeps its quota at the moment of sending; what arrives in t was sent in t + JITTER, so up to
rate * JITTER more may arrive, and one more because whole requests are counted against a line."""


class LoadPlan(Struct, frozen=True, kw_only=True):
    """One load test. Durations are seconds; part of the report, so that reports can be compared."""

    source: str | None = None
    """Where recorded events come from, as `topic:NAME` or a file; None: they are invented."""
    events: int = 0
    """How many are invented; of a recording, at most so many (0: all)."""
    users: int = 0
    """How many users invented events are about."""
    zipf: float | None = None
    """The exponent of the law by which few users get most of the invented events; None: all alike."""
    ordinary: bool = False
    """Whether invented users are all such that a sync writes their contact."""
    seed: int = 1
    changes: float = 1.0
    """The share of events before which the user really changes at Sesamy, so that the contact has to be written."""
    rate: float | None = None
    """Events a second; None: as recorded (times `speed`), or flat out."""
    speed: float | None = None
    """How many times as fast as recorded; None: at `rate`, or flat out."""
    instances: int = 3
    partitions: int = 12
    backlog: bool = False
    """Whether everything lies in the topic before the instances start."""
    latency: float = 0.0
    """Of every answer of the fakes."""
    jitter: float = 0.0
    """Up to so much more."""
    sesamy: Quota | None = None
    """What the instances are told of Sesamy's quota, in requests a second; None: there is none."""
    mailmojo: Quota | None = None
    faults: tuple[Rule, ...] = ()
    settings: dict[str, str] = {}
    """The instances' `SYNC_…`."""
    within: float = 300.0
    """After the last event is in the topic, all must be done in so many seconds."""

    @property
    def pace(self) -> str:
        """How fast events come, for people."""
        if self.rate:
            return f"{self.rate:g} events/s"
        return f"{self.speed:g} times as recorded" if self.speed else "flat out"

    def for_report(self, *, events: int, users: int) -> Self:
        """Return it with what was really sent, and without an address that a fault names: reports are passed on."""
        faults = tuple(structs.replace(rule, key=rule.key and mask_addresses(rule.key)) for rule in self.faults)
        return structs.replace(self, events=events, users=users, faults=faults)

    def quotas(self) -> dict[ApiName, Quota]:
        """Return the quotas that there are, by API."""
        quotas: dict[ApiName, Quota | None] = {"sesamy": self.sesamy, "mailmojo": self.mailmojo}
        return {api: quota for api, quota in quotas.items() if quota}

    def faults_of_the_fakes(self) -> Plan:
        """Return what the fakes do: they refuse only what exceeds the quota by more than its jitter."""

        def enforced(quota: Quota | None) -> Quota | None:
            return quota and Quota(quota.rate, quota.burst + allowance(quota))

        return Plan(
            latency=self.latency,
            jitter=self.jitter,
            sesamy_quota=enforced(self.sesamy),
            mailmojo_quota=enforced(self.mailmojo),
            rules=self.faults,
        )


def allowance(quota: Quota) -> float:
    """Return by how many requests a quota's worst window may seem exceeded at the receiving end (see `JITTER`)."""
    return 1 + quota.rate * JITTER
