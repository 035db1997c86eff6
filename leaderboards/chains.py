"""Chains of instructions: how many are done in a row, and how each subtask fares.

Average chain length and the success rates of 1..5 in a row are CALVIN's measures: O. Mees et al., IEEE RA-L 7 (2022)
7327-7334, section V. An ERROR is no chain: it is left out, as everywhere on a board.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rdvla_bench.leaderboards.intervals import in_a_row_intervals
from rdvla_bench.leaderboards.statistics import mean, wilson
from rdvla_bench.types import Outcome

RESAMPLES = 10_000
SEED = 0
"""Of the bootstrap: the same run gives the same board."""


@dataclass(frozen=True)
class ChainScore:
    """The chains of one suite."""

    in_a_row: tuple[float, ...]  # share of chains with at least 1, 2, ... instructions done
    length: float  # mean number done in a row
    low: float  # bootstrap 95 % over chains
    high: float
    in_a_row_intervals: tuple[tuple[float, float], ...]  # Wilson 95 %, one a share


@dataclass(frozen=True)
class SubtaskScore:
    """One subtask, over all chains that came as far as to attempt it."""

    suite: str
    name: str
    attempts: int
    successes: int
    rate: float
    low: float  # Wilson 95 %
    high: float
    steps: float | None  # mean control steps of a success


def length_interval(
    lengths: Sequence[int],
    n_instructions: int,
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean, resampling chains.

    B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), section 13.3. Lengths are small integers, so a
    resample of n chains is one multinomial draw over their counts.

    Non-obvious: one chain of length 0 and one of ``n_instructions`` are added, as A. Agresti and B. Coull, Am. Stat. 52
    (1998) 119-126 add successes and failures. Without them 50 perfect chains would have the interval [5, 5], and of 20
    chains that are nearly all complete a bootstrap covers 63 % (docs/statistics.md).

    Raises:
        ValueError: there are no chains.
    """
    if not len(lengths):
        raise ValueError("no chains have no interval")
    values, counts = np.unique(np.array([*lengths, 0, n_instructions], np.int64), return_counts=True)
    n = int(counts.sum())
    means = rng.multinomial(n, counts / n, size=resamples) @ values / n
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def chain_score(results: pd.DataFrame, n_instructions: int) -> ChainScore | None:
    """Score the rows of one suite; None for a suite of single tasks, or where no chain was scored."""
    lengths = [int(n) for n in _scored(results)["solved"].dropna()]
    if n_instructions < 2 or not lengths:
        return None
    low, high = length_interval(lengths, n_instructions, np.random.default_rng(SEED))
    in_a_row = tuple(sum(n >= k for n in lengths) / len(lengths) for k in range(1, n_instructions + 1))
    intervals = in_a_row_intervals(lengths, n_instructions)
    return ChainScore(in_a_row, sum(lengths) / len(lengths), low, high, intervals)


def subtask_scores(results: pd.DataFrame, suite: str) -> Iterable[SubtaskScore]:
    """Yield one score a subtask that was attempted, by name."""
    spent: dict[str, list[int]] = {}
    attempts: dict[str, int] = {}
    rows = _scored(results[results["suite"] == suite])
    for solved, names, steps in rows[["solved", "subtasks", "subtask_steps"]].itertuples(index=False):
        for k, (name, n_steps) in enumerate(zip(names, steps, strict=True)):
            attempts[name] = attempts.get(name, 0) + 1
            if k < solved:
                spent.setdefault(name, []).append(int(n_steps))
    for name, n in sorted(attempts.items()):
        successes = spent.get(name, [])
        low, high = wilson(len(successes), n)
        yield SubtaskScore(suite, name, n, len(successes), len(successes) / n, low, high, mean(successes))


def _scored(results: pd.DataFrame) -> pd.DataFrame:
    return results[results["outcome"] != Outcome.ERROR.value]
