"""Intervals of a mean over tasks: for these tasks (stratified), or for tasks like these (clustered).

The two answer different questions. Stratified: the same tasks, played again from other starts; tasks are strata and
nothing else is random. Clustered: other tasks from where these came; tasks are drawn, and ten tasks say little.

Non-obvious: a bootstrap of 50 successes in 50 episodes is [1, 1], a certainty nobody has, and with few failures it
covers far less than it claims (docs/statistics.md). Therefore boards print ``stratified_wilson``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from rdvla_bench.leaderboards.statistics import wilson

RESAMPLES = 10_000


@dataclass(frozen=True)
class Stratum:
    """The episodes of one task, errors left out."""

    successes: int
    n: int
    weight: float  # of the task's rate in the mean; the weights of a mean sum to 1


def equally_weighted(counts: Sequence[tuple[int, int]]) -> list[Stratum]:
    """Return (successes, n) of each task as strata of the mean that weighs every task alike."""
    return [Stratum(successes, n, 1 / len(counts)) for successes, n in counts]


def weighted_mean(strata: Sequence[Stratum]) -> float:
    """Return the mean of the rates.

    Raises:
        ValueError: no strata, one without episodes, or weights that do not sum to 1.
    """
    if not strata or any(s.n < 1 or not 0 <= s.successes <= s.n for s in strata):
        raise ValueError("a mean of rates needs at least one task, and episodes in every task")
    if not math.isclose(math.fsum(s.weight for s in strata), 1.0, abs_tol=1e-9):
        raise ValueError("the weights of a mean must sum to 1")
    return math.fsum(s.weight * s.successes / s.n for s in strata)


def stratified_wilson(strata: Sequence[Stratum], confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval at the effective sample size of the strata: for these tasks.

    C. Franco, R. Little, T. Louis and E. Slud, J. Surv. Stat. Methodol. 7 (2019) 334-364; effective size as E. Korn and
    B. Graubard, Surv. Methodol. 24 (1998) 193-201: the number of independent episodes whose mean would vary as much as
    this stratified one. Where no task's outcomes vary, it is the number of episodes. Of one task it is Wilson's
    interval of n - 1 episodes, since the variance is estimated without bias.

    Raises:
        ValueError: as ``weighted_mean``.
    """
    center = weighted_mean(strata)
    rates = [s.successes / s.n for s in strata]
    variance = math.fsum(
        s.weight**2 * rate * (1 - rate) / max(s.n - 1, 1) for s, rate in zip(strata, rates, strict=True)
    )
    size = center * (1 - center) / variance if variance > 0 else float(sum(s.n for s in strata))
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle = (center * size + z * z / 2) / (size + z * z)
    half = z / (size + z * z) * math.sqrt(max(center * (1 - center) * size + z * z / 4, 0.0))
    return (
        0.0 if center == 0 else max(0.0, middle - half),
        1.0 if center == 1 else min(1.0, middle + half),
    )


def stratified_bootstrap(
    strata: Sequence[Stratum], rng: np.random.Generator, *, confidence: float = 0.95, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the percentile bootstrap interval, resampling episodes within each task: for these tasks.

    R. Agarwal et al., NeurIPS 34 (2021), section 4.1 (stratified bootstrap over runs of a task). n - 1 of n episodes
    are drawn, so that few episodes a task do not make it too narrow: J. N. K. Rao and C. F. J. Wu, J. Am. Stat. Assoc.
    83 (1988) 231-241, with m = n - 1. Outcomes are 0 and 1, so a resample of a task is one binomial draw.

    Raises:
        ValueError: as ``weighted_mean``.
    """
    weighted_mean(strata)
    drawn = np.array([max(s.n - 1, 1) for s in strata])
    rates = np.array([s.successes / s.n for s in strata])
    weights = np.array([s.weight for s in strata])
    means = (rng.binomial(drawn, rates, size=(resamples, len(strata))) / drawn) @ weights
    return _percentiles(means, (1 - confidence) / 2)


def clustered_bootstrap(
    rates: Sequence[float], rng: np.random.Generator, *, confidence: float = 0.95, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the expanded percentile bootstrap interval of the mean rate, resampling tasks: for tasks like these.

    A task comes with all its episodes: A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application (1997),
    section 3.8. The percentiles are moved outwards to Student's t with one degree of freedom less than tasks, as
    T. Hesterberg, Am. Stat. 69 (2015) 371-386, section 3.5 (there "expanded percentile"): with 10 tasks the plain ones
    cover 90 %, with 5 tasks 83 %.

    Raises:
        ValueError: fewer than two tasks, whose spread is unknown.
    """
    from scipy.stats import t as student

    k = len(rates)
    if k < 2:
        raise ValueError(f"{k} task has no spread between tasks: a clustered interval needs at least two")
    quantile = float(student.ppf(0.5 + confidence / 2, k - 1))
    tail = NormalDist().cdf(-math.sqrt(k / (k - 1)) * quantile)
    means = np.asarray(rates, float)[rng.integers(0, k, (resamples, k))].mean(axis=1)
    return _percentiles(means, tail)


def in_a_row_intervals(
    lengths: Sequence[int], n_instructions: int, confidence: float = 0.95
) -> tuple[tuple[float, float], ...]:
    """Return Wilson's interval of the share of chains with at least 1, 2, ... ``n_instructions`` done.

    Chains are independent, so each share is a plain proportion and needs no bootstrap, whose interval of 1000 in 1000
    would be [1, 1].

    Raises:
        ValueError: there are no chains.
    """
    return tuple(wilson(sum(n >= k for n in lengths), len(lengths), confidence) for k in range(1, n_instructions + 1))


def in_a_row_bootstrap(
    lengths: Sequence[int],
    n_instructions: int,
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> tuple[tuple[float, float], ...]:
    """Return percentile bootstrap intervals of the same shares, all from the same resamples of chains.

    B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.

    Raises:
        ValueError: there are no chains.
    """
    if not len(lengths):
        raise ValueError("no chains have no interval")
    counts = np.bincount(lengths, minlength=n_instructions + 1)
    drawn = rng.multinomial(len(lengths), counts / len(lengths), size=resamples)
    at_least = drawn[:, ::-1].cumsum(axis=1)[:, ::-1] / len(lengths)  # (resamples, n_instructions + 1)
    return tuple(_percentiles(at_least[:, k], (1 - confidence) / 2) for k in range(1, n_instructions + 1))


def _percentiles(values: np.ndarray, tail: float) -> tuple[float, float]:
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
