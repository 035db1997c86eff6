"""Charts as inline SVG: colours come from the page's style sheet, so that they follow its light and its dark.

Non-obvious: every text is escaped here, every number formatted; ``data-tip`` is what the page's script shows on hover,
``<title>`` what a browser without it shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 480, 290
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 44  # margins around the plot


@dataclass(frozen=True)
class Axis:
    """A linear axis from ``low`` to ``high`` with a label that names its unit."""

    label: str
    low: float
    high: float

    def ticks(self, n: int = 5) -> list[float]:
        """Return about ``n`` round numbers within the axis."""
        raw = (self.high - self.low) / n
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Point:
    """A value at ``x``, with its interval and what is said on hover."""

    x: float
    y: float
    low: float
    high: float
    tip: str
    label: str = ""  # written beside the point


@dataclass(frozen=True)
class Line:
    """A polyline named in the legend."""

    name: str
    style: str  # a class of the style sheet
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Bar:
    """A bar from ``left`` to ``right`` on the x axis."""

    left: float
    right: float
    height: float
    tip: str


def interval_bar(value: float, low: float, high: float, top: float = 1.0) -> str:
    """Return a small bar for a table cell: the interval on a track from 0 to ``top``, the value as a dot."""
    x, a, b = (round(100 * v / top, 1) for v in (value, low, high))
    return (
        '<svg class="bar" viewBox="-3 0 106 12" aria-hidden="true"><path class="track" d="M0 6H100"/>'
        f'<path class="ci" d="M{a} 6H{b}"/><circle class="dot" cx="{x}" cy="6" r="3"/></svg>'
    )


def bars(name: str, x: Axis, y: Axis, found: Sequence[Bar], marks: Sequence[tuple[float, str]] = ()) -> str:
    """Return a histogram; ``marks`` are labelled vertical lines."""
    drawn = [
        f'<rect class="mark" x="{_x(x, b.left) + 0.5:.1f}" y="{_y(y, b.height):.1f}" '
        f'width="{max(_x(x, b.right) - _x(x, b.left) - 1, 0.5):.1f}" height="{_y(y, 0) - _y(y, b.height):.1f}" '
        f'rx="1.5" data-tip="{escape(b.tip)}"><title>{escape(b.tip)}</title></rect>'
        for b in found
    ]
    for index, (at, label) in enumerate(marks):
        px, py = _x(x, at), TOP + 10 + 14 * index
        drawn.append(f'<path class="rule" d="M{px:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        kind, side = ("note end", -5) if px > WIDTH * 0.7 else ("note", 5)
        drawn.append(f'<text class="{kind}" x="{px + side:.1f}" y="{py}">{escape(label)}</text>')
    return _chart(name, x, y, drawn)


def points(name: str, x: Axis, y: Axis, found: Sequence[Point], *, is_joined: bool = False) -> str:
    """Return a scatter plot with vertical intervals."""
    drawn = []
    if is_joined:
        ordered = sorted(found, key=lambda p: p.x)
        drawn.append(f'<path class="line quiet" d="{_path(x, y, [(p.x, p.y) for p in ordered])}"/>')
    for p in found:
        px, py = _x(x, p.x), _y(y, p.y)
        drawn.append(
            f'<g data-tip="{escape(p.tip)}"><title>{escape(p.tip)}</title>'
            f'<path class="whisker" d="M{px:.1f} {_y(y, p.low):.1f}V{_y(y, p.high):.1f}"/>'
            f'<circle class="point" cx="{px:.1f}" cy="{py:.1f}" r="4.5"/></g>'
        )
    drawn += _labels(x, y, found)
    return _chart(name, x, y, drawn)


def lines(name: str, x: Axis, y: Axis, found: Sequence[Line], band: Sequence[tuple[float, float, float]] = ()) -> str:
    """Return lines over an optional band of (x, low, high), with a legend."""
    drawn = []
    if band:
        edge = [(at, high) for at, _, high in band] + [(at, low) for at, low, _ in reversed(band)]
        drawn.append(f'<path class="band" d="{_path(x, y, edge)}Z"/>')
    for line in found:
        drawn.append(f'<path class="line {line.style}" d="{_path(x, y, line.points)}"/>')
        for at, value in line.points:
            tip = escape(f"{line.name}: {value:.2f} at {at:.0f} {x.label.partition(', ')[2]}".rstrip())
            drawn.append(f'<circle class="hit" cx="{_x(x, at):.1f}" cy="{_y(y, value):.1f}" r="7" data-tip="{tip}"/>')
    at = LEFT + 8.0
    for line in found:
        drawn.append(f'<path class="line {line.style}" d="M{at:.0f} {TOP + 2}h18"/>')
        drawn.append(f'<text class="note" x="{at + 23:.0f}" y="{TOP + 6}">{escape(line.name)}</text>')
        at += 42 + 6.4 * len(line.name)
    return _chart(name, x, y, drawn)


def _labels(x: Axis, y: Axis, found: Sequence[Point]) -> list[str]:
    """Write each point's label below its interval, or above where the label before it is near."""
    drawn: list[str] = []
    end, is_above = -math.inf, False
    for p in sorted((p for p in found if p.label), key=lambda p: p.x):
        px, half = _x(x, p.x), 3.2 * len(p.label)
        is_above = (px - half < end and not is_above) or _y(y, p.low) + 18 > HEIGHT - BOTTOM
        end = px + half + 4
        py = _y(y, p.high) - 7 if is_above else _y(y, p.low) + 15
        px = min(max(px, LEFT + half), WIDTH - half)
        drawn.append(f'<text class="note middle" x="{px:.1f}" y="{py:.1f}">{escape(p.label)}</text>')
    return drawn


def _x(axis: Axis, value: float) -> float:
    return LEFT + (value - axis.low) / (axis.high - axis.low) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - (value - axis.low) / (axis.high - axis.low) * (HEIGHT - TOP - BOTTOM)


def _path(x: Axis, y: Axis, found: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_x(x, a):.1f} {_y(y, b):.1f}" for a, b in found)


def _chart(name: str, x: Axis, y: Axis, drawn: Sequence[str]) -> str:
    grid = []
    for tick in y.ticks():
        at = _y(y, tick)
        grid.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        grid.append(f'<text class="tick end" x="{LEFT - 8}" y="{at + 4:.1f}">{tick:,g}</text>')
    grid += [
        f'<text class="tick middle" x="{_x(x, tick):.1f}" y="{HEIGHT - BOTTOM + 17}">{tick:,g}</text>'
        for tick in x.ticks(7)
    ]
    middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">'
        + "".join(grid)
        + f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
        + "".join(drawn)
        + f'<text class="label middle" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}">{escape(x.label)}</text>'
        + f'<text class="label middle" transform="translate(12 {middle}) rotate(-90)">{escape(y.label)}</text></svg>'
    )
