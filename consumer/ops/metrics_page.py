"""The page that lists every metric: `python -m consumer.ops.metrics_page > docs/metrics.md`."""

import sys
from typing import Final

from consumer.ops.metrics import REASONS, Metrics

LABELS: Final = {
    "api": "`sesamy` or `mailmojo`",
    "group": "the consumer group",
    "operation": "the call, as `get_user` or `patch_contact`",
    "outcome": "of an event: `synced`, `unchanged`, `coalesced` (one sync answered it and a later event of the user), "
    "`skipped_guest`, `skipped_no_email`, `skipped_unknown_user`, `skipped_vendor`, `skipped_type`, "
    "`skipped_tombstone`, `dead_lettered`; of a sync: `created`, `updated`, `unchanged`, `skipped`, `failed`",
    "partition": "the number of the topic's partition; only those that the instance owns",
    "python": "the version of Python",
    "reason": ", ".join(f"`{reason}`" for reason in REASONS),
    "status": "the answer's HTTP status, or `error`",
    "type": "the event type as Sesamy spells it, `sesamy-mailmojo#sync`, `unknown` for any other, `none` without one",
    "version": "the version of the program",
}
"""What each label says; every one has a bounded set of values."""

_HEAD = """\
# Metrics

Made from `consumer/ops/metrics.py` by `python -m consumer.ops.metrics_page > docs/metrics.md`; a test keeps it equal.

`GET /metrics` on the admin port, in Prometheus' text format. Every instance tells of itself alone.
Durations are seconds, times unix seconds.

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def render() -> str:
    """Return the page as Markdown."""
    metrics = sorted(Metrics().descriptions, key=lambda metric: metric.name)
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.meaning} |"
        for metric in metrics
    ]
    buckets: dict[tuple[float, ...], list[str]] = {}
    for metric in metrics:
        if metric.buckets:
            buckets.setdefault(metric.buckets, []).append(f"`{metric.name}`")
    return "\n".join(
        [
            _HEAD + "\n".join(rows),
            "",
            "## Labels",
            *(f"- `{label}`: {meaning}" for label, meaning in sorted(LABELS.items())),
            "",
            "## Buckets, in seconds",
            *(
                f"- {', '.join(names)}: {', '.join(f'{bound:g}' for bound in bounds)}"
                for bounds, names in buckets.items()
            ),
            "",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(render())
