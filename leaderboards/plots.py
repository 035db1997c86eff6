"""The plots of compute curves, as matplotlib figures. Nothing is shown, nothing is written here.

Every axis has its unit, every mean its interval, every series a colour and a shape of its own. Runs that are compared
with nothing are hollow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from rdvla_bench.leaderboards.curves import Curves, Point, Profile
from rdvla_bench.leaderboards.plot_labels import Labels
from rdvla_bench.leaderboards.plot_style import (
    INK,
    QUIET,
    Look,
    caption,
    direct_label,
    looks,
    panels,
    scale_x,
    style,
)
from rdvla_bench.leaderboards.profiles import Depth, ExitMap
from rdvla_bench.leaderboards.resampling import Estimate

COST_LABELS = {
    "depth": "mean depth (iterations a query)",
    "gflop": "compute (GFLOP a control step)",
    "model_ms": "model time (ms a query, mean)",
}
CERTAIN = 0.95
BLUES = LinearSegmentedColormap.from_list("paper-blue", ["#ffffff", "#cfe3f1", "#56a3d0", "#0072B2", "#00324f"])
"""One hue, light to dark: reads the same for everybody and in grey."""


def all_plots(curves: Curves) -> dict[str, Figure]:
    """Return name -> figure, of those for which there are data."""
    drawn: dict[str, Callable[[Curves], Figure | None]] = {
        "success-depth": lambda c: success_plot(c, "depth"),
        "success-gflop": lambda c: success_plot(c, "gflop"),
        "success-ms": lambda c: success_plot(c, "model_ms"),
        "matched": matched_plot,
        "depth-progress": lambda c: progress_plot(c, by_query=False),
        "depth-query": lambda c: progress_plot(c, by_query=True),
        "depth-task": task_plot,
        **{_exit_name(curves, suite): partial(exit_plot, suite=suite) for suite in curves.suites},
        "latency": latency_plot,
    }
    with style():
        figures = {name: draw(curves) for name, draw in drawn.items()}
    return {name: figure for name, figure in figures.items() if figure is not None}


def success_plot(curves: Curves, cost: str) -> Figure | None:
    """Draw what was reached against what was spent, with the front of what no other point dominates."""
    known = [point for point in curves.points if point.costs[cost]]
    if not known:
        return None
    seen = looks(curves.series)
    suites = [suite for suite in curves.suites if any(point.suite == suite for point in known)]
    figure, axes = panels(len(suites))
    drawn = []
    for axis, suite in zip(axes, suites, strict=True):
        points = [point for point in curves.of(suite) if point.costs[cost]]
        scale_x(axis, [_cost(point, cost) for point in points], base=2 if cost == "depth" else 10)
        _draw_front(axis, points, cost, is_rate=_is_rate(curves))
        names = dict.fromkeys(point.series for point in points)
        lines = [sorted((p for p in points if p.series == n), key=lambda p: _cost(p, cost)) for n in names]
        for line in lines:
            _draw_series(axis, line, cost, seen[line[0].series], is_rate=_is_rate(curves))
        axis.margins(x=0.10)
        axis.set_xlabel(COST_LABELS[cost])
        _value_axis(axis, curves, points)
        if len(suites) > 1:
            axis.set_title(suite)
        drawn.append(lines)
    caption(figure, _success_caption(curves, known, cost))
    figure.draw_without_rendering()  # the panels get their final places, which the names then fill
    for axis, lines in zip(axes, drawn, strict=True):
        _name_points(axis, lines, cost, seen, is_rate=_is_rate(curves))
    return figure


def _draw_series(axis: Axes, line: Sequence[Point], cost: str, look: Look, *, is_rate: bool) -> None:
    unit = 100.0 if is_rate else 1.0
    x, y = [_cost(p, cost) for p in line], [unit * p.value.value for p in line]
    axis.plot(x, y, color=look.colour, alpha=0.45, zorder=2)
    for point, px, py in zip(line, x, y, strict=True):
        spent = point.costs[cost]
        across = _reach(spent, 1.0) if spent else None
        axis.errorbar(
            px, py, xerr=across, yerr=_reach(point.value, unit),
            fmt=look.marker, color=look.colour, elinewidth=1.1, capsize=0, zorder=3,
            markerfacecolor="white" if point.standing else look.colour, markeredgecolor=look.colour,
        )  # fmt: skip


def _name_points(
    axis: Axes, lines: Sequence[Sequence[Point]], cost: str, seen: Mapping[str, Look], *, is_rate: bool
) -> None:
    """Name every point, and every series once, beside one of its points."""
    unit = 100.0 if is_rate else 1.0
    labels = Labels(axis)
    for line in lines:
        for p in line:
            labels.keep_clear(_cost(p, cost), *(unit * v for v in (p.value.low, p.value.value, p.value.high)))
        labels.keep_line_clear([_cost(p, cost) for p in line], [unit * p.value.value for p in line])
    for line in lines:
        for p in line:
            if p.label != p.series:
                labels.write([(_cost(p, cost), unit * p.value.value)], _short(p.label), seen[p.series].colour)
    for line in lines:
        places = [(_cost(p, cost), unit * p.value.value) for p in line]
        labels.write(places, line[0].series, seen[line[0].series].colour, size=8.5, weight="bold")


def _draw_front(axis: Axes, points: Sequence[Point], cost: str, *, is_rate: bool) -> None:
    """Draw the front as the staircase of the best value that each cost can buy, and how sure each corner is."""
    on = sorted((p for p in points if p.front.get(cost, (False, 0.0))[0]), key=lambda p: _cost(p, cost))
    if len(on) < 2:
        return
    unit = 100.0 if is_rate else 1.0
    x, y = [_cost(p, cost) for p in on], [unit * p.value.value for p in on]
    axis.step([*x, max(_cost(p, cost) for p in points)], [*y, y[-1]], where="post", color="#9a9a9a", lw=0.9, zorder=1)
    for point, px, py in zip(on, x, y, strict=True):
        if point.front[cost][1] < CERTAIN:
            axis.plot(px, py, "o", ms=12, mfc="none", mec="#9a9a9a", mew=0.8, ls="none", zorder=1)


def matched_plot(curves: Curves) -> Figure | None:
    """Draw adaptive minus fixed depth at equal compute, with intervals."""
    found = [match for match in curves.matches if match.difference]
    if not found:
        return None
    suites = [suite for suite in curves.suites if any(match.suite == suite for match in found)]
    rows = max(sum(match.suite == suite for match in found) for suite in suites)
    figure, axes = panels(len(suites), size=(5.4, 1.3 + 0.3 * rows), columns=2, sharey=False)
    unit = 100.0 if _is_rate(curves) else 1.0
    colours = {"depth": "#0072B2", "gflop": "#D55E00"}
    for axis, suite in zip(axes, suites, strict=True):
        shown = [match for match in found if match.suite == suite]
        shown.sort(key=lambda m: (m.cost != "depth", m.difference.at if m.difference else 0.0))
        labels = []
        for row, match in enumerate(shown):
            if match.difference is None:
                continue
            d = match.difference
            colour, marker = colours[match.cost], "o" if match.cost == "depth" else "s"
            low, high = unit * d.difference.low, unit * d.difference.high
            axis.plot([low, high], [row, row], color=colour, lw=2.2, alpha=0.5, solid_capstyle="butt")
            axis.plot(unit * d.difference.value, row, marker, color=colour)
            what = f"depth {d.at:.1f}" if match.cost == "depth" else f"{d.at:.1f} GFLOP/step"
            labels.append(f"{_short(match.label)}   {what}")
        axis.axvline(0, color=INK, lw=0.9)
        axis.set_yticks(range(len(labels)), labels, fontsize=7.5)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_xlabel(
            "adaptive minus fixed (percentage points)" if unit == 100 else "adaptive minus fixed (instructions)"
        )
        if len(suites) > 1:
            axis.set_title(suite)
    is_paired = all(match.difference and match.difference.is_paired for match in found)
    caption(
        figure,
        "Right of 0, adaptive does better than fixed depth at equal mean depth (circles) or at equal FLOPs (squares), "
        "interpolated between the two enclosing depths. Bars: 95 % bootstrap over episodes, "
        f"{'paired: the same episodes' if is_paired else 'not all paired'}. {source_of(curves)}",
    )
    return figure


def progress_plot(curves: Curves, *, by_query: bool) -> Figure | None:
    """Draw depth over the episode, for runs whose depth varies."""
    found = [p for p in _adaptive(curves) if (p.by_query if by_query else p.by_fraction)]
    if not found:
        return None
    suites = list(dict.fromkeys(profile.suite for profile in found))
    figure, axes = panels(len(suites))
    for axis, suite in zip(axes, suites, strict=True):
        shown = [profile for profile in found if profile.suite == suite]
        for profile, look in zip(shown, looks([p.run for p in shown]).values(), strict=True):
            bins = profile.by_query if by_query else profile.by_fraction
            _draw_band(axis, bins, look, 1.0 if by_query else 100.0)
            last = bins[-1]
            x = last.at * (1 if by_query else 100)
            direct_label(axis, x, last.mean, _name(profile), look.colour, offset=(6, 0))
        axis.set_ylim(bottom=0)
        axis.set_xlabel("query of the episode (0 is the first)" if by_query else "progress (% of the episode's steps)")
        if by_query:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            axis.set_xlim(0, 100)
        axis.set_ylabel("mean depth (iterations a query)")
        if len(suites) > 1:
            axis.set_title(suite)
    late = " Late queries exist in long episodes only: the hard ones and the failed ones." if by_query else ""
    caption(figure, f"Bands: 95 % bootstrap over episodes.{late} {source_of(curves)}")
    return figure


def _draw_band(axis: Axes, bins: Sequence[Depth], look: Look, unit: float) -> None:
    x = [unit * b.at for b in bins]
    axis.fill_between(x, [b.low for b in bins], [b.high for b in bins], color=look.colour, alpha=0.2, lw=0)
    axis.plot(x, [b.mean for b in bins], color=look.colour, marker=look.marker, ms=3.5, lw=1.4)


def task_plot(curves: Curves) -> Figure | None:
    """Draw depth by task, the shallowest first."""
    found = [profile for profile in _adaptive(curves) if len(profile.by_task) > 1]
    if not found:
        return None
    suites = list(dict.fromkeys(profile.suite for profile in found))
    rows = max(len(profile.by_task) for profile in found)
    figure, axes = panels(len(suites), size=(5.6, 1.2 + 0.24 * rows), columns=2, sharey=False)
    for axis, suite in zip(axes, suites, strict=True):
        shown = [profile for profile in found if profile.suite == suite]
        middle = shown[len(shown) // 2]
        order = [depth.name or f"task {depth.at:.0f}" for depth in sorted(middle.by_task, key=lambda d: d.mean)]
        for profile, look in zip(shown, looks([p.run for p in shown]).values(), strict=True):
            tasks = [d for d in profile.by_task if (d.name or f"task {d.at:.0f}") in order]
            places = [order.index(d.name or f"task {d.at:.0f}") for d in tasks]
            means = np.array([d.mean for d in tasks])
            across = np.array([[d.mean - d.low for d in tasks], [d.high - d.mean for d in tasks]]).clip(min=0)
            axis.errorbar(means, places, xerr=across, fmt=look.marker, color=look.colour, ms=4.5, elinewidth=1.1)
            top = max(range(len(tasks)), key=places.__getitem__)
            direct_label(axis, means[top], places[top], _name(profile), look.colour, offset=(0, 11))
        axis.set_yticks(range(len(order)), [_shortened(name) for name in order], fontsize=7.5)
        axis.set_ylim(-0.6, len(order) - 0.1)
        axis.set_xlim(left=0)
        axis.set_xlabel("mean depth (iterations a query)")
        if len(suites) > 1:
            axis.set_title(suite)
    caption(figure, f"Bars: 95 % bootstrap over episodes. {source_of(curves)}")
    return figure


def _exit_name(curves: Curves, suite: str) -> str:
    return "exit-traces" if len(curves.suites) == 1 else f"exit-traces-{suite.replace(' ', '-')}"


def exit_plot(curves: Curves, suite: str) -> Figure | None:
    """Draw how the exit criterion falls on one suite, one panel a run."""
    found = [profile for profile in _adaptive(curves) if profile.exits and profile.suite == suite]
    if not found:
        return None
    figure, axes = panels(len(found), size=(4.3, 3.3))
    for axis, profile in zip(axes, found, strict=True):
        if profile.exits:
            mesh = _draw_exits(axis, profile.exits, profile.threshold)
        axis.set_title(_name(profile) if len(curves.suites) == 1 else f"{_name(profile)}, {suite}", pad=15)
        axis.set_xlabel("iteration of the recurrent core")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylabel("exit criterion (change of the chunk)")
    bar = figure.colorbar(mesh, ax=axes, shrink=0.75, pad=0.01, aspect=30)
    bar.set_label("share of the queries still running (%)", fontsize=8)
    bar.ax.yaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50]))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.outline.set_visible(False)
    caption(
        figure,
        "Each column adds up to 100 % of the queries that came as far. Black line: median. Dashed: the threshold. "
        f"Numbers on top: % of all queries still running. {source_of(curves)}",
    )
    return figure


def _draw_exits(axis: Axes, exits: ExitMap, threshold: float | None) -> Any:
    left = np.array([*exits.iterations, exits.iterations[-1] + 1]) - 0.5
    shares = 100 * np.array(exits.shares)
    shown = np.array(exits.running) >= 0.002  # a column of a handful of queries is noise
    mesh = axis.pcolormesh(
        left, exits.edges, np.where(shown & (shares > 0), shares, np.nan), cmap=BLUES, norm=LogNorm(0.5, 60), lw=0,
        rasterized=True,
    )  # fmt: skip
    axis.set_yscale("log")
    axis.grid(visible=False)
    x = np.array(exits.iterations)[shown]
    axis.plot(x, np.array(exits.medians)[shown], color=INK, lw=1.1)
    if threshold is not None:
        axis.axhline(threshold, color="#D55E00", lw=1.1, ls=(0, (4, 3)))
    for iteration, running, is_shown in zip(exits.iterations, exits.running, shown, strict=True):
        if is_shown and (len(x) <= 12 or iteration % 2 == 0):
            axis.annotate(
                f"{100 * running:.0f}" if running >= 0.01 else "<1", (iteration, 1.0), (0, 2),
                xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", fontsize=6.5, color=QUIET,
            )  # fmt: skip
    axis.set_xlim(left[0], x[-1] + 0.5)
    return mesh


def latency_plot(curves: Curves) -> Figure | None:
    """Draw the median, 95th and 99th percentile of the model's time a query."""
    suite = curves.suites[-1]  # all suites together, where there are several
    found = [point for point in curves.of(suite) if point.latency_ms]
    if not found:
        return None
    found.sort(key=lambda p: (curves.series.index(p.series), p.latency_ms or (0.0,)))
    seen = looks(curves.series)
    figure, (axis,) = panels(1, size=(5.8, 1.1 + 0.27 * len(found)))
    for row, point in enumerate(found):
        p50, p95, p99 = point.latency_ms or (0.0, 0.0, 0.0)
        look = seen[point.series]
        axis.plot([p50, p99], [row, row], color=look.colour, lw=2.2, alpha=0.3, solid_capstyle="butt")
        axis.plot(p50, row, "o", color=look.colour)
        axis.plot(p95, row, "|", color=look.colour, ms=9, mew=1.6)
        axis.plot(p99, row, "|", color=look.colour, ms=9, mew=1.6, alpha=0.6)
        axis.annotate(f"{p99:.0f}", (p99, row), (6, 0), textcoords="offset points", va="center", fontsize=7)
    widest = max(range(len(found)), key=lambda row: (found[row].latency_ms or (0.0,))[-1])
    for x, text in zip(found[widest].latency_ms or (), ("p50", "p95", "p99"), strict=False):
        axis.annotate(
            text, (x, widest), (0, 7), textcoords="offset points", ha="center", va="bottom", fontsize=7, color=QUIET
        )
    labels = [p.label if p.label == p.series else f"{p.series}, {p.label.replace('delta ', 'δ ')}" for p in found]
    axis.set_yticks(range(len(found)), labels, fontsize=7.5)
    axis.set_ylim(len(found) - 0.4, -0.9)
    axis.set_xlim(left=0)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("model time (ms a query)")
    caption(figure, f"Times belong to one execution on one machine. {source_of(curves)}")
    return figure


def _adaptive(curves: Curves) -> list[Profile]:
    return [profile for profile in curves.profiles if profile.kind == "adaptive"]


def _value_axis(axis: Axes, curves: Curves, points: Sequence[Point]) -> None:
    if _is_rate(curves):
        axis.set_ylabel("success rate (%)")
        low = 100 * min(point.value.low for point in points)
        bottom = max(0.0, 10 * (low // 10) - 5) if low > 30 else 0.0
        axis.set_ylim(bottom, 100 + 0.09 * (100 - bottom))  # room for the names of saturated points
        axis.set_yticks([tick for tick in range(0, 101, 20 if bottom < 40 else 10) if tick >= bottom])
    else:
        axis.set_ylabel("average chain length (of 5 instructions)")
        axis.set_ylim(0, min(5.5, 1.12 * max(point.value.high for point in points)))
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))


def _success_caption(curves: Curves, points: Sequence[Point], cost: str) -> str:
    sizes = sorted({point.n for point in points})
    n = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    kind = "Wilson" if _is_rate(curves) else "bootstrap"
    text = f"{n} episodes a point. Vertical bars: 95 % {kind}; horizontal: 95 % bootstrap over episodes. "
    text += f"Grey steps: Pareto front; a ring marks a corner that {100 * CERTAIN:.0f} % of resamples do not confirm. "
    if any(point.standing for point in points):
        text += "Hollow: incomplete, with errors, or privileged; compared with nothing. "
    return text + source_of(curves)


def source_of(curves: Curves) -> str:
    """Return the end of a caption: the protocol card, and what no reader may overlook."""
    return f"{curves.protocol} ({curves.protocol_hash})." + "".join(f" {n}." for n in curves.notes if "untrained" in n)


def _reach(found: Estimate, unit: float) -> list[list[float]]:
    """Return how far an interval goes below and above; rounding must not make it negative."""
    return [[max(unit * (found.value - found.low), 0.0)], [max(unit * (found.high - found.value), 0.0)]]


def _is_rate(curves: Curves) -> bool:
    return curves.measure == "success rate"


def _cost(point: Point, cost: str) -> float:
    found = point.costs[cost]
    return found.value if found else float("nan")


def _short(label: str) -> str:
    return label.removeprefix("depth ").replace("delta ", "δ ")


def _name(profile: Profile) -> str:
    return _short(profile.label)


def _shortened(name: str, width: int = 44) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}…"
