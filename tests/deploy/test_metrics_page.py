"""The page of metrics is the code's."""

from pathlib import Path
from typing import get_args

from consumer.ops.metrics import REASONS, Metrics
from consumer.ops.metrics_page import LABELS, render
from consumer.stream.dead_letters import Reason

ROOT = Path(__file__).parents[2]


def test_the_page_lists_the_metrics_of_the_code() -> None:
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    assert page == render(), "make it anew: .venv/bin/python -m consumer.ops.metrics_page > docs/metrics.md"


def test_every_label_is_explained_and_none_besides() -> None:
    assert set(LABELS) == {label for metric in Metrics().descriptions for label in metric.labels}


def test_what_is_described_is_what_is_served() -> None:
    metrics = Metrics()
    served = {family.name: family.type for family in metrics.registry.collect()}
    assert served == {metric.name.removesuffix("_total"): metric.kind for metric in metrics.descriptions}


def test_every_reason_of_a_dead_letter_is_there_before_the_first_one() -> None:
    assert get_args(Reason) == REASONS
    registry = Metrics().registry
    for reason in REASONS:
        assert registry.get_sample_value("sesamy_mailmojo_dead_letters_total", {"reason": reason}) == 0
