"""Compute curves: what each run reached, what it spent, and what the difference in spending bought.

Non-obvious:
- Runs share curves only under one protocol card, on the same tasks. Anything else is refused.
- A run with errors, with missing episodes or with a privileged policy is shown, but stands on no front and is compared
  with nothing.
- Cost is mean depth a query, GFLOP a control step and model milliseconds a query. Milliseconds belong to one machine.
- An adaptive policy is compared with fixed depths of the same weights only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from rdvla_bench.leaderboards.chains import length_interval
from rdvla_bench.leaderboards.curve_runs import Entry, Kind, check, kind_of, names_of
from rdvla_bench.leaderboards.pareto import Difference, beside, front_shares, matched
from rdvla_bench.leaderboards.profiles import Depth, ExitMap, depth_by_fraction, depth_by_query, depth_by_task, exit_map
from rdvla_bench.leaderboards.resampling import COSTS, SEED, Estimate, Resampling, Sample, percentiles, ratio
from rdvla_bench.leaderboards.statistics import quantile, wilson

BESIDE = (2, 4)
"""Fixed depths that every adaptive row is shown beside: a rule that cannot beat them has learned nothing."""
ALL = "all suites"


@dataclass(frozen=True)
class Point:
    """One run on one suite."""

    run: str
    series: str  # points of one series are joined by a line
    label: str  # of the point within its series
    suite: str
    kind: Kind  # plain: a policy without a recurrent core
    n: int  # scored episodes
    value: Estimate  # success rate, Wilson 95 %; or chain length, bootstrap
    costs: Mapping[str, Estimate | None]  # of ``COSTS``; None where unknown
    gflop_per_query: float | None
    gflop_per_episode: float | None
    depth_sd: float | None  # over queries
    latency_ms: tuple[float, float, float] | None  # p50, p95, p99 a query
    standing: str  # why it is compared with nothing, "" if it is
    front: Mapping[str, tuple[bool, float]]  # cost -> on the front, share of resamples on it

    @property
    def depth(self) -> float | None:
        """Return the mean depth, None for a policy without a recurrent core."""
        found = self.costs["depth"]
        return found.value if found else None


@dataclass(frozen=True)
class Match:
    """An adaptive run against fixed depths at equal cost."""

    run: str
    label: str
    suite: str
    cost: str
    below: str  # labels of the neighbours
    above: str
    difference: Difference | None
    note: str  # why there is none


@dataclass(frozen=True)
class Beside:
    """An adaptive run beside one fixed depth, whatever each costs."""

    run: str
    suite: str
    depth: int
    fixed_run: str
    difference: Difference


@dataclass(frozen=True)
class Profile:
    """Where one recurrent run thinks, on one suite."""

    run: str
    series: str
    label: str
    suite: str
    kind: Kind
    by_fraction: tuple[Depth, ...]
    by_query: tuple[Depth, ...]
    by_task: tuple[Depth, ...]
    exits: ExitMap | None
    threshold: float | None  # of the exit rule


@dataclass(frozen=True)
class Curves:
    """Everything that is drawn. ``measure`` is what the values are, ``unit`` of the success rate is 1."""

    protocol: str
    protocol_hash: str
    measure: Literal["success rate", "average chain length"]
    suites: tuple[str, ...]
    points: tuple[Point, ...]
    matches: tuple[Match, ...]
    besides: tuple[Beside, ...]
    profiles: tuple[Profile, ...]
    notes: tuple[str, ...]  # what a reader must not overlook

    def of(self, suite: str) -> list[Point]:
        """Return the points of one suite, by series, then by cost."""
        chosen = [point for point in self.points if point.suite == suite]
        return sorted(chosen, key=lambda p: (p.series, p.depth or 0.0))

    @property
    def series(self) -> list[str]:
        """Return the names of all series, fixed depths first."""
        order = {"fixed": 0, "adaptive": 1, "plain": 2}
        kinds: dict[str, int] = {}
        for point in self.points:
            kinds[point.series] = max(kinds.get(point.series, 0), order[point.kind])
        return sorted(kinds, key=lambda name: (kinds[name], name))


def make_curves(entries: Sequence[Entry]) -> Curves:
    """Measure all runs, every suite apart and, where there are several, all together.

    Raises:
        UsageError: no runs, a run without a scored episode, or runs that cannot share a curve.
    """
    check(entries)
    names = names_of(entries)
    suites = list(entries[0].board.manifest["config"]["suites"])
    is_chain = any(score.chain for score in entries[0].board.suite_scores)
    resampling = Resampling()
    points: list[Point] = []
    matches: list[Match] = []
    besides: list[Beside] = []
    for suite in [*suites, *([ALL] if len(suites) > 1 and not is_chain else [])]:
        members = [_Member(entry, *names[entry.run], suite) for entry in entries]
        points += _points(members, resampling)
        matches += [match for member in members for match in _matches(member, members, resampling)]
        besides += [found for member in members for found in _besides(member, members, resampling)]
    manifest = entries[0].board.manifest
    return Curves(
        protocol=manifest["config"]["protocol"],
        protocol_hash=manifest["protocol_hash"],
        measure="average chain length" if is_chain else "success rate",
        suites=tuple(dict.fromkeys(point.suite for point in points)),
        points=tuple(points),
        matches=tuple(matches),
        besides=tuple(besides),
        profiles=tuple(_profiles(entries, names, suites, resampling)),
        notes=tuple(_notes(entries, points)),
    )


@dataclass(frozen=True, eq=False)
class _Member:
    """One run on one suite, with its episodes."""

    entry: Entry
    series: str
    label: str
    suite: str

    @cached_property
    def results(self) -> pd.DataFrame:
        return _rows(self.entry.board.results, self.suite)

    @cached_property
    def sample(self) -> Sample:
        n_instructions = self.entry.board.manifest.get("n_instructions", {}).get(self.suite, 1)
        return Sample.of(self.results, _rows(self.entry.board.executions, self.suite), n_instructions)

    @cached_property
    def kind(self) -> Kind:
        return kind_of(self.entry.board)

    @property
    def standing(self) -> str:
        scores = [s for s in self.entry.board.suite_scores if self.suite in (ALL, s.suite)]
        reasons = [score.unranked for score in scores if score.unranked]
        return ", ".join([*reasons, *(["privileged"] if self.entry.board.is_privileged else [])])

    @property
    def weights(self) -> tuple[str, str]:
        card = self.entry.board.manifest["policy_card"]
        return str(card.get("weights", "")), str(card.get("weights_sha256", ""))


def _points(members: Sequence[_Member], resampling: Resampling) -> list[Point]:
    samples = {member.entry.run: member.sample for member in members}
    fronts: dict[str, dict[str, tuple[bool, float]]] = {member.entry.run: {} for member in members}
    for cost in COSTS:
        ranked = [m for m in members if not m.standing and _cost(samples[m.entry.run], cost, m.kind) is not None]
        shares = front_shares([samples[m.entry.run] for m in ranked], cost, resampling)
        for member, share in zip(ranked, shares, strict=True):
            fronts[member.entry.run][cost] = share
    return [_point(m, samples[m.entry.run], fronts[m.entry.run], resampling) for m in members]


def _point(member: _Member, sample: Sample, front: dict[str, tuple[bool, float]], resampling: Resampling) -> Point:
    board, n = member.entry.board, len(sample.keys)
    executions = _rows(board.executions, member.suite)
    milliseconds = [1e3 * s for row in executions[executions["outcome"] != "error"]["model_s"] for s in row]
    depths = pd.Series([d for row in member.results[member.results["outcome"] != "error"]["depths"] for d in row])
    costs: dict[str, Estimate | None] = {}
    for name in COSTS:
        value = _cost(sample, name, member.kind)
        costs[name] = None if value is None else Estimate(value, *percentiles(resampling.costs(sample, name)))
    per_query = ratio(sample.flops / 1e9, sample.queries)
    per_episode = ratio(sample.flops / 1e9, np.ones_like(sample.flops))
    latency = tuple(quantile(milliseconds, q) or 0.0 for q in (0.5, 0.95, 0.99))
    return Point(
        run=member.entry.run,
        series=member.series,
        label=member.label,
        suite=member.suite,
        kind=member.kind,
        n=n,
        value=_value(sample),
        costs=costs,
        gflop_per_query=per_query,
        gflop_per_episode=per_episode,
        depth_sd=float(depths.std()) if member.kind != "plain" and len(depths) > 1 else None,
        latency_ms=(latency[0], latency[1], latency[2]) if milliseconds else None,
        standing=member.standing,
        front=front,
    )


def _cost(sample: Sample, name: str, kind: Kind) -> float | None:
    return None if name == "depth" and kind == "plain" else ratio(*sample.cost(name))


def _value(sample: Sample) -> Estimate:
    mean = float(sample.value.mean())
    if sample.is_chain:
        lengths = [int(value) for value in sample.value]
        return Estimate(mean, *length_interval(lengths, int(sample.best), np.random.default_rng(SEED)))
    return Estimate(mean, *wilson(int(sample.value.sum()), len(sample.keys)))


def _matches(member: _Member, members: Sequence[_Member], resampling: Resampling) -> Iterable[Match]:
    """Compare an adaptive run with the two fixed depths whose cost encloses its own."""
    if member.kind != "adaptive" or member.standing:
        return
    sample = member.sample
    fixed = [m for m in members if m.kind == "fixed" and not m.standing and m.weights == member.weights]
    for cost in ("depth", "gflop"):
        mine = _cost(sample, cost, member.kind)
        found = [(c, m) for m in fixed if (c := _cost(m.sample, cost, m.kind)) is not None]
        priced = sorted(found, key=lambda pair: pair[0])
        if mine is None or not priced:
            note = "no fixed depth of the same weights" if mine is not None else "its cost is unknown"
            yield Match(member.entry.run, member.label, member.suite, cost, "", "", None, note)
            continue
        below = [m for c, m in priced if c <= mine]
        above = [m for c, m in priced if c >= mine]
        if not below or not above:
            note = f"outside the fixed depths' {priced[0][0]:.3g} to {priced[-1][0]:.3g}: not extrapolated"
            yield Match(member.entry.run, member.label, member.suite, cost, "", "", None, note)
            continue
        low, high = below[-1], above[0]
        difference = matched(sample, low.sample, high.sample, cost, resampling)
        note = "" if difference else "not between the neighbours on the common episodes"
        yield Match(member.entry.run, member.label, member.suite, cost, low.label, high.label, difference, note)


def _besides(member: _Member, members: Sequence[_Member], resampling: Resampling) -> Iterable[Beside]:
    if member.kind != "adaptive" or member.standing:
        return
    for depth in BESIDE:
        for other in members:
            if other.kind != "fixed" or other.standing or other.weights != member.weights:
                continue
            if ratio(*other.sample.cost("depth")) == depth:
                difference = beside(member.sample, other.sample, resampling)
                yield Beside(member.entry.run, member.suite, depth, other.entry.run, difference)
                break


def _profiles(
    entries: Sequence[Entry], names: Mapping[str, tuple[str, str]], suites: Sequence[str], resampling: Resampling
) -> Iterable[Profile]:
    for entry in entries:
        if kind_of(entry.board) == "plain":
            continue
        rule = entry.board.manifest["policy_card"].get("exit_rule", {})
        for suite in suites:
            results = _rows(entry.board.results, suite)
            tasks = entry.board.manifest["task_names"].get(suite, {})
            yield Profile(
                entry.run,
                *names[entry.run],
                suite,
                kind_of(entry.board),
                tuple(depth_by_fraction(results, resampling)),
                tuple(depth_by_query(results, resampling)),
                tuple(depth_by_task(results, {int(task): name for task, name in tasks.items()}, resampling)),
                exit_map(results),
                float(rule["delta"]) if "delta" in rule else None,
            )


def _notes(entries: Sequence[Entry], points: Sequence[Point]) -> Iterable[str]:
    if any(entry.board.is_untrained for entry in entries):
        yield "untrained weights: these rates measure the harness, not a method"
    for point in points:
        if point.standing and point.suite != ALL:
            yield f"{point.run} on {point.suite} is compared with nothing: {point.standing}"
    sets = {frozenset(entry.board.results["id"] + "/" + entry.board.results["seed"].astype(str)) for entry in entries}
    if len(sets) > 1:
        yield "the runs did not play the same episodes: differences are paired only over common ones"
    machines = {str((e.board.manifest.get("machine") or {}).get("cpu", "")) for e in entries}
    if len(machines) > 1:
        yield "the runs come from different machines: their milliseconds do not compare"


def _rows(frame: pd.DataFrame, suite: str) -> pd.DataFrame:
    return frame if suite == ALL else frame[frame["suite"] == suite]
