"""Compute curves as rows: for CSV, JSON and the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rdvla_bench.leaderboards.curves import Beside, Curves, Match, Point
from rdvla_bench.leaderboards.pareto import Difference
from rdvla_bench.leaderboards.resampling import COSTS, RESAMPLES, Estimate
from rdvla_bench.leaderboards.tables import NOTHING, Table

SCHEMA = 1  # of curves.json
CERTAIN, UNLIKELY = 0.95, 0.05
COLUMNS = ("n", "success", "95 % interval", "depth", "GFLOP/step", "ms p50", "p95", "p99", "difference")


def point_rows(curves: Curves) -> list[dict[str, Any]]:
    """Return one flat row a run and suite."""
    return [
        {
            **{key: getattr(p, key) for key in ("run", "series", "label", "suite", "kind", "n")},
            **_estimate(curves.measure.replace(" ", "_"), p.value),
            **{k: v for cost in COSTS for k, v in _estimate(cost, p.costs[cost]).items()},
            "depth_sd": p.depth_sd,
            "gflop_per_query": p.gflop_per_query,
            "gflop_per_episode": p.gflop_per_episode,
            **dict(zip(("ms_p50", "ms_p95", "ms_p99"), p.latency_ms or (None, None, None), strict=True)),
            **{f"front_{cost}": p.front.get(cost, (None, None))[0] for cost in COSTS},
            **{f"front_{cost}_share": p.front.get(cost, (None, None))[1] for cost in COSTS},
            "standing": p.standing,
        }
        for p in curves.points
    ]


def match_rows(curves: Curves) -> list[dict[str, Any]]:
    """Return one flat row a comparison at equal cost."""
    return [
        {
            **{key: getattr(m, key) for key in ("run", "label", "suite", "cost", "below", "above")},
            **_difference(m.difference),
            "note": m.note,
        }
        for m in curves.matches
    ]


def beside_rows(curves: Curves) -> list[dict[str, Any]]:
    """Return one flat row for each fixed depth that an adaptive run is shown beside."""
    return [
        {
            **{key: getattr(b, key) for key in ("run", "suite", "depth", "fixed_run")},
            **{k: v for k, v in _difference(b.difference).items() if k not in ("at", "weight")},
        }
        for b in curves.besides
    ]


def depth_rows(curves: Curves) -> list[dict[str, Any]]:
    """Return one flat row a run, suite and part of the episode, query index or task."""
    return [
        {"run": p.run, "series": p.series, "label": p.label, "suite": p.suite, "by": by, **asdict(depth)}
        for p in curves.profiles
        for by, depths in (("fraction", p.by_fraction), ("query", p.by_query), ("task", p.by_task))
        for depth in depths
    ]


def exit_rows(curves: Curves) -> list[dict[str, Any]]:
    """Return one flat row a run, suite, iteration and level of the criterion that some query had."""
    return [
        {
            "run": p.run,
            "suite": p.suite,
            "iteration": iteration,
            "running": p.exits.running[column],
            "median": p.exits.medians[column],
            "level_low": p.exits.edges[level],
            "level_high": p.exits.edges[level + 1],
            "share": shares[column],
        }
        for p in curves.profiles
        if p.exits
        for column, iteration in enumerate(p.exits.iterations)
        for level, shares in enumerate(p.exits.shares)
        if shares[column] > 0
    ]


def curves_json(curves: Curves) -> dict[str, Any]:
    """Return everything as plain JSON data."""
    return {
        "schema": SCHEMA,
        "protocol": curves.protocol,
        "protocol_hash": curves.protocol_hash,
        "measure": curves.measure,
        "suites": list(curves.suites),
        "resamples": RESAMPLES,
        "method": METHOD,
        "notes": list(curves.notes),
        "points": point_rows(curves),
        "matched": match_rows(curves),
        "beside": beside_rows(curves),
        "fronts": {suite: {c: front_sentence(curves, suite, c) for c in COSTS} for suite in curves.suites},
        "profiles": [asdict(profile) for profile in curves.profiles],
    }


METHOD = (
    "Rates: Wilson 95 %. Chain lengths, costs and differences: percentile bootstrap over episodes within each task; "
    "runs with the same episodes are redrawn together (paired). Equal cost: linear interpolation between the two fixed "
    "depths that enclose it, redone in each resample; it is what tossing a coin between the two depths before each "
    "episode would reach."
)
LEGEND = (
    "Difference: adaptive minus fixed depth, with 95 % bootstrap interval; =depth and =FLOP: at equal mean depth or "
    "FLOPs a control step."
)


def tables(curves: Curves) -> list[Table]:
    """Return one table a suite: every run, under each adaptive one the fixed depths it is to be seen beside."""
    return [
        Table(
            f"{suite}, {curves.protocol} ({curves.protocol_hash})",
            ("run", *COLUMNS),
            tuple(_rows(curves, suite)),
            legend=LEGEND if curves.matches else "",
        )
        for suite in curves.suites
    ]


def _rows(curves: Curves, suite: str) -> Iterator[tuple[str, ...]]:
    points = {p.run: p for p in curves.of(suite)}
    for point in sorted(points.values(), key=lambda p: (curves.series.index(p.series), p.depth or 0.0)):
        yield _cells(curves, point, _title(point), "")
        for b in curves.besides:
            if (b.run, b.suite) == (point.run, suite):
                yield _cells(curves, points[b.fixed_run], f"  beside depth {b.depth}", _words(b, curves))
        for m in curves.matches:
            if (m.run, m.suite) == (point.run, suite) and m.cost in ("depth", "gflop"):
                yield _match_cells(m, curves)


def _cells(curves: Curves, p: Point, title: str, difference: str) -> tuple[str, ...]:
    depth, gflop = p.costs["depth"], p.costs["gflop"]
    return (
        title,
        str(p.n),
        _number(p.value.value, curves),
        f"[{_number(p.value.low, curves)}, {_number(p.value.high, curves)}]",
        f"{depth.value:.2f}" if depth else NOTHING,
        f"{gflop.value:.4g}" if gflop else NOTHING,
        *(f"{ms:.1f}" for ms in p.latency_ms or ()),
        *(NOTHING for _ in range(0 if p.latency_ms else 3)),
        difference or ("compared with nothing" if p.standing else NOTHING),
    )


def _match_cells(m: Match, curves: Curves) -> tuple[str, ...]:
    what = "depth" if m.cost == "depth" else "FLOP"
    d = m.difference
    if d is None:
        return (f"  ={what}", *(NOTHING for _ in COLUMNS[:-1]), m.note)
    between = m.below if m.below == m.above else f"{m.below} and {m.above.removeprefix('depth ')}"
    spent = (f"{d.at:.2f}", NOTHING) if m.cost == "depth" else (NOTHING, f"{d.at:.4g}")
    return (
        f"  ={what}: {between}", str(d.n_episodes), _number(d.fixed, curves), NOTHING, *spent,
        NOTHING, NOTHING, NOTHING, _words(m, curves),
    )  # fmt: skip


def _words(found: Beside | Match, curves: Curves) -> str:
    d = found.difference
    if d is None:
        return NOTHING
    unit, form = (100, "+.1f") if curves.measure == "success rate" else (1, "+.3f")
    value, low, high = (format(unit * v, form) for v in (d.difference.value, d.difference.low, d.difference.high))
    return f"{value} [{low}, {high}] {d.verdict}{'' if d.is_paired else ', not paired'}"


def front_sentence(curves: Curves, suite: str, cost: str) -> str:
    """Say which runs no other dominates at a cost, and how sure that is."""
    points = [p for p in curves.of(suite) if cost in p.front]
    if len(points) < 2:
        return ""
    points.sort(key=lambda p: found.value if (found := p.costs[cost]) else 0.0)
    shares = [(p.front[cost][1], _title(p)) for p in points]
    certain = [name for share, name in shares if share >= CERTAIN]
    open_ = [f"{name} ({100 * share:.0f} %)" for share, name in shares if UNLIKELY < share < CERTAIN]
    out = [name for share, name in shares if share <= UNLIKELY]
    said = [f"on the front in at least {100 * CERTAIN:.0f} % of resamples: {', '.join(certain) or 'none'}"]
    said += [f"undecided: {', '.join(open_)}"] if open_ else []
    said += [f"dominated: {', '.join(out)}"] if out else []
    return "; ".join(said)


def front_lines(curves: Curves) -> Sequence[str]:
    """Return one line a suite and cost."""
    names = {"depth": "mean depth", "gflop": "GFLOP a step", "model_ms": "model ms"}
    said = {(s, c): front_sentence(curves, s, c) for s in curves.suites for c in COSTS}
    return [f"{suite}, against {names[cost]}: {text}" for (suite, cost), text in said.items() if text]


def _title(point: Point) -> str:
    return point.series if point.label == point.series else f"{point.series} {point.label}"


def _number(value: float, curves: Curves) -> str:
    return f"{100 * value:.1f} %" if curves.measure == "success rate" else f"{value:.3f}"


def _estimate(name: str, found: Estimate | None) -> dict[str, float | None]:
    values = (found.value, found.low, found.high) if found else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _difference(found: Difference | None) -> dict[str, Any]:
    if found is None:
        keys = ("at", "value", "fixed", "weight", "difference", "low", "high", "n_episodes", "is_paired", "verdict")
        return dict.fromkeys(keys)
    return {
        **{key: getattr(found, key) for key in ("at", "value", "fixed", "weight")},
        "difference": found.difference.value,
        "low": found.difference.low,
        "high": found.difference.high,
        **{key: getattr(found, key) for key in ("n_episodes", "is_paired", "verdict")},
    }
