"""Figures from the evidence. Pure: what a load test left behind goes in, the report comes out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from consumer.loadtest import agreement, judging
from consumer.loadtest.evidence import Evidence, answered_by_letters
from consumer.loadtest.plan import allowance
from consumer.loadtest.report import (
    Events,
    Instance,
    Percentiles,
    PerUser,
    Process,
    QuotaUse,
    Report,
    Syncs,
    Throughput,
)
from consumer.loadtest.series import nearest_rank, series
from consumer.loadtest.syncs import Answered, Sync, answers, requests_by_user, syncs_by_user


def report(evidence: Evidence) -> Report:
    """Return the report."""
    syncs = syncs_by_user(evidence.log.records, evidence.sent.users)
    answered = [
        one
        for user_id, user in evidence.sent.users.items()
        for one in answers(user, syncs.get(user_id, []))
        if one is not None
    ]
    counted = _events(evidence, syncs)
    checks = agreement.lines(evidence, syncs)
    times = _throughput(evidence, counted, syncs, answered)
    quotas = _quotas(evidence)
    others = [_process(evidence, name) for name in _others(evidence)]
    return Report(
        date=evidence.date,
        failures=judging.failures(evidence, counted, quotas, checks),
        load=evidence.plan,
        machine=evidence.machine,
        events=counted,
        throughput=times,
        latency=percentiles([one.done_at - one.meant_at for one in answered]),
        syncs=_syncs(evidence, syncs),
        requests=agreement.requests(evidence),
        per_user=_per_user(evidence),
        quotas=quotas,
        instances=[_instance(evidence, number) for number in range(len(evidence.instances))],
        others=others,
        agreement=checks,
        notes=judging.notes(evidence, others),
        series=series(evidence, answered, times.seconds),
    )


def percentiles(values: Iterable[float]) -> Percentiles | None:
    """Return the nearest-rank percentiles; None without any value."""
    ordered = sorted(values)
    if not ordered:
        return None

    p50, p90, p99, most = (round(nearest_rank(ordered, percent), 6) for percent in (50, 90, 99, 100))
    return Percentiles(count=len(ordered), p50=p50, p90=p90, p99=p99, max=most)


def _events(evidence: Evidence, syncs: Mapping[str, Sequence[Sync]]) -> Events:
    letters = answered_by_letters(evidence.letters)
    found: Counter[str] = Counter()
    for user_id, user in evidence.sent.users.items():
        newest = letters.get(user_id, -1)
        for number, answer in enumerate(answers(user, syncs.get(user_id, []))):
            if answer is None:
                found["dead_lettered" if number <= newest else "lost"] += 1
            else:
                found["skipped" if user.skipped else "synced"] += 1
    others = evidence.sent.others
    changed = sum(user.version - 1 for user in evidence.sent.users.values())
    outcomes = agreement.total(evidence).by("events_total", "outcome")
    return Events(
        published=evidence.sent.count,
        synced=found["synced"],
        skipped=found["skipped"],
        unread=others.total() - others["dead_lettered"],
        dead_lettered=found["dead_lettered"] + others["dead_lettered"],
        lost=found["lost"],
        users=len(evidence.sent.users),
        changed=changed,
        outcomes={outcome: count for (outcome,), count in sorted(outcomes.items())},
    )


def _throughput(
    evidence: Evidence, events: Events, syncs: Mapping[str, Sequence[Sync]], answered: Sequence[Answered]
) -> Throughput:
    began = evidence.sent.began
    end = max([evidence.published_at, *(one.done_at for one in answered)])
    seconds = max(end - began, 1e-3)
    ended = sum(_outcome(evidence, user_id, sync) != "unfinished" for user_id, found in syncs.items() for sync in found)
    during = sum(began <= record.start <= end for record in evidence.log.records)
    return Throughput(
        replay_seconds=round(evidence.published_at - began, 3),
        seconds=round(seconds, 3),
        events=round((events.published - events.lost) / seconds, 2),
        syncs=round(ended / seconds, 2),
        requests=round(during / seconds, 2),
        lateness=evidence.lateness,
    )


def _outcome(evidence: Evidence, user_id: str, sync: Sync) -> str:
    user = evidence.sent.users.get(user_id)
    return "skipped" if user is not None and user.skipped and sync.status == 200 else sync.outcome


def _syncs(evidence: Evidence, syncs: Mapping[str, Sequence[Sync]]) -> Syncs:
    found = Counter(_outcome(evidence, user_id, sync) for user_id, several in syncs.items() for sync in several)
    return Syncs(
        written=found["written"],
        unchanged=found["unchanged"],
        skipped=found["skipped"],
        unfinished=found["unfinished"],
    )


def _per_user(evidence: Evidence) -> list[PerUser]:
    found = []
    for api in ("sesamy", "mailmojo"):
        requests = (record for record in evidence.log.records if record.api == api)
        counts = [len(several) for several in requests_by_user(requests, evidence.sent.users).values()]
        if (spread := percentiles(counts)) is not None:
            found.append(PerUser(api=api, mean=round(sum(counts) / len(counts), 2), requests=spread))
    return found


def _quotas(evidence: Evidence) -> list[QuotaUse]:
    found = []
    for api, quota in evidence.plan.quotas().items():
        requests = evidence.log.requests(api)
        starts = [record.start for record in requests]
        span = max(starts) - min(starts) if starts else 0.0
        excess = evidence.log.excess(api, rate=quota.rate, burst=quota.burst) if starts else -quota.burst
        found.append(
            QuotaUse(
                api=api,
                per_second=quota.rate,
                burst=quota.burst,
                used=round(len(starts) / (quota.burst + quota.rate * span), 4),
                excess=round(excess, 2),
                allowed=round(allowance(quota), 2),
                refused=sum(record.status == 429 for record in requests),
            )
        )
    return found


def _instance(evidence: Evidence, number: int) -> Instance:
    ended = evidence.instances[number]
    sum_of = ended.metrics.sum
    return Instance(
        process=_process(evidence, ended.name),
        exit_code=ended.exit_code,
        died=ended.died,
        events=round(sum_of("events_total")),
        requests=round(sum_of("api_requests_total")),
        rebalances=round(sum_of("rebalances_total")),
        retries=round(sum_of("retries_total")),
        violations=judging.violations(ended.metrics),
    )


def _others(evidence: Evidence) -> list[str]:
    instances = {ended.name for ended in evidence.instances}
    return [name for name in dict.fromkeys(n for it in evidence.samples for n in it.usage) if name not in instances]


def _process(evidence: Evidence, name: str) -> Process:
    seen = [(sample.at, sample.usage[name]) for sample in evidence.samples if name in sample.usage]
    if not seen:
        return Process(name=name, cpu_seconds=None, cores=None, peak_rss_mib=None)
    (begin, first), (end, last) = seen[0], seen[-1]
    cpu = last.cpu - first.cpu
    return Process(
        name=name,
        cpu_seconds=round(cpu, 2),
        cores=round(cpu / (end - begin), 3) if end > begin else None,
        peak_rss_mib=round(max(usage.peak_rss for _, usage in seen), 1),
    )
