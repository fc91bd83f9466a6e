"""The benchmarks measure what they say; how fast anything is depends on the machine and is asserted nowhere."""

import asyncio
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from tests.benchmarks import contestants, report
from tests.benchmarks.__main__ import Benchmark, run
from tests.benchmarks.contestants import BARE, EACH_EVENT, GROUPED, PARALLEL, SEQUENTIAL, SERVICE, Contestant
from tests.benchmarks.counting import Counts
from tests.benchmarks.plot import as_svg
from tests.benchmarks.report import Result
from tests.benchmarks.running import Measurement, measure
from tests.benchmarks.scenarios import Scenario
from tests.kafka_broker import KafkaBroker

_TINY = Scenario(latency=0.02, concurrency=4, partitions=2, seconds=0.4)


@pytest.mark.parametrize(
    "contestant", [SERVICE, GROUPED, SEQUENTIAL, PARALLEL, BARE], ids=lambda contestant: contestant.name
)
async def test_a_run_counts_every_event_once_from_the_request_log(
    contestant: Contestant, kafka: KafkaBroker, tmp_path: Path
) -> None:
    if contestant is PARALLEL and (reason := await asyncio.to_thread(contestants.fetch_parallel_consumer)):
        pytest.skip(reason)
    measured = await measure(_TINY, contestant, kafka, tmp_path)
    counts = measured.counts
    assert counts.users == _TINY.users_for(contestant.width(_TINY))
    assert counts.calls == (6, 6)
    assert counts.round_trips[0] == 5
    assert (counts.order_violations, counts.redone, counts.lost, counts.wrong) == (0, 0, 0, 0)
    assert counts.served_latency > 0.9 * _TINY.latency
    ideal = _TINY.ideal_rate(contestant.width(_TINY))
    assert ideal is not None
    assert counts.rate < 1.1 * ideal
    assert measured.cpu_per_event > 0
    assert measured.peak_rss > 10


async def test_a_sync_of_other_calls_than_the_line_was_drawn_for_is_refused(kafka: KafkaBroker, tmp_path: Path) -> None:
    without_contracts = msgspec.structs.replace(_TINY, kind="external")
    with pytest.raises(RuntimeError, match="a sync made 5 calls, 4 in sequence"):
        await measure(without_contracts, SERVICE, kafka, tmp_path)


def test_a_ratio_is_that_of_runs_that_followed_one_another() -> None:
    """The machine was twice as fast in the second round, and half as fast in the third."""
    service, bare = (
        Result(scenario=_TINY, contestant=name, rounds=tuple(map(_measured, rates)))
        for name, rates in (("service", (75, 160, 35)), ("bare client", (100, 200, 50)))
    )
    for results in ((service, bare), (bare, service)):
        told = msgspec.json.decode(report.as_json(report.machine(), (), results))["results"]
        assert {one["contestant"]: one["service_to_this"] for one in told} == {"service": None, "bare client": 0.75}
    alone = msgspec.json.decode(report.as_json(report.machine(), (), (bare,)))["results"]
    assert alone[0]["service_to_this"] is None


def _measured(rate: float) -> Measurement:
    counts = Counts(
        users=4,
        events=4,
        requests=24,
        seconds=4 / rate,
        calls=(6, 6),
        round_trips=(5, 5),
        order_violations=0,
        redone=0,
        lost=0,
        wrong=0,
        served_latency=0.02,
    )
    return Measurement(counts=counts, cpu_per_event=0.001, peak_rss=50, busy=0.5, sandbox_busy=0.5)


async def test_table_and_json_report_the_same_runs(kafka: KafkaBroker, tmp_path: Path) -> None:
    benchmark = Benchmark(scenarios=(_TINY,), contestants=(SERVICE,), rounds=2)
    results = await run(benchmark, kafka, tmp_path)
    assert [len(result.rounds) for result in results] == [2]
    where = report.machine()
    text = report.as_text(where, benchmark.contestants, results)
    assert "= 4 / (5 * 0.02 s) = 40.0 events/s" in text
    (result,) = msgspec.json.decode(report.as_json(where, benchmark.contestants, results))["results"]
    assert f"| {result['median_rate']:.1f} (" in text
    assert result["ideal_rate"] == 40.0
    svg = as_svg(results, "today")
    assert f">{result['median_rate']:,.0f}</text>" in svg
    ET.fromstring(svg)


async def test_events_of_few_users_are_answered_together_and_those_at_a_pace_have_a_delay(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    together = Scenario(latency=0.02, concurrency=4, partitions=2, users=10, events=200, zipf=True)
    counts = (await measure(together, SERVICE, kafka, tmp_path / "together")).counts
    assert counts.events == 200
    assert counts.requests < 200
    assert (counts.order_violations, counts.redone, counts.lost, counts.wrong) == (0, 0, 0, 0)
    each = (await measure(together, EACH_EVENT, kafka, tmp_path / "each")).counts
    assert each.requests == 5 * 200 + counts.users, "what is unchanged is not written again"
    paced = Scenario(latency=0.02, concurrency=4, partitions=2, pace=10, seconds=1)
    delays = (await measure(paced, SERVICE, kafka, tmp_path / "paced")).counts.delays
    assert delays is not None
    assert 5 * 0.02 < delays[0] <= delays[1]
