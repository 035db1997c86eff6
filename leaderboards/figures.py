"""What the page of a board draws: which numbers go on which axes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.leaderboards import svg
from rdvla_bench.leaderboards.board import Board, Score
from rdvla_bench.leaderboards.ranking import Entry, Group
from rdvla_bench.leaderboards.tables import settings_text
from rdvla_bench.types import Outcome

N_BINS = 20
LONG_TAIL = 3.0
"""Times the median from where on the slowest queries would squeeze all others into one bar."""
MIN_FOR_PERCENTILES = 20
"""Queries in a bin below which the 10th and 90th percentile say nothing."""


@dataclass(frozen=True)
class Figure:
    """A chart, its title and how to read it."""

    title: str
    chart: str  # SVG
    caption: str


def run_figures(board: Board) -> list[Figure]:
    """Return the figures of one run, those that its numbers allow."""
    drawn = [*_chains(board), _depths(board), _progress(board), _tasks(board), _steps(board), _model_times(board)]
    return [figure for figure in drawn if figure]


def group_figure(group: Group) -> Figure | None:
    """Return success against mean depth, where at least two runs have a depth and it differs."""
    entries = [e for e in group.entries if e.score.depth is not None and e.value is not None]
    if len({e.score.depth for e in entries}) < 2:
        return None
    x = svg.Axis("mean depth, iterations a query", 0, _above([e.score.depth or 0 for e in entries]))
    chained = entries[0].score.chain
    y = svg.Axis(
        "average chain length, subtasks" if chained else "success rate, %", 0, len(chained.in_a_row) if chained else 100
    )
    labelled = len(entries) <= 12
    found = [_run_point(entry, labelled=labelled) for entry in entries]
    chart = svg.points(f"{group.title}: {y.label} against {x.label}", x, y, found, is_joined=_is_one_policy(entries))
    return Figure("What the iterations buy", chart, "A point a run, with its 95 % interval.")


def _is_one_policy(entries: Sequence[Entry]) -> bool:
    return len({e.board.manifest["config"]["policy"] for e in entries}) == 1


def _run_point(entry: Entry, *, labelled: bool) -> svg.Point:
    score, chain = entry.score, entry.score.chain
    name = settings_text(entry.board) or entry.board.manifest["config"]["policy"]
    depth = score.depth or 0.0
    if chain:
        tip = f"{entry.run}: length {chain.length:.3f} [{chain.low:.3f}, {chain.high:.3f}] at depth {depth:.1f}"
        return svg.Point(depth, chain.length, chain.low, chain.high, tip, name if labelled else "")
    tip = f"{entry.run}: {_percents(score)} at depth {depth:.1f}"
    return svg.Point(depth, *_interval(score), tip, name if labelled else "")


def _scored_depths(board: Board, outcome: Outcome | None = None) -> list[list[int]]:
    """Return one list of depths an episode; none where the policy has no recurrent core."""
    results = board.results[board.results["outcome"] != Outcome.ERROR.value]
    if outcome:
        results = results[results["outcome"] == outcome.value]
    return [list(depths) for depths in results["depths"] if len(depths) and any(depths)]


def _depths(board: Board) -> Figure | None:
    counts = Counter(depth for episode in _scored_depths(board) for depth in episode)
    if not counts:
        return None
    total = sum(counts.values())
    x = svg.Axis("depth, iterations a query", min(counts) - 0.5, max(max(counts), min(counts) + 4) + 0.5)
    y = svg.Axis("share of queries, %", 0, _above([100 * n / total for n in counts.values()]))
    found = [
        svg.Bar(d - 0.4, d + 0.4, 100 * n / total, f"depth {d}: {n:,} of {total:,} queries, {100 * n / total:.1f} %")
        for d, n in sorted(counts.items())
    ]
    mean = sum(d * n for d, n in counts.items()) / total
    chart = svg.bars("share of queries by depth", x, y, found, [(mean, f"mean {mean:.2f}")])
    return Figure("How deep it thinks", chart, f"Iterations of the recurrent core over {total:,} queries.")


def _progress(board: Board) -> Figure | None:
    everything = _binned(_scored_depths(board))
    if not any(len(values) for values in everything):
        return None
    named = ((Outcome.SUCCESS, "successes", "good"), (Outcome.TIMEOUT, "timeouts", "bad"))
    drawn = [svg.Line("all", "plain", _means(everything))]
    drawn += [svg.Line(name, style, _means(_binned(_scored_depths(board, o)))) for o, name, style in named]
    band = [
        (_center(i), float(np.percentile(values, 10)), float(np.percentile(values, 90)))
        for i, values in enumerate(everything)
        if len(values) >= MIN_FOR_PERCENTILES
    ]
    heights = [y for line in drawn for _, y in line.points] + [high for _, _, high in band]
    x, y = svg.Axis("progress of the episode, %", 0, 100), svg.Axis("depth, iterations a query", 0, _above(heights))
    chart = svg.lines("mean depth over the progress of the episode", x, y, [d for d in drawn if d.points], band)
    return Figure("When it thinks", chart, "Mean depth by place in the episode; the band holds 80 % of all queries.")


def _binned(episodes: Sequence[Sequence[int]]) -> list[NDArray[np.float64]]:
    """Return the depths by place in their episode."""
    if not episodes:
        return [np.empty(0) for _ in range(N_BINS)]
    places = np.concatenate([(np.arange(len(e)) + 0.5) / len(e) for e in episodes])
    depths = np.concatenate([np.asarray(e, float) for e in episodes])
    index = np.minimum((places * N_BINS).astype(int), N_BINS - 1)
    return [depths[index == i] for i in range(N_BINS)]


def _center(index: int) -> float:
    return 100 * (index + 0.5) / N_BINS


def _means(binned: Sequence[NDArray[np.float64]]) -> tuple[tuple[float, float], ...]:
    return tuple((_center(i), float(values.mean())) for i, values in enumerate(binned) if len(values))


def _tasks(board: Board) -> Figure | None:
    scores = [s for s in board.task_scores if s.depth is not None and s.rate is not None]
    if len(scores) < 3:
        return None
    depths = [s.depth or 0.0 for s in scores]
    margin = max(0.1, 0.08 * (max(depths) - min(depths)))
    x = svg.Axis("mean depth, iterations a query", min(depths) - margin, max(depths) + margin)
    found = [
        svg.Point(
            s.depth or 0.0,
            *_interval(s),
            f"{s.suite} {s.task}, {s.name}: {_percents(s)} at depth {s.depth or 0:.2f}",
        )
        for s in scores
    ]
    chart = svg.points(
        "success rate of each task against its mean depth", x, svg.Axis("success rate, %", 0, 100), found
    )
    return Figure("Where it thinks", chart, "A point a task, with Wilson's 95 % interval.")


def _interval(score: Score) -> tuple[float, float, float]:
    """Return rate, low and high in percent."""
    rate, low, high = (100 * (value or 0.0) for value in (score.rate, score.low, score.high))
    return rate, low, high


def _percents(score: Score) -> str:
    rate, low, high = _interval(score)
    return f"{score.successes}/{score.scored} = {rate:.1f} % [{low:.1f}, {high:.1f}]"


def _steps(board: Board) -> Figure | None:
    results = board.results[board.results["outcome"] == Outcome.SUCCESS.value]
    if results["solved"].notna().any() or len(results) < 2:
        return None
    return _histogram(
        "How long successes take",
        results["steps"].to_numpy(float),
        "control steps to success",
        "successes",
        f"{len(results):,} successes.",
    )


def _model_times(board: Board) -> Figure | None:
    executions = board.executions[board.executions["outcome"] != Outcome.ERROR.value]
    times = [1e3 * seconds for row in executions["model_s"] for seconds in row]
    if len(times) < 2 or max(times) <= 0:
        return None
    values = np.asarray(times)
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    shown, rest = (p99, 1) if p99 < LONG_TAIL * p50 else (p95, 5)
    return _histogram(
        "What a query costs",
        values[values <= shown],
        "model time, ms a query",
        "queries",
        f"{len(values):,} queries of this execution; the slowest {rest} % (above {shown:.3g} ms) lie outside.",
        [(float(p50), f"p50 {p50:.3g} ms"), (float(p95), f"p95 {p95:.3g} ms")],
    )


def _histogram(
    title: str,
    values: NDArray[np.float64],
    x_label: str,
    what: str,
    caption: str,
    marks: Sequence[tuple[float, str]] = (),
) -> Figure:
    low, high = float(values.min()), float(values.max())
    if high <= low:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(values, N_BINS, (low, high))
    found = [
        svg.Bar(float(a), float(b), float(n), f"{a:.4g} to {b:.4g}: {n:,} {what}")
        for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
        if n
    ]
    chart = svg.bars(title, svg.Axis(x_label, low, high), svg.Axis(what, 0, _above(counts.tolist())), found, marks)
    return Figure(title, chart, caption)


def _chains(board: Board) -> list[Figure]:
    drawn = []
    for score in board.suite_scores:
        if score.chain is None:
            continue
        rates = score.chain.in_a_row
        x, y = svg.Axis("subtasks in a row", 0.4, len(rates) + 0.6), svg.Axis("share of chains, %", 0, 100)
        found = [
            svg.Bar(
                k - 0.35,
                k + 0.35,
                100 * rate,
                f"{k} or more: {100 * rate:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of {score.scored} chains",
            )
            for k, (rate, (low, high)) in enumerate(zip(rates, score.chain.in_a_row_intervals, strict=True), start=1)
        ]
        chart = svg.bars(f"{score.suite}: share of chains with so many subtasks in a row", x, y, found)
        drawn.append(Figure(f"How far chains come: {score.suite}", chart, f"{score.scored:,} chains."))
    return drawn


def _above(values: Sequence[float]) -> float:
    """Return a round number above all of ``values``."""
    most = max(values, default=0.0) * 1.15
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(m * power for m in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if m * power >= most)
