"""Plots as inline SVG: lines over time, small enough for a phone, coloured by the page's style sheet. Pure."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from msgspec import Struct

WIDTH: Final = 360
HEIGHT: Final = 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 22
_TICKS: Final = 4
_GAP: Final = 2


class Line(Struct, frozen=True, kw_only=True):
    """One line: a value for each `step` seconds from 0 on, None where there is none.

    `style` is the class that the style sheet gives a colour, such as `c0`.
    """

    name: str
    values: Sequence[float | None]
    step: float
    style: str

    @property
    def most(self) -> float:
        """The largest value."""
        return max((value for value in self.values if value is not None), default=0.0)


def chart(title: str, unit: str, lines: Sequence[Line], *, bounds: Sequence[Line] = ()) -> str:
    """Return a figure with these lines, and bounds as dashed horizontal ones at their first value."""
    ceiling = nice(max([line.most for line in [*lines, *bounds]], default=0.0))
    span = max((len(line.values) * line.step for line in lines), default=1.0)
    shown = [*lines, *bounds]
    keys = "".join(f'<span class="key {line.style}">{escape(line.name)}</span>' for line in shown)
    label = f"{title}, {unit}: " + ", ".join(f"{line.name} at most {line.most:.4g}" for line in shown)
    plotted = "".join(_plotted(line, span, ceiling) for line in lines)
    dashed = "".join(_dashed(line, ceiling) for line in bounds)
    return (
        f'<figure><figcaption><b>{escape(title)}</b> <span class="unit">{escape(unit)}</span> {keys}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{''.join(_grid(ceiling))}{''.join(_clock(span))}{dashed}{plotted}</svg></figure>"
    )


def nice(most: float) -> float:
    """Return 1, 2, 4 or 8 times a power of ten that is not below: its quarters are easy to read."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next((step * power for step in (1, 2, 4, 8) if step * power >= most * (1 - 1e-9)), 10 * power)


def _grid(ceiling: float) -> Iterator[str]:
    for tick in range(_TICKS + 1):
        value = ceiling * tick / _TICKS
        y = _y(value, ceiling)
        yield f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{_LEFT - 5}" y="{y + 4}" text-anchor="end">{_short(value)}</text>'


def _clock(span: float) -> Iterator[str]:
    unit, seconds = next(((name, size) for name, size in (("h", 3600), ("min", 60)) if span >= 2 * size), ("s", 1))
    step = nice(span / seconds / 4) if seconds == 1 or span / seconds > 8 else 2
    at = 0.0
    while at * seconds <= span:
        name = f"{at:g}" + (f" {unit}" if (at + step) * seconds > span else "")
        anchor = "end" if at * seconds > 0.9 * span else "middle"
        yield f'<text x="{_x(at * seconds, span)}" y="{HEIGHT - 6}" text-anchor="{anchor}">{name}</text>'
        at += step


def _plotted(line: Line, span: float, ceiling: float) -> str:
    """Return the line, broken where values are missing; a value between two such gaps is a dot.

    One missing value alone is no gap: what is sampled once a second has a second without a sample now and then.
    """
    parts: list[str] = []
    latest = -_GAP - 1
    for number, value in enumerate(line.values):
        if value is not None:
            point = f"{_x((number + 0.5) * line.step, span)} {_y(value, ceiling)}"
            parts.append(f"M{point}h.01" if number - latest > _GAP else f"L{point}")
            latest = number
    return f'<path class="{line.style}" d="{"".join(parts)}"/>' if parts else ""


def _dashed(line: Line, ceiling: float) -> str:
    y = _y(line.most, ceiling)
    return f'<path class="bound {line.style}" d="M{_LEFT} {y}H{WIDTH - _RIGHT}"/>'


def _x(seconds: float, span: float) -> float:
    return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * seconds / span, 1)


def _y(value: float, ceiling: float) -> float:
    return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / ceiling, 1)


def _short(value: float) -> str:
    for size, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if name == 'k' else size):g}{name}"
    return f"{value:g}"
