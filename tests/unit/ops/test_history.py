"""Rates and charts come from samples of the counters."""

from consumer.ops.history import History, totals
from consumer.ops.metrics import Metrics


def test_rates_are_per_second_over_the_last_five_samples() -> None:
    metrics, now = Metrics(), 0.0
    history = History(metrics, lambda: now)
    assert history.done_per_second == 0
    for second in range(1, 31):
        now = float(second)
        metrics.events.labels("contract.1#update", "synced").inc(2 if second <= 25 else 5)
        metrics.events.labels("none", "skipped_tombstone").inc()
        for _ in range(4):
            metrics.api_request_duration.labels("mailmojo", "get_contact", "200").observe(0.1)
        history.sample()
    assert history.done_per_second == 6
    assert history.calls_per_second("mailmojo") == 4
    assert history.calls_per_second("sesamy") == 0
    assert history.told()["done"] == [3] * 25 + [6] * 5


def test_it_keeps_five_minutes() -> None:
    metrics = Metrics()
    ticks = iter(range(10_000))
    history = History(metrics, lambda: float(next(ticks)))
    for number in range(1000):
        metrics.consumer_lag.labels("0").set(number)
        metrics.consumer_lag.labels("1").set(1)
        history.sample()
    told = history.told()
    assert len(told["done"]) == len(told["behind"]) == 300
    assert told["behind"][-1] == 1000


def test_totals_sum_up_by_label() -> None:
    metrics = Metrics()
    metrics.events.labels("a", "synced").inc(2)
    metrics.events.labels("b", "synced").inc(3)
    metrics.events.labels("b", "unchanged").inc()
    assert totals(metrics.events, "outcome") == {"synced": 5, "unchanged": 1}
    assert totals(metrics.events).total() == 6
    assert totals(metrics.retries).total() == 0
