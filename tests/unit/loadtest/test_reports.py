"""The report on a page, on a terminal, in a file, and beside an earlier one."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from msgspec import structs

from consumer.loadtest import html, report, text
from consumer.loadtest.comparison import differences, rows
from consumer.loadtest.figures import report as report_of
from consumer.loadtest.plots import Line, chart, nice
from consumer.sandbox import Quota, Rule
from consumer.settings import SettingsError
from tests.unit.loadtest.runs import ANN, MACHINE, PLAN, RECORDS, right_run

RIGHT = report_of(right_run())
WRONG = report_of(right_run(records=RECORDS[:-3]))
FAST = structs.replace(RIGHT, throughput=structs.replace(RIGHT.throughput, events=2 * RIGHT.throughput.events))


def tree(page: str) -> ET.Element:
    return ET.fromstring(page.removeprefix("<!doctype html>\n"))


@pytest.mark.parametrize("earlier", [None, WRONG], ids=["alone", "compared"])
@pytest.mark.parametrize("now", [RIGHT, WRONG], ids=["right", "wrong"])
def test_the_page_is_well_formed_and_needs_nothing_else(now: report.Report, earlier: report.Report | None) -> None:
    page = html.render(now, earlier)
    found = tree(page)
    assert len(found.findall(".//svg")) == 6
    assert not re.search(r"https?:|src=|href=|url\(|@import|<script", page)
    assert {element.tag for element in found.iter()}.isdisjoint({"script", "link", "img", "iframe", "object"})


def test_the_page_says_the_verdict_first_and_why() -> None:
    verdict = tree(html.render(WRONG)).find("body/div")
    assert verdict is not None
    assert verdict.get("class") == "verdict bad"
    said = "".join(verdict.itertext())
    assert said.startswith("It does NOT hold (2 of 3 events done).")
    assert "1 of 3 events were not answered" in said
    assert 'class="verdict good"' in html.render(RIGHT)


def test_what_people_wrote_is_escaped() -> None:
    plan = structs.replace(PLAN, source='<script>&"')
    page = html.render(structs.replace(RIGHT, load=plan, failures=["<b>&"]))
    assert "<script>" not in page
    assert "<li>&lt;b&gt;&amp;</li>" in page
    tree(page)


def test_no_report_names_a_whole_address() -> None:
    plan = structs.replace(PLAN, faults=(Rule(key="kari.nordmann@example.no"), Rule(key=ANN), Rule()))
    now = structs.replace(RIGHT, load=plan.for_report(events=3, users=2))
    assert [rule.key for rule in now.load.faults] == ["k***@example.no", ANN, None]
    for said in (text.render(now, RIGHT), html.render(now, RIGHT), report.to_json(now).decode()):
        assert "k***@example.no" in said
        assert "nordmann" not in said


def test_the_text_says_the_verdict_first_and_the_figures_with_units() -> None:
    said = text.render(WRONG)
    assert said.startswith("It does NOT hold")
    assert "\n  - 1 of 3 events were not answered" in said
    assert re.search(r"latency p99 +0\.7 s\n", text.render(RIGHT))


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(report.to_json(RIGHT))
    assert report.read(path) == RIGHT


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "No such file"),
        (b"{}", "no report of a load test"),
        (b"\xff", "no report of a load test"),
        (b'{"version": 99}', "a report of version 99; this program reads version 1"),
        (b'{"version": 1}', "no report of a load test"),
    ],
)
def test_a_file_that_is_no_report_is_refused_in_one_line(content: bytes | None, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=complaint) as refusal:
        report.read(path)
    assert str(refusal.value).startswith(f"--compare {path}: ")


def test_ratios_are_now_over_earlier() -> None:
    ratios = {row.name: row.ratio for row in rows(FAST, RIGHT)}
    assert ratios["events done"] == 2
    assert ratios["latency p99"] == 1
    said = text.render(FAST, RIGHT)
    assert re.search(r"events done .* x2\.00\n", said)
    assert "Load and machine are the same." in said
    assert "x2.00" in html.render(FAST, RIGHT)


def test_another_program_is_what_is_compared_and_no_reason_to_doubt_the_ratios() -> None:
    earlier = structs.replace(RIGHT, machine=structs.replace(MACHINE, program="0.0.9"))
    for said in (text.render(RIGHT, earlier), html.render(RIGHT, earlier)):
        assert "Beside the report of 2026-01-01 12:00 UTC, by sesamy-mailmojo 0.0.9" in said
        assert "Load and machine are the same." in said


def test_what_makes_reports_hard_to_compare_is_named() -> None:
    load = structs.replace(PLAN, rate=2.0, sesamy=Quota(1, 20))
    machine = structs.replace(MACHINE, cores=8, load_average=3)
    other = structs.replace(RIGHT, load=load, machine=machine)
    found = {(one.what, one.now, one.earlier) for one in differences(other, RIGHT)}
    assert found == {
        ("load: rate", "2", "1"),
        ("load: sesamy", "rate 1, burst 20", "none"),
        ("machine: cores", "8", "2"),
    }
    for said in (text.render(other, RIGHT), html.render(other, RIGHT)):
        assert "so the ratios do not speak of the program alone" in said
        assert "machine: cores" in said


@pytest.mark.parametrize(
    ("most", "ceiling"), [(0, 1), (1, 1), (1.01, 2), (399, 400), (401, 800), (0.03, 0.04), (9, 10)]
)
def test_an_axis_ends_at_a_round_number_that_is_not_below(most: float, ceiling: float) -> None:
    assert nice(most) == pytest.approx(ceiling)


def test_a_line_breaks_where_values_are_missing_but_not_for_a_single_one() -> None:
    values = [1.0, None, 2.0, None, None, 3.0]
    drawn = chart("Title", "unit", [Line(name="a", values=values, step=1, style="c0")])
    path = ET.fromstring(drawn).find("svg/path")
    assert path is not None
    assert re.sub(r"[^ML]", "", path.get("d", "")) == "MLM"
    assert ET.fromstring(chart("No", "data", [])).find("svg/path") is None
