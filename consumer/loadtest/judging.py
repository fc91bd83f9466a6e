"""The verdict: every reason for which a load test did not hold, in words."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from consumer.loadtest.agreement import total
from consumer.loadtest.evidence import Evidence
from consumer.loadtest.instances import Metrics
from consumer.loadtest.report import Agreement, Events, Process, QuotaUse
from consumer.sandbox import Record

_SHOWN: Final = 3
_LATE: Final = 1.0
"""Seconds."""

_FULL: Final = 0.8
"""Of the one core that a process of ours can use."""

_SENTINELS: Final = ("order_violations_total", "commit_violations_total", "records_lost_total")


def violations(metrics: Metrics) -> int:
    """Return what an instance's own sentinels counted; always 0 in a right program."""
    return round(sum(metrics.sum(name) for name in _SENTINELS))


def failures(evidence: Evidence, events: Events, quotas: Sequence[QuotaUse], checks: Sequence[Agreement]) -> list[str]:
    """Return the reasons; none when all holds."""
    return [
        *_losses(evidence, events),
        *_order(evidence),
        *_quotas(quotas),
        *_instances(evidence),
        *_harm(evidence),
        *(
            f"the program and what it acted on disagree: {check.what}: {check.program:,} and {check.seen:,}"
            for check in checks
            if not check.agrees
        ),
    ]


def notes(evidence: Evidence, others: Sequence[Process]) -> list[str]:
    """Return what a reader should know before believing the times."""
    found = []
    if evidence.plan.backlog:
        filling = evidence.published_at - evidence.sent.began
        found.append(
            f"the instances started when all was in the topic: times and rates include {filling:.1f} s for that"
        )
    if (late := evidence.lateness or 0.0) > _LATE:
        found.append(
            f"events were sent up to {late:.1f} s late: machine or broker cannot keep this pace; latencies include it"
        )
    unanswered = total(evidence).sum("api_requests_total", status="error")
    if unanswered and not evidence.plan.faults:
        found.append(f"{unanswered:,.0f} requests got no answer in time though no fault was asked for")
    where = evidence.machine
    if where.load_average > where.cores / 2:
        found.append(f"the machine was busy before: load average {where.load_average:g} on {where.cores} cores")
    found += [
        f"the {one.name} took {one.cores:.2f} cores: it may have been what limits, not the program"
        for one in others
        if one.cores is not None and one.cores > _FULL
    ]
    return found


def _losses(evidence: Evidence, events: Events) -> Iterator[str]:
    if events.lost:
        yield f"{events.lost:,} of {events.published:,} events were not answered by a sync that began after them"
    if not evidence.committed:
        late = f"{evidence.plan.within:g} s after the last was sent (--within)"
        when = "when the last instance ended" if all(one.died for one in evidence.instances) else late
        yield f"not done in time: {evidence.lag:,} of {evidence.records:,} records without a commit {when}"
    reasons = Counter(letter.reason for letter in evidence.letters if letter.reason != "malformed")
    if reasons and not evidence.plan.faults:
        yield f"dead letters though no fault was asked for: {', '.join(f'{n} {why}' for why, n in reasons.items())}"


def _order(evidence: Evidence) -> Iterator[str]:
    if overlapping := evidence.log.overlapping_writes():
        yield f"{len(overlapping):,} pairs of writes of one contact overlap, as {_pair(overlapping[0])}"
    if backward := evidence.log.backward_writes():
        yield f"{len(backward):,} writes carried an older state than the one before, as {_pair(backward[0])}"
    counted = total(evidence)
    for name in _SENTINELS:
        if count := round(counted.sum(name)):
            yield f"{name} is {count:,}, must be 0"


def _quotas(quotas: Sequence[QuotaUse]) -> Iterator[str]:
    for quota in quotas:
        if quota.excess > quota.allowed:
            yield f"the quota of {quota.api} was exceeded by {quota.excess:g} requests, {quota.allowed:g} allowed for"


def _instances(evidence: Evidence) -> Iterator[str]:
    for instance in evidence.instances:
        if instance.died:
            yield f"{instance.name} ended with exit code {instance.exit_code} before the end"
        elif instance.exit_code:
            yield f"{instance.name} did not stop in order: exit code {instance.exit_code}"


def _harm(evidence: Evidence) -> Iterator[str]:
    rules = Counter(violation.rule for violation in evidence.log.violations)
    for rule, count in rules.most_common(_SHOWN):
        yield f"{count:,} requests broke a rule of the references: {rule}"
    if damaged := evidence.log.damaged():
        yield f"{len(damaged):,} writes did damage, as {', '.join(damaged[0].damage)} in request {damaged[0].number}"


def _pair(pair: tuple[Record, Record]) -> str:
    return f"requests {pair[0].number} and {pair[1].number}"
