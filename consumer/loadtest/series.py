"""How a load test went over time, in at most `_MOST` steps however long it took. Pure."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from consumer.loadtest.evidence import Evidence
from consumer.loadtest.report import Series
from consumer.loadtest.samples import Sample
from consumer.loadtest.syncs import Answered

_MOST: Final = 180
_WIDTHS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def series(evidence: Evidence, answered: Sequence[Answered], seconds: float) -> Series:
    """Return the series from the first event's due time on, for as long as events were answered or sent."""
    began = evidence.sent.began
    last = max([began + seconds, evidence.published_at, *(sample.at for sample in evidence.samples)]) - began
    width = float(next((width for width in _WIDTHS if last / width <= _MOST), math.ceil(last / _MOST)))
    steps = max(1, math.ceil(last / width))

    def step(at: float) -> int:
        return min(steps - 1, max(0, int((at - began) / width)))

    def rate(times: Iterable[float]) -> list[float]:
        counts = [0] * steps
        for at in times:
            counts[step(at)] += 1
        return [round(count / width, 6) for count in counts]

    latencies: list[list[float]] = [[] for _ in range(steps)]
    for one in answered:
        latencies[step(one.meant_at)].append(one.done_at - one.meant_at)
    for found in latencies:
        found.sort()
    sampled: list[list[Sample]] = [[] for _ in range(steps)]
    for sample in evidence.samples:
        sampled[step(sample.at)].append(sample)
    requests: defaultdict[str, list[float]] = defaultdict(list)
    for record in evidence.log.records:
        if record.api != "token":
            requests[record.api].append(record.start)
    names = dict.fromkeys(name for sample in evidence.samples for name in sample.usage)
    return Series(
        width=width,
        published=rate(at for user in evidence.sent.users.values() for at in user.sent_at),
        done=rate(one.done_at for one in answered),
        requests={api: rate(times) for api, times in sorted(requests.items())},
        lag=[max((sample.lag for sample in found), default=None) for found in sampled],
        latency_p50=[_latency(found, 50) for found in latencies],
        latency_p99=[_latency(found, 99) for found in latencies],
        cores={name: _cores(sampled, name) for name in names},
        rss_mib={name: [_rss(found, name) for found in sampled] for name in names},
    )


def nearest_rank(ordered: Sequence[float], percent: int) -> float:
    """Return the smallest of these that so many percent do not exceed. In whole numbers: 0.07 * 100 is above 7."""
    return ordered[-(-percent * len(ordered) // 100) - 1]


def _latency(ordered: Sequence[float], percent: int) -> float | None:
    return round(nearest_rank(ordered, percent), 4) if ordered else None


def _rss(found: Sequence[Sample], name: str) -> float | None:
    return next((round(sample.usage[name].rss, 1) for sample in reversed(found) if name in sample.usage), None)


def _cores(sampled: Sequence[Sequence[Sample]], name: str) -> list[float | None]:
    """Return the cores in use from one step's last sample to the next one's."""
    cores: list[float | None] = []
    before: Sample | None = None
    for found in sampled:
        now = next((sample for sample in reversed(found) if name in sample.usage), None)
        if now is None:
            cores.append(None)
            continue
        first = before or next(sample for sample in found if name in sample.usage)
        spent = now.usage[name].cpu - first.usage[name].cpu
        cores.append(round(max(0.0, spent) / (now.at - first.at), 3) if now.at > first.at else None)
        before = now
    return cores
