"""The last minutes, one sample a second: how fast things go, and whether what waits grows or shrinks."""

from collections import Counter as Counts
from collections import deque
from itertools import pairwise
from typing import Any, Final

from msgspec import Struct
from prometheus_client.registry import Collector

from consumer.clients.errors import Api
from consumer.clock import Clock
from consumer.ops.metrics import Metrics

INTERVAL: Final = 1.0
"""Seconds between samples."""

_KEPT: Final = 300
_WINDOW: Final = 5
"""Samples that a rate is taken over."""


class _Sample(Struct, frozen=True):
    at: float
    done: float
    behind: float
    sesamy: float
    mailmojo: float


class History:
    """Samples of the counters. Rates are per second, over the last five seconds or what there is of them."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._samples: deque[_Sample] = deque(maxlen=_KEPT + 1)
        self.sample()

    def sample(self) -> None:
        """Take a sample, at about `INTERVAL`."""
        calls = totals(self._metrics.api_requests, "api")
        self._samples.append(
            _Sample(
                self._clock(),
                totals(self._metrics.events).total(),
                totals(self._metrics.consumer_lag).total(),
                calls["sesamy"],
                calls["mailmojo"],
            )
        )

    @property
    def done_per_second(self) -> float:
        """Events that were done, whatever they came to."""
        first, last = self._span()
        return (last.done - first.done) / max(last.at - first.at, INTERVAL)

    def calls_per_second(self, api: Api) -> float:
        """Requests that an API was sent."""
        first, last = self._span()
        sent = last.sesamy - first.sesamy if api == "sesamy" else last.mailmojo - first.mailmojo
        return sent / max(last.at - first.at, INTERVAL)

    def told(self) -> dict[str, Any]:
        """Return the last five minutes, oldest first."""
        steps = [(after.done - before.done, after.behind) for before, after in pairwise(self._samples)]
        return {"interval": INTERVAL, "done": [done for done, _ in steps], "behind": [behind for _, behind in steps]}

    def _span(self) -> tuple[_Sample, _Sample]:
        return self._samples[max(0, len(self._samples) - 1 - _WINDOW)], self._samples[-1]


def totals(metric: Collector, label: str | None = None) -> Counts[str]:
    """Return the values of a metric summed up by one of its labels; without a label all under the empty one."""
    found: Counts[str] = Counts()
    for family in metric.collect():
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                found[sample.labels[label] if label else ""] += int(sample.value)
    return found
