"""Alerts and dashboard speak of metrics that there are, and every alert has its test and its page."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumer.ops.metrics import REASONS, Metrics

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
ALERTS: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text("utf-8"))["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/sesamy-mailmojo.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

LABELS = {
    f"{metric.name}{suffix}": {*metric.labels, *(["le"] if suffix == "_bucket" else [])}
    for metric in Metrics().descriptions
    for suffix in (("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",))
}
OF_PROMETHEUS = {"namespace", "job", "instance"}
VALUES = {"api": {"sesamy", "mailmojo"}, "reason": set(REASONS)}


def _check(expression: str, text: str = "") -> set[str]:
    """Return the metrics of an expression whose labels, and those that `text` shows, there are."""
    found: set[str] = set()
    available = set(OF_PROMETHEUS)
    for name, selector in re.findall(r"\b(sesamy_mailmojo_\w+)(\{[^}]*\})?", expression):
        assert name in LABELS, f"no such metric: {name}"
        found.add(name)
        available |= LABELS[name]
        for label, value in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', selector):
            assert label in LABELS[name] | OF_PROMETHEUS, f"{name} has no {label}"
            assert value.startswith("$") or label not in VALUES or value in VALUES[label]
    groups = re.findall(r"\bby \(([^)]*)\)", expression)
    grouped = {label.strip() for group in groups for label in group.split(",")}
    assert grouped <= available
    shown = set(re.findall(r"\$labels\.(\w+)", text)) | set(re.findall(r"\{\{(\w+)\}\}", text))
    aggregated = re.search(r"\b(sum|max|min|count|avg|absent)\b", expression)
    assert shown <= (grouped if aggregated else available), f"{shown} are not labels of {expression}"
    return found


def _queries() -> Iterator[tuple[str, str]]:
    for panel in PANELS:
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_is_about_metrics_that_there_are_and_leads_to_its_page(alert: dict[str, Any]) -> None:
    assert _check(alert["expr"], alert["annotations"]["summary"])
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert alert["annotations"]["runbook"] == f"docs/operations.md#{alert['alert'].lower()}"


def test_every_alert_has_its_part_of_the_runbook_and_none_is_left_over() -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    parts = re.findall(r"^### (SesamyMailmojo\w+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in parts] == [alert["alert"] for alert in ALERTS]
    for name, text in parts:
        assert re.findall(r"^\*\*(.*?)\*\*", text, re.MULTILINE) == ["Means", "Look at", "Do"], name


def test_every_alert_is_shown_to_fire() -> None:
    tests = (PROMETHEUS / "alerts_test.yaml").read_text(encoding="utf-8")
    fired = set(re.findall(r'alertname="(\w+)"', tests))
    assert fired == {alert["alert"] for alert in ALERTS}


@pytest.mark.parametrize(
    "arguments",
    [["check", "rules", "alerts.yaml"], ["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yaml"]],
    ids=" ".join,
)
def test_prometheus_agrees(tool: Callable[[str], str], arguments: list[str]) -> None:
    *command, file = arguments
    told = subprocess.run([tool("promtool"), *command, PROMETHEUS / file], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def test_p12_the_tests_notice_a_rule_that_overlooks_one_deployment_of_two(
    tool: Callable[[str], str], tmp_path: Path
) -> None:
    rules = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text("utf-8"))
    down = next(rule for rule in rules["groups"][0]["rules"] if rule["alert"] == "SesamyMailmojoDown")
    for expression, code in ((down["expr"], 0), ("absent(sesamy_mailmojo_build_info)", 1)):
        down["expr"] = expression
        (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")
        (tmp_path / "alerts_test.yaml").write_bytes((PROMETHEUS / "alerts_test.yaml").read_bytes())
        command = [tool("promtool"), "test", "rules", str(tmp_path / "alerts_test.yaml")]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        assert told.returncode == code, told.stdout + told.stderr


def test_what_is_served_is_as_prometheus_likes_it(tool: Callable[[str], str]) -> None:
    told = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=Metrics().exposition(), capture_output=True, check=False
    )
    assert (told.returncode, told.stdout + told.stderr) == (0, b"")


def test_the_dashboard_asks_for_what_there_is_and_leaves_nothing_out() -> None:
    asked: set[str] = set()
    for expression, legend in _queries():
        found = _check(expression, legend)
        assert found
        asked |= found
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            assert _check(variable["definition"])
    left_out = {metric.name for metric in Metrics().descriptions} - {re.sub(r"_bucket$", "", name) for name in asked}
    assert left_out == set()


def test_the_dashboards_queries_are_promql(tool: Callable[[str], str], tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, (expression, _) in enumerate(_queries())
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    told = subprocess.run([tool("promtool"), "check", "rules", file], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def test_the_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not covered & cells, panel["title"]
        cells |= covered
