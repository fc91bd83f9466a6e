"""A report beside an earlier one: the same figures twice, and what makes them hard to compare. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct, structs, to_builtins

from consumer.loadtest.report import Report


class Row(Struct, frozen=True, kw_only=True):
    """One figure; None where a report has none."""

    name: str
    unit: str
    now: float | None
    earlier: float | None

    @property
    def ratio(self) -> float | None:
        """Now over earlier."""
        return self.now / self.earlier if self.earlier and self.now is not None else None


class Difference(Struct, frozen=True):
    """Something that was not the same: of the load or of the machine."""

    what: str
    now: str
    earlier: str


def figures(report: Report) -> list[tuple[str, str, float | None]]:
    """Return name, unit and value of the figures that a reader compares first."""
    throughput = report.throughput
    latency = structs.asdict(report.latency) if report.latency else {}
    requests = sum(kind.log for kind in report.requests)
    processes = [instance.process for instance in report.instances]
    cpu = _sum(process.cpu_seconds for process in processes)
    memory = [process.peak_rss_mib for process in processes if process.peak_rss_mib is not None]
    return [
        ("events done", "events/s", throughput.events),
        ("time until all were done", "s", throughput.seconds),
        ("latency p50", "s", latency.get("p50")),
        ("latency p90", "s", latency.get("p90")),
        ("latency p99", "s", latency.get("p99")),
        ("latency max", "s", latency.get("max")),
        ("largest lag", "events", max((lag for lag in report.series.lag if lag is not None), default=None)),
        ("requests", "requests/s", throughput.requests),
        ("requests per event", "", round(requests / max(1, report.events.published), 3)),
        *((f"quota of {quota.api} used", "%", round(100 * quota.used, 1)) for quota in report.quotas),
        ("CPU of the instances", "s", cpu),
        ("CPU per event", "ms", None if cpu is None else round(1000 * cpu / max(1, report.events.published), 3)),
        ("memory of the largest instance", "MiB", max(memory, default=None)),
        *((f"CPU of the {process.name}", "cores", process.cores) for process in report.others),
    ]


def rows(now: Report, earlier: Report | None) -> list[Row]:
    """Return the figures side by side; of `now` alone without an earlier report."""
    before = {name: value for name, _, value in figures(earlier)} if earlier else {}
    return [Row(name=name, unit=unit, now=value, earlier=before.get(name)) for name, unit, value in figures(now)]


def differences(now: Report, earlier: Report) -> list[Difference]:
    """Return what differs in load and machine, but for the program: with any of it, no ratio speaks of that alone."""
    here, there = (
        {"load": to_builtins(report.load), "machine": to_builtins(report.machine)} for report in (now, earlier)
    )
    for machine in (here["machine"], there["machine"]):
        del machine["program"], machine["load_average"]  # what is compared, and what is never the same
    return list(_different("", here, there))


def _different(place: str, now: Any, earlier: Any) -> Iterator[Difference]:
    if isinstance(now, dict) and isinstance(earlier, dict):
        for name in dict.fromkeys([*now, *earlier]):
            yield from _different(f"{place}: {name}" if place else name, now.get(name), earlier.get(name))
    elif now != earlier:
        yield Difference(place.replace("_", " ") if place.islower() else place, _shown(now), _shown(earlier))


def _shown(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{name} {_shown(one)}" for name, one in value.items() if one)
        case list() | tuple():
            return "; ".join(map(_shown, value)) or "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
    return "none" if value is None else str(value)


def _sum(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return round(sum(found), 2) if found else None
