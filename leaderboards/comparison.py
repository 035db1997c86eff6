"""Two or more runs on their common episodes: rates, chain lengths, differences, and a verdict in words.

Non-obvious:
- A verdict rests on the exact p value after Holm's correction over all rows of its kind (suites, tasks, chains) and all
  pairs of runs. The interval beside it is of that row alone, not corrected.
- One run alone, or one policy under two seeds, is the noise floor: what the policy's own chance does to the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from string import ascii_uppercase

import numpy as np

from rdvla_bench.errors import UsageError
from rdvla_bench.leaderboards.chains import SEED
from rdvla_bench.leaderboards.comparability import Entry, common_episodes, own_repetitions, refuse_errors, warnings
from rdvla_bench.leaderboards.paired import (
    Counts,
    Pair,
    Pairing,
    clustered_differences,
    clustered_interval,
    count,
    holm,
    mcnemar,
    sign_flip,
    tango,
)
from rdvla_bench.leaderboards.run_folder import Manifest, Run
from rdvla_bench.leaderboards.statistics import mean
from rdvla_bench.record import Result

ALL = "all suites"


@dataclass(frozen=True)
class Rule:
    """When a difference is called one, and when its absence is."""

    alpha: float = 0.05
    margin: float = 0.05  # of a success rate: an interval inside it says "no difference seen"
    length_margin: float = 0.2  # of a chain length, in instructions


@dataclass(frozen=True)
class Row:
    """One measure of a suite, of one task of it, or of all suites, over the pairs. Difference: second minus first."""

    suite: str
    task: int | None  # None: the whole suite
    name: str  # of the task
    n: int  # pairs
    first: float  # success rate, or mean chain length
    second: float
    difference: float
    low: float  # at confidence 1 - alpha
    high: float
    p: float
    depths: tuple[float | None, float | None]  # mean a query; None for a policy without a recurrent core
    flops: tuple[float | None, float | None]  # mean an episode; None unless known for each
    counts: Counts | None = None  # of success rates
    in_a_row: tuple[tuple[float, float], ...] = ()  # of chains: share with at least 1, 2, ... done, in either run
    p_holm: float = math.nan
    verdict: str = ""

    @property
    def kind(self) -> str:
        """Return the family within which p values are corrected, which is also its table."""
        if self.counts is None:
            return "chains"
        return "suites" if self.task is None else "tasks"

    @property
    def is_length(self) -> bool:
        """Return whether the measure is the chain length."""
        return self.counts is None


@dataclass(frozen=True)
class Comparison:
    """One run against another."""

    first: Entry
    second: Entry
    pairing: Pairing
    rows: tuple[Row, ...]
    is_noise_floor: bool
    warnings: tuple[str, ...]

    def table(self, kind: str) -> tuple[Row, ...]:
        """Return the rows of one kind: suites, tasks or chains."""
        return tuple(row for row in self.rows if row.kind == kind)


def compare(runs: Sequence[tuple[str, Run]], rule: Rule, *, strict: bool = False) -> list[Comparison]:
    """Compare every two of the named ``runs``; one run alone is compared with its own repetitions.

    Raises:
        UsageError: runs that cannot be compared, with the reason; with ``strict`` also common episodes with an error.
    """
    if not 1 <= len(runs) <= len(ascii_uppercase):
        raise UsageError(
            f"{len(runs)} runs given: name 2 to {len(ascii_uppercase)} run folders, or one that plays its starts twice"
        )
    entries = [Entry(letter, name, run) for letter, (name, run) in zip(ascii_uppercase, runs, strict=False)]
    if len(entries) == 1:
        name, run = runs[0]
        first, second = (Entry(letter, f"{name}, repetition {i}", run) for i, letter in enumerate("AB"))
        found = [_tabulate(first, second, own_repetitions(entries[0]), rule)]
    else:
        found = [_tabulate(a, b, common_episodes(a, b), rule) for a, b in combinations(entries, 2)]
    for one in found if strict else ():
        refuse_errors(one.first, one.second, one.pairing)
    return _judged(found, rule)


def _tabulate(a: Entry, b: Entry, pairing: Pairing, rule: Rule) -> Comparison:
    return Comparison(
        first=a,
        second=b,
        pairing=pairing,
        rows=tuple(_rows(pairing.pairs, a.run.manifest, 1 - rule.alpha)),
        is_noise_floor=a.policy_hash == b.policy_hash and (a.seed != b.seed or a.run is b.run),
        warnings=tuple(warnings(a, b)),
    )


def _rows(pairs: Sequence[Pair], manifest: Manifest, confidence: float) -> Iterable[Row]:
    config = manifest["config"]
    single: list[Pair] = []
    n_suites = 0
    for suite in config["suites"]:
        of_suite = [p for p in pairs if p.episode.suite == suite]
        if not of_suite:
            continue
        if (n := manifest.get("n_instructions", {}).get(suite, 1)) > 1:
            yield _length_row(of_suite, suite, n, confidence)
            continue
        single += of_suite
        n_suites += 1
        yield _rate_row(of_suite, suite, confidence)
        names = manifest["task_names"].get(suite, {})
        for task in config["tasks"][suite]:
            if of_task := [p for p in of_suite if p.episode.task == task]:
                yield _rate_row(of_task, suite, confidence, task, names.get(str(task), ""))
    if n_suites > 1:
        yield _rate_row(single, ALL, confidence)


def _rate_row(pairs: Sequence[Pair], suite: str, confidence: float, task: int | None = None, name: str = "") -> Row:
    counts = count(p.success for p in pairs)
    return Row(
        suite, task, name, counts.n, counts.rate_a, counts.rate_b, counts.difference,
        *tango(counts, confidence), mcnemar(counts), _both(pairs, _depth), _both(pairs, _flops), counts,
    )  # fmt: skip


def _length_row(pairs: Sequence[Pair], suite: str, n_instructions: int, confidence: float) -> Row:
    totals, sizes = clustered_differences(pairs)
    lengths = np.array([p.solved for p in pairs])  # (pairs, 2)
    interval = clustered_interval(totals, sizes, np.random.default_rng(SEED), confidence=confidence)
    reached = [(lengths >= k).mean(axis=0) for k in range(1, n_instructions + 1)]
    return Row(
        suite, None, "", len(pairs), float(lengths[:, 0].mean()), float(lengths[:, 1].mean()),
        float(totals.sum() / sizes.sum()), *interval, sign_flip(totals), _both(pairs, _depth), _both(pairs, _flops),
        in_a_row=tuple((float(a), float(b)) for a, b in reached),
    )  # fmt: skip


def _both(
    pairs: Sequence[Pair], measure: Callable[[Sequence[Result]], float | None]
) -> tuple[float | None, float | None]:
    return measure([p.a.result for p in pairs]), measure([p.b.result for p in pairs])


def _depth(results: Sequence[Result]) -> float | None:
    depths = [depth for result in results for depth in result.depths]
    return mean(depths) if any(depths) else None


def _flops(results: Sequence[Result]) -> float | None:
    known = [result.flops for result in results if result.flops is not None]
    return mean(known) if len(known) == len(results) else None


def _judged(found: Sequence[Comparison], rule: Rule) -> list[Comparison]:
    """Add Holm's p values, over all comparisons, and the verdicts."""
    places = [(i, j, row.kind) for i, one in enumerate(found) for j, row in enumerate(one.rows)]
    adjusted: dict[tuple[int, int], float] = {}
    for family in {kind for *_, kind in places}:
        members = [(i, j) for i, j, kind in places if kind == family]
        p_values = holm([found[i].rows[j].p for i, j in members])
        adjusted |= dict(zip(members, p_values, strict=True))
    return [
        replace(one, rows=tuple(_with_verdict(row, adjusted[i, j], one, rule) for j, row in enumerate(one.rows)))
        for i, one in enumerate(found)
    ]


def _with_verdict(row: Row, p_holm: float, one: Comparison, rule: Rule) -> Row:
    return replace(row, p_holm=p_holm, verdict=verdict(replace(row, p_holm=p_holm), one, rule))


def verdict(row: Row, one: Comparison, rule: Rule) -> str:
    """Say what the pairs of a row allow to say.

    "No difference seen" needs an interval inside the margin; a p value above alpha alone says "undecided".
    """
    if row.p_holm <= rule.alpha and row.difference:
        return f"{(one.second if row.difference > 0 else one.first).letter} better"
    reach = max(abs(row.low), abs(row.high))
    if row.low <= 0 <= row.high and reach <= (rule.length_margin if row.is_length else rule.margin):
        beyond = f"{math.ceil(100 * reach) / 100:.2f}" if row.is_length else f"{math.ceil(1000 * reach) / 10:.1f} pp"
        return f"no difference seen; differences beyond {beyond} are excluded"
    return "undecided"
