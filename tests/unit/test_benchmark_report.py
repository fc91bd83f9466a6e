from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks.contestants import BARE, COALESCING, FRANZ, PARALLEL, ROOT, SERVICE, at_commit
from tests.benchmarks.fake_users import USERS
from tests.benchmarks.kills import Kill
from tests.benchmarks.loads import Load, loads
from tests.benchmarks.plot import as_svg
from tests.benchmarks.report import Machine, Report, as_json, as_markdown, from_json, put_into, ratios
from tests.benchmarks.turns import CORES, Results, Turn, kind, stages

LOAD = Load(latency=0.01, events=100)
FLEET = Load(latency=0.01, events=100, instances=None)
HOT = Load(latency=0.01, events=100, hot=True)


def turn(name: str = SERVICE.name, *, rate: float = 100, cpu: float = 0.2, load: Load = LOAD, **more: Any) -> Turn:
    given: dict[str, Any] = {"requests": 600, "fake_cpu": 0.1, "peak_rss": 50.0, "seconds": 100 / rate} | more
    return Turn(load=load, contestant=name, events=100, cpu=cpu, **given)


def told(*turns: Turn, **more: Any) -> Report:
    machine = Machine(
        date="2026-11-28 09:30 UTC",
        cpu="a <CPU>",
        cores=2,
        memory_gib=24,
        system="Linux",
        python="3.11",
        kafka="4.3.0",
        packages={"aiohttp": "3.14"},
        load_average=0.1,
    )
    given: dict[str, Any] = {
        "commit": "abc",
        "command": "make bench",
        "contestants": {},
        "results": Results(turns=list(turns)),
    }
    return Report(machine=machine, **given | more)


def test_a_turn_is_told_by_event_by_second_and_by_core() -> None:
    one = turn(rate=50, cpu=0.4)
    assert (one.rate, one.cpu_per_event, one.cores) == (50, 0.004, 0.2)
    assert one.fake_cores == 0.05


def test_a_turn_with_other_than_six_requests_an_event_or_a_violation_does_not_count() -> None:
    assert turn().problem is None
    assert turn(requests=601).problem == "6.01 requests an event instead of 6"
    assert turn(load=HOT, requests=90).problem is None, "one sync may answer several events"
    assert "2 violations, such as: twice" in (turn(violations=2, examples=["twice"]).problem or "")


def test_a_ratio_is_that_of_turns_of_the_same_round() -> None:
    """The machine was twice as fast in the second round, and half as fast in the third."""
    ours = [turn(rate=rate, cpu=cpu) for rate, cpu in ((75, 0.2), (160, 0.1), (35, 0.4))]
    theirs = [turn(rate=rate, cpu=cpu) for rate, cpu in ((100, 0.4), (200, 0.2), (50, 0.8))]
    assert ratios(ours, theirs) == (0.75, 0.5)
    assert ratios(ours, theirs[:1]) == (0.75, 0.5), "of the rounds that both have"
    assert ratios(ours, []) is None
    assert ratios(ours, [turn(cpu=0)]) is None, "too short to be measured"


def test_the_tables_show_medians_and_ratios() -> None:
    old = at_commit("3c4e5b6", ROOT).name
    turns = [turn(rate=rate, cpu=cpu) for rate, cpu in ((100, 0.1), (300, 0.3), (200, 0.2))]
    turns += [turn(old, rate=100, cpu=0.4) for _ in range(3)]
    turns += [turn(PARALLEL.name, rate=400, cpu=0.1, peak_rss=300)]
    turns += [turn(load=FLEET, rate=500)]
    turns += [turn(COALESCING.name, load=HOT, rate=1_000, requests=63), turn(FRANZ.name, load=HOT, rate=10)]
    kills = [Kill(contestant=SERVICE.name, rate=100, in_flight=60, redone=70)]
    text = as_markdown(told(*turns, kills=kills))
    assert "| **this service** | 200 · 2,000 · 0.40 | 50 |" in text
    assert f"| {old} | 100 · 4,000 · 0.40 | 50 |" in text
    assert "| Parallel Consumer | 400 · 1,000 · 0.40 | 300 |" in text
    assert "| ideal line | 1,280 | |" in text.replace("  ", " ")
    assert f"| {old} | 2.00 · 0.50 | - |" in text
    assert f"**{CORES} processes" in text
    assert "| **this service, coalescing** | 0.1 | 1,000 | 0.63 | 2,000 |" in text
    assert "| **this service** | 100 | 60 | 70 | 84 |" in text


def test_who_dropped_out_is_named_with_the_reason() -> None:
    results = Results(turns=[turn(), turn(BARE.name)], dropped=[(FRANZ.name, "There is no `go`\n  in PATH")])
    text = as_markdown(told(results=results))
    assert "**franz-go dropped out.** There is no `go` in PATH" in text
    assert as_markdown(told()).startswith("Measured"), "nothing was measured, and that is no crash"


def test_a_report_is_the_same_after_it_was_stored() -> None:
    whole = told(turn(), turn(PARALLEL.name), kills=[Kill(contestant="x", rate=1, in_flight=1, redone=1)])
    assert as_markdown(from_json(as_json(whole))) == as_markdown(whole)


def test_the_report_replaces_the_one_on_the_page() -> None:
    page = "before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n"
    once = put_into(page, "new")
    assert once.startswith("before\n<!-- bench: begin -->\n\nnew\n\n![")
    assert once.endswith("](images/benchmark.svg)\n\n<!-- bench: end -->\nafter\n")
    assert "old" not in once
    assert put_into(once, "new") == once
    with pytest.raises(ValueError, match="no place for the report"):
        put_into("a page", "new")


def test_the_page_has_a_place_for_the_report() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    assert "new" in put_into(page, "new")


def test_the_plot_is_proper_svg() -> None:
    svg = as_svg(told(turn(), turn(BARE.name, rate=200), turn(load=FLEET), turn(load=HOT)))
    ET.fromstring(svg)
    assert ">200</text>" in svg
    assert "`" not in svg


def test_the_ideal_line_is_bounded_by_users_and_latency() -> None:
    assert Load(latency=0.1, events=1).ideal_rate(1) == pytest.approx(128)
    assert Load(latency=0.1, events=1).ideal_rate(2) == pytest.approx(256)
    assert Load(latency=0.1, events=1, width=256, users=100).ideal_rate(1) == pytest.approx(200)
    assert Load(latency=0, events=1).ideal_rate(1) is None
    assert HOT.ideal_rate(1) is None, "what bounds it is the busiest user"


def test_the_sequence_of_events_is_the_same_for_every_contestant() -> None:
    even = Load(latency=0, events=2_500)
    assert even.sequence()[:1_000] == list(USERS)
    assert even.sequence()[2_000] == USERS[0]
    hot = Load(latency=0, events=2_000, hot=True).sequence()
    assert hot == Load(latency=0, events=2_000, hot=True).sequence()
    assert 1_500 < sum(seed in USERS[:20] for seed in hot) < 1_700


def test_loads_of_a_stage_share_their_processes() -> None:
    all_ = loads()
    assert len({load.name for load in all_}) == len(all_)
    grouped = stages(all_)
    assert list(grouped) == [(64, 1), (256, 1), (64, None)]
    assert [kind(load) for load in grouped[64, 1]] == ["even", "even", "even", "hot"]
    assert {kind(load) for load in grouped[64, None]} == {"fleet"}
    assert [load.events for load in loads(0.0001)] == [1] * len(all_)
