"""The plot: one panel a load, one bar a contestant, as SVG that a page can show in light and dark."""

from html import escape

from tests.benchmarks.contestants import COALESCING, CONNECTIONS, SERVICE
from tests.benchmarks.report import Report, contestants_of, median_rate
from tests.benchmarks.turns import CORES

_WIDTH, _LABEL, _BAR, _GAP, _TITLE = 760, 190, 16, 6, 26
_COLORS = {SERVICE.name: "#2563eb", COALESCING.name: "#2563eb", CONNECTIONS.name: "#94a3b8"}
_OTHER = "#d97706"
_STYLE = "text{font:12px system-ui,sans-serif;fill:#475569}.t{font-weight:600}line{stroke:#dc2626;stroke-dasharray:3 2}"


def as_svg(report: Report) -> str:
    """Return events a second by contestant under each load; a dashed line is the ideal one."""
    about = report.machine
    y, parts = (
        _TITLE,
        [f'<text class="t" x="0" y="14">Events a second ({escape(about.date)}, {escape(about.cpu)})</text>'],
    )
    for load in dict.fromkeys(turn.load for turn in report.results.turns):
        instances = load.instances or CORES
        rates = {name: median_rate(report.results.of(load, name)) for name in contestants_of(report, [load])}
        ideal = load.ideal_rate(instances)
        scale = (_WIDTH - _LABEL - 70) / max(
            [*rates.values(), ideal if ideal and ideal < 2 * max(rates.values()) else 0]
        )
        title = load.title if instances == 1 else f"{load.title}, {instances} processes"
        y += _TITLE
        parts.append(f'<text class="t" x="0" y="{y - 8}">{escape(title)}</text>')
        top = y
        for name, rate in rates.items():
            color = _COLORS.get(name, _OTHER)
            parts += [
                f'<text x="{_LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(name.replace("`", ""))}</text>',
                f'<rect x="{_LABEL}" y="{y}" width="{max(1, rate * scale):.1f}" height="{_BAR}" fill="{color}"/>',
                f'<text x="{_LABEL + rate * scale + 6:.1f}" y="{y + 12}">{rate:,.0f}</text>',
            ]
            y += _BAR + _GAP
        x = _LABEL + (ideal or 0) * scale
        if ideal and x <= _WIDTH:
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 3}" y2="{y}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + _GAP}" role="img">'
        f"<style>{_STYLE}</style>{''.join(parts)}</svg>\n"
    )
