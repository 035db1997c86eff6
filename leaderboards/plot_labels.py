"""Names of points beside the points: each where it covers no other name, no marker and no interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from matplotlib.axes import Axes

Box = tuple[float, float, float, float]  # left, bottom, right, top in points

DIRECTIONS = ((-1, 1), (1, -1), (1, 1), (-1, -1), (0, 1), (0, -1), (-1, 0), (1, 0))
DISTANCES = (6.0, 11.0, 18.0, 27.0, 38.0)  # points
LEADER_FROM = 15.0
"""From this distance on, a thin line leads from the name to its point."""
GLYPH = 0.58
"""Width of a character in DejaVu Sans by the font size, on average and generously."""


@dataclass
class Labels:
    """What is already taken in one panel, whose limits are final."""

    axis: Axes
    taken: list[Box] = field(default_factory=list)

    def keep_clear(self, x: float, low: float, y: float, high: float) -> None:
        """Take the place of a marker and its vertical interval."""
        (px, bottom), (_, middle), (_, top) = (self._points(x, v) for v in (low, y, high))
        self.taken += [(px - 4, middle - 4, px + 4, middle + 4), (px - 1, bottom, px + 1, top)]

    def keep_line_clear(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Take the places along a line."""
        places = [self._points(x, y) for x, y in zip(xs, ys, strict=True)]
        for (x0, y0), (x1, y1) in pairwise(places):
            steps = max(int(max(abs(x1 - x0), abs(y1 - y0)) / 4), 1)
            for k in range(steps + 1):
                x, y = x0 + (x1 - x0) * k / steps, y0 + (y1 - y0) * k / steps
                self.taken.append((x - 1, y - 1, x + 1, y + 1))

    def write(
        self,
        places: Sequence[tuple[float, float]],
        text: str,
        colour: str,
        *,
        size: float = 7.5,
        weight: str = "normal",
    ) -> None:
        """Write ``text`` once, at the nearest free place beside one of ``places``; else at the least crowded."""
        width, height = GLYPH * size * len(text) * (1.08 if weight == "bold" else 1.0), 1.1 * size
        options = [
            (distance, across, up, x, y) for distance in DISTANCES for across, up in DIRECTIONS for x, y in places
        ]
        best = min(options, key=lambda option: self._cost(option, width, height))
        x, y = best[3:]
        at = self._points(x, y)
        box = _box(at, best[:3], width, height)
        self.taken.append(box)
        leader = {"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkA": 0, "shrinkB": 4}
        self.axis.annotate(
            text, (x, y), ((box[0] + box[2]) / 2 - at[0], (box[1] + box[3]) / 2 - at[1]),
            textcoords="offset points", ha="center", va="center", color=colour, fontsize=size, fontweight=weight,
            arrowprops=leader if best[0] >= LEADER_FROM else None, annotation_clip=False, zorder=4,
        )  # fmt: skip

    def _cost(self, option: tuple[float, int, int, float, float], width: float, height: float) -> tuple[float, float]:
        """Return how crowded a place is, then how far from its point."""
        return self._crowd(_box(self._points(*option[3:]), option[:3], width, height)), option[0]

    def _points(self, x: float, y: float) -> tuple[float, float]:
        scale = 72 / self.axis.figure.dpi
        px, py = self.axis.transData.transform((x, y))
        return float(px) * scale, float(py) * scale

    def _crowd(self, box: Box) -> float:
        """Return the area of ``box`` that is taken or outside the panel."""
        scale = 72 / self.axis.figure.dpi
        left, bottom, right, top = (float(v) * scale for v in self.axis.get_window_extent().extents)
        inside = _overlap(box, (left, bottom, right + 24, top + 8))
        area = (box[2] - box[0]) * (box[3] - box[1])
        return round(2 * (area - inside) + sum(_overlap(box, other) for other in self.taken), 1)


def _box(at: tuple[float, float], option: tuple[float, int, int], width: float, height: float) -> Box:
    distance, across, up = option
    x = at[0] + across * (distance * (0.7 if up else 1.0) + width / 2)
    y = at[1] + up * (distance * (0.7 if across else 1.0) + height / 2)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0
