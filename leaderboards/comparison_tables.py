"""Comparisons as tables of text, and as flat rows of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rdvla_bench.leaderboards.comparability import named
from rdvla_bench.leaderboards.comparison import Comparison, Row, Rule
from rdvla_bench.leaderboards.power import detectable, pairs_needed
from rdvla_bench.leaderboards.tables import NOTHING, Table

SCHEMA = 1  # of the JSON
POWER = 0.8
"""Of the advice on how many episodes to run."""

_TITLES = {"suites": "Success rate", "tasks": "Success rate by task", "chains": "Chain length"}


def headline(one: Comparison) -> str:
    """Return who is compared with whom."""
    sides = (
        f"{e.letter} = {e.name} ({e.run.manifest['config']['policy']}, seed {e.seed})" for e in (one.first, one.second)
    )
    return f"{', '.join(sides)}, under {one.first.run.manifest['config']['protocol']}"


def remarks(one: Comparison, rule: Rule) -> list[str]:
    """Return what a reader must know before the numbers: what paired, what did not, what may mislead."""
    pairing = one.pairing
    said = [f"{len(pairing.pairs)} common episodes."]
    if pairing.only_a or pairing.only_b:
        said.append(
            f"left out: {pairing.only_a} only in {one.first.letter}, {pairing.only_b} only in {one.second.letter}."
        )
    if pairing.errors:
        said.append(f"left out: {len(pairing.errors)} that ended in an error in either run: {named(pairing.errors)}.")
    if one.is_noise_floor:
        said.append(_noise(one))
    return said + [f"warning: {text}" for text in one.warnings] + list(_advice(one, rule))


def tables(one: Comparison, rule: Rule) -> list[Table]:
    """Return rates and chain lengths by suite, what they cost, and rates by task, where there are any."""
    found = [_table(one, kind, rule) for kind in ("suites", "chains", "tasks") if one.table(kind)]
    if any(value is not None for row in one.rows for value in (*row.depths, *row.flops)):
        found.insert(len(found) - bool(one.table("tasks")), _compute(one))
    return found


def flat_rows(found: Iterable[Comparison]) -> list[dict[str, Any]]:
    """Return one flat row a table row, numbers unrounded, None where there is none."""
    return [
        {
            "first": one.first.name,
            "second": one.second.name,
            "kind": row.kind,
            "suite": row.suite,
            "task": row.task,
            "name": row.name,
            "measure": "chain_length" if row.is_length else "success_rate",
            "pairs": row.n,
            "value_first": row.first,
            "value_second": row.second,
            "difference": row.difference,
            "low": row.low,
            "high": row.high,
            "only_first_succeeded": row.counts.only_a if row.counts else None,
            "only_second_succeeded": row.counts.only_b if row.counts else None,
            "p": row.p,
            "p_holm": row.p_holm,
            "verdict": row.verdict,
            "depth_first": row.depths[0],
            "depth_second": row.depths[1],
            "flops_first": row.flops[0],
            "flops_second": row.flops[1],
            "in_a_row_first": " ".join(f"{a:.6g}" for a, _ in row.in_a_row) or None,
            "in_a_row_second": " ".join(f"{b:.6g}" for _, b in row.in_a_row) or None,
        }
        for one in found
        for row in one.rows
    ]


def comparison_json(found: Sequence[Comparison], rule: Rule) -> dict[str, Any]:
    """Return everything as plain JSON data."""
    return {
        "schema": SCHEMA,
        "alpha": rule.alpha,
        "margin": rule.margin,
        "length_margin": rule.length_margin,
        "comparisons": [
            {
                "first": one.first.name,
                "second": one.second.name,
                "protocol": one.first.run.manifest["config"]["protocol"],
                "protocol_hash": one.first.run.manifest["protocol_hash"],
                "seeds": [one.first.seed, one.second.seed],
                "pairs": len(one.pairing.pairs),
                "errors": list(one.pairing.errors),
                "only_first": one.pairing.only_a,
                "only_second": one.pairing.only_b,
                "noise_floor": one.is_noise_floor,
                "warnings": list(one.warnings),
                "rows": flat_rows([one]),
            }
            for one in found
        ],
    }


def _table(one: Comparison, kind: str, rule: Rule) -> Table:
    a, b = one.first.letter, one.second.letter
    head = ("suite", "task", "name", "verdict") if kind == "tasks" else ("suite", "verdict")
    columns = (*head, "pairs", a, b, f"{b} − {a}", f"{100 * (1 - rule.alpha):g} % interval")
    columns += (f"only {a}", f"only {b}") if kind != "chains" else ()
    rows = tuple(_cells(row) for row in one.table(kind))
    return Table(_TITLES[kind], (*columns, "p", "Holm p"), rows, len(head), _legend(kind, a, b))


def _cells(row: Row) -> tuple[str, ...]:
    head = (row.suite, str(row.task), row.name) if row.kind == "tasks" else (row.suite,)
    tail = _p(row.p), _p(row.p_holm)
    if row.counts is None:
        interval = f"[{row.low:+.3f}, {row.high:+.3f}]"
        numbers = (f"{row.first:.3f}", f"{row.second:.3f}", f"{row.difference:+.3f}", interval)
        return (*head, row.verdict, str(row.n), *numbers, *tail)
    rates = f"{100 * row.first:.1f} %", f"{100 * row.second:.1f} %", f"{100 * row.difference:+.1f} pp"
    interval = f"[{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
    discordant = str(row.counts.only_a), str(row.counts.only_b)
    return (*head, row.verdict, str(row.n), *rates, interval, *discordant, *tail)


def _compute(one: Comparison) -> Table:
    a, b = one.first.letter, one.second.letter
    rows = tuple(
        (
            row.suite,
            *(NOTHING if depth is None else f"{depth:.2f}" for depth in row.depths),
            *(NOTHING if flops is None else f"{flops / 1e9:.4g}" for flops in row.flops),
        )
        for row in (*one.table("suites"), *one.table("chains"))
    )
    columns = ("suite", f"depth {a}", f"depth {b}", f"GFLOP {a}", f"GFLOP {b}")
    return Table("Compute", columns, rows, legend="Of the same episodes. Depth: mean a query. GFLOP: mean an episode.")


def _p(p: float) -> str:
    return "<0.0001" if p < 1e-4 else f"{p:.4f}"


def _legend(kind: str, a: str, b: str) -> str:
    if kind == "chains":
        return (
            "Mean number of instructions done in a row. Interval: paired bootstrap over chains. p: exact sign-flip "
            "test; Holm p: corrected over all chain rows."
        )
    return (
        f"Interval: Tango's score interval of the paired difference. Only {a}, only {b}: episodes that one run solved "
        f"and the other did not. p: exact McNemar; Holm p: corrected over all rows of this kind."
    )


def _noise(one: Comparison) -> str:
    pairs = one.pairing.pairs
    n = sum(len({(r.result.outcome, r.result.solved) for r in (p.a, p.b)}) > 1 for p in pairs)
    return (
        "noise floor: this is one policy against itself, so every difference is chance. "
        f"{n} of {len(pairs)} episodes ({100 * n / len(pairs):.1f} %) end differently."
    )


def _advice(one: Comparison, rule: Rule) -> Iterable[str]:
    for row in one.table("suites"):
        if row.counts is None or row.verdict != "undecided":
            continue
        seen = row.counts.discordant / row.n
        discordance = max(seen, rule.margin)
        needed = pairs_needed(rule.margin, discordance, power=POWER, alpha=rule.alpha)
        smallest = detectable(row.n, discordance, power=POWER, alpha=rule.alpha)
        so_far = (
            "no difference" if smallest is None else f"differences of {math.ceil(1000 * smallest) / 10:.1f} pp or more"
        )
        more = f"; for {100 * rule.margin:g} pp it takes {needed}" if needed > row.n else ""
        yield (
            f"{row.suite}: outcomes differ on {100 * seen:.1f} % of {row.n} episodes. So many show {so_far} with "
            f"{100 * POWER:.0f} % power{more}."
        )
