"""Where a run thinks: depth over the episode, by task or subtask, and how the exit criterion falls.

Errors are left out. Intervals redraw episodes, not queries: the queries of an episode are alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import pandas as pd

from rdvla_bench.leaderboards.resampling import Resampling, episode_keys, percentiles
from rdvla_bench.types import Outcome

N_FRACTIONS = 10
MIN_EPISODES = 5
"""Below, a mean over episodes is not shown."""
N_LEVELS = 24
"""Rows of the exit heat-map."""


@dataclass(frozen=True)
class Depth:
    """The mean depth of some of a run's queries."""

    name: str  # of a task or subtask; "" of a part of the episode
    at: float  # middle of the fraction, index of the query, or of the task
    mean: float
    low: float  # bootstrap 95 % over episodes
    high: float
    n_queries: int
    n_episodes: int


@dataclass(frozen=True)
class ExitMap:
    """The exit criterion after each iteration, over all queries that came as far."""

    iterations: tuple[int, ...]
    edges: tuple[float, ...]  # of the levels, ascending; logarithmic steps
    shares: tuple[tuple[float, ...], ...]  # level -> iteration -> share of the queries that came as far
    running: tuple[float, ...]  # share of all queries that came as far
    medians: tuple[float, ...]


@dataclass(frozen=True)
class _Query:
    episode: int  # row
    index: int
    fraction: float  # of the episode's control steps that lie before it
    place: tuple[int, str]  # task and its name, or subtask
    depth: int


def depth_by_fraction(results: pd.DataFrame, resampling: Resampling) -> list[Depth]:
    """Return the mean depth in tenths of the episode, by its control steps."""
    queries = list(_queries(results))
    groups = [min(int(q.fraction * N_FRACTIONS), N_FRACTIONS - 1) for q in queries]
    middles = {group: (group + 0.5) / N_FRACTIONS for group in range(N_FRACTIONS)}
    return _depths(results, queries, [(group, "") for group in groups], middles, resampling)


def depth_by_query(results: pd.DataFrame, resampling: Resampling) -> list[Depth]:
    """Return the mean depth of the first query, the second, ... over the episodes that have one.

    Non-obvious: late queries exist only in long episodes, which are the hard ones and the failed ones.
    """
    queries = list(_queries(results))
    return _depths(results, queries, [(q.index, "") for q in queries], {q.index: q.index for q in queries}, resampling)


def depth_by_task(results: pd.DataFrame, names: dict[int, str], resampling: Resampling) -> list[Depth]:
    """Return the mean depth of each task, or of each subtask where episodes are chains."""
    queries = list(_queries(results, names))
    order = {place: i for i, place in enumerate(sorted({q.place for q in queries}))}
    numbered = [(order[q.place], q.place[1]) for q in queries]
    return _depths(results, queries, numbered, {i: place[0] for place, i in order.items()}, resampling)


def exit_map(results: pd.DataFrame) -> ExitMap | None:
    """Return the map of one run, None for a run whose policy reads no criterion."""
    found: dict[int, list[float]] = {}
    n_queries = 0
    for depths, traces in _scored(results)[["depths", "exit_traces"]].itertuples(index=False):
        for depth, trace in zip(depths, traces, strict=True):
            n_queries += 1
            for iteration, value in enumerate(trace, start=depth - len(trace) + 1):
                found.setdefault(iteration, []).append(value)
    positive = [value for values in found.values() for value in values if value > 0]
    if not positive:
        return None
    low, high = np.log10(min(positive)), np.log10(max(positive))
    edges = np.logspace(low - 1e-6, high + 1e-6, N_LEVELS + 1)
    iterations = sorted(found)
    columns = [np.histogram(np.clip(found[i], edges[0], None), edges)[0] / len(found[i]) for i in iterations]
    return ExitMap(
        tuple(iterations),
        tuple(map(float, edges)),
        tuple(tuple(map(float, row)) for row in np.array(columns).T),
        tuple(len(found[i]) / n_queries for i in iterations),
        tuple(float(np.median(found[i])) for i in iterations),
    )


def _scored(results: pd.DataFrame) -> pd.DataFrame:
    return results[results["outcome"] != Outcome.ERROR.value]


def _queries(results: pd.DataFrame, names: dict[int, str] | None = None) -> Iterable[_Query]:
    columns = ["task", "steps", "depths", "horizons", "subtasks", "subtask_steps"]
    for row, (task, steps, depths, horizons, subtasks, spent) in enumerate(
        _scored(results)[columns].itertuples(index=False)
    ):
        ends = list(accumulate(spent))
        before = 0
        for index, (depth, horizon) in enumerate(zip(depths, horizons, strict=True)):
            place = (int(task), (names or {}).get(int(task), ""))
            if len(subtasks):
                place = (0, subtasks[min(sum(end <= before for end in ends), len(subtasks) - 1)])
            yield _Query(row, index, before / max(steps, 1), place, depth)
            before += horizon


def _depths(
    results: pd.DataFrame,
    queries: list[_Query],
    groups: list[tuple[int, str]],
    at: dict[int, float],
    resampling: Resampling,
) -> list[Depth]:
    """Return one mean a group that ``MIN_EPISODES`` episodes have a query in."""
    keys = episode_keys(_scored(results))
    found = {group: i for i, group in enumerate(sorted(set(groups)))}
    sums, sizes = np.zeros((len(keys), len(found))), np.zeros((len(keys), len(found)))
    for query, group in zip(queries, groups, strict=True):
        sums[query.episode, found[group]] += query.depth
        sizes[query.episode, found[group]] += 1
    drawn = resampling.ratios(keys, sums, sizes)
    depths = []
    for group, i in found.items():
        n_queries, n_episodes = int(sizes[:, i].sum()), int((sizes[:, i] > 0).sum())
        if n_episodes < MIN_EPISODES:
            continue
        mean = float(sums[:, i].sum() / n_queries)
        depths.append(Depth(group[1], float(at[group[0]]), mean, *percentiles(drawn[:, i]), n_queries, n_episodes))
    return depths
