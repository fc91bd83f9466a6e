"""The plot: one panel a load, one bar a contestant, as SVG that a page can show in light and dark."""

from collections.abc import Sequence
from html import escape

from tests.benchmarks.report import Result, median_rate

_WIDTH, _LABEL, _BAR, _GAP, _TITLE = 760, 170, 16, 6, 26
_COLORS = {"service": "#2563eb", "bare client": "#94a3b8"}
_OTHER = "#d97706"
_STYLE = "text{font:12px system-ui,sans-serif;fill:#475569}.t{font-weight:600}line{stroke:#dc2626;stroke-dasharray:3 2}"


def as_svg(results: Sequence[Result], subtitle: str) -> str:
    """Return events a second by contestant under each load; a dashed line is the ideal one."""
    y, parts = _TITLE, [f'<text class="t" x="0" y="14">Events a second ({escape(subtitle)})</text>']
    for scenario in dict.fromkeys(result.scenario for result in results):
        here = [result for result in results if result.scenario == scenario]
        ideal = scenario.ideal_rate(scenario.concurrency)
        most = max([*(median_rate(result) for result in here), ideal or 0])
        scale = (_WIDTH - _LABEL - 70) / most
        y += _TITLE
        parts.append(f'<text class="t" x="0" y="{y - 8}">{escape(scenario.title)}</text>')
        top = y
        for result in here:
            rate = median_rate(result)
            color = _COLORS.get(result.contestant, _OTHER)
            parts += [
                f'<text x="{_LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(result.contestant)}</text>',
                f'<rect x="{_LABEL}" y="{y}" width="{max(1, rate * scale):.1f}" height="{_BAR}" fill="{color}"/>',
                f'<text x="{_LABEL + rate * scale + 6:.1f}" y="{y + 12}">{rate:,.0f}</text>',
            ]
            y += _BAR + _GAP
        if ideal:
            x = f"{_LABEL + ideal * scale:.1f}"
            parts.append(f'<line x1="{x}" x2="{x}" y1="{top - 3}" y2="{y}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + _GAP}" role="img">'
        f"<style>{_STYLE}</style>{''.join(parts)}</svg>\n"
    )
