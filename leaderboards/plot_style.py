"""How plots look: colours that the colour-blind tell apart, shapes that survive a grey printer, labels on the lines."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""M. Okabe and K. Ito, Color Universal Design (2008), the darker ones first; yellow is unreadable on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, QUIET, GRID = "#1a1a1a", "#5f5f5f", "#e4e4e4"
PANEL = (5.2, 3.9)  # inches, of one panel
LOG_FROM = 6.0
"""An axis whose ends differ by more than this factor is logarithmic."""

RC: Any = {  # matplotlib's stubs name each key
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture everywhere
    "font.size": 9,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "rdvla-bench",  # the same data give the same file
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}


@dataclass(frozen=True)
class Look:
    """What tells one series from the others, by colour and by shape."""

    colour: str
    marker: str


def looks(series: Sequence[str]) -> dict[str, Look]:
    """Return one look a series; with more series than colours they repeat, with other shapes."""
    return {
        name: Look(COLOURS[i % len(COLOURS)], MARKERS[(i + i // len(COLOURS)) % len(MARKERS)])
        for i, name in enumerate(series)
    }


@contextmanager
def style() -> Iterator[None]:
    """Draw without a screen and leave the caller's settings as they were."""
    with mpl.rc_context(RC):
        yield


def panels(
    n: int, *, size: tuple[float, float] = PANEL, columns: int = 3, sharey: bool = True
) -> tuple[Figure, list[Axes]]:
    """Return a figure with ``n`` panels, and its axes in reading order."""
    columns = min(n, columns if n != 4 else 2)
    rows = -(-n // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows))
    grid = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    axes: list[Axes] = [axis for row in grid for axis in row]
    for axis in axes[n:]:
        axis.remove()
    return figure, axes[:n]


def scale_x(axis: Axes, values: Sequence[float], *, base: float = 10.0) -> None:
    """Make the x axis logarithmic where the values ask for it, with plain numbers at its ticks."""
    low, high = min(values), max(values)
    if low <= 0 or high / low < LOG_FROM:
        return
    axis.set_xscale("log", base=base)
    axis.xaxis.set_major_locator(LogLocator(base=base, subs=(1.0,) if base < 10 else (1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())


def caption(figure: Figure, text: str) -> None:
    """Write what the reader needs to know below the panels."""
    width = int(figure.get_size_inches()[0] * 17.5)
    figure.supxlabel(
        "\n".join(line for part in text.split("\n") for line in textwrap.wrap(part, width)),
        x=0.012, ha="left", fontsize=7, color=QUIET, linespacing=1.35,
    )  # fmt: skip


def direct_label(axis: Axes, x: float, y: float, text: str, colour: str, *, offset: tuple[float, float]) -> None:
    """Write the name of a series at its own end, instead of a legend."""
    horizontal = "left" if offset[0] > 0 else "right" if offset[0] < 0 else "center"
    axis.annotate(
        text, (x, y), offset, textcoords="offset points", ha=horizontal, va="center", color=colour,
        fontsize=8.5, fontweight="bold", annotation_clip=False,
    )  # fmt: skip


def save_options(kind: str) -> dict[str, Any]:
    """Return what keeps the date out of a file: the same data give the same bytes."""
    dateless = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    return {"metadata": dateless[kind]}
