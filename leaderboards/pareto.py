"""What compute buys: the Pareto front with its uncertainty, and adaptive against fixed depth at equal compute.

Interpolation between two fixed depths has a meaning: it is what a policy would reach that tosses a coin before each
episode and plays it with the one or the other depth, weighted so that the mean compute is the adaptive policy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.leaderboards.paired import count, tango
from rdvla_bench.leaderboards.resampling import Estimate, Floats, Resampling, Sample, percentiles, ratio

Verdict = Literal["higher", "lower", "undecided"]


def front(costs: Floats, values: Floats) -> NDArray[np.bool_]:
    """Return which points (..., P) no other dominates: none costs at most as much and reaches at least as much.

    Points equal in both do not dominate one another.
    """
    mine_cost, other_cost = costs[..., :, None], costs[..., None, :]
    mine, other = values[..., :, None], values[..., None, :]
    dominated = (other_cost <= mine_cost) & (other >= mine) & ((other_cost < mine_cost) | (other > mine))
    return np.logical_not(np.any(dominated, axis=-1))  # type: ignore[no-any-return]  # an array, never a scalar


def front_shares(samples: Sequence[Sample], cost: str, resampling: Resampling) -> list[tuple[bool, float]]:
    """Return for each sample whether it is on the front, and in what share of resamples."""
    if not samples:
        return []
    costs = np.array([ratio(*sample.cost(cost)) for sample in samples], np.float64)
    values = np.array([sample.value.mean() for sample in samples])
    drawn_costs = np.stack([resampling.costs(sample, cost) for sample in samples], axis=1)
    drawn_values = np.stack([_unsure(s, resampling, i) for i, s in enumerate(samples)], axis=1)
    shares = front(drawn_costs, drawn_values).mean(axis=0)
    return [(bool(on), float(share)) for on, share in zip(front(costs, values), shares, strict=True)]


@dataclass(frozen=True)
class Difference:
    """The value of one sample minus what fixed depths reach at its cost."""

    at: float  # the common cost
    value: float
    fixed: float  # interpolated
    weight: float  # of the more expensive neighbour
    difference: Estimate
    n_episodes: int  # that all three share; the smallest number where they share none
    is_paired: bool

    @property
    def verdict(self) -> Verdict:
        """Return what the interval says."""
        if self.difference.low > 0:
            return "higher"
        return "lower" if self.difference.high < 0 else "undecided"


def matched(adaptive: Sample, below: Sample, above: Sample, cost: str, resampling: Resampling) -> Difference | None:
    """Return adaptive minus fixed at equal ``cost``, interpolated linearly between two neighbours.

    None if its cost is not between theirs. Over the episodes that all three played, which are then redrawn together;
    where there are none, each over its own.
    Cost, weight and values are computed anew in each resample; the neighbours stay.
    """
    samples = [adaptive, below, above]
    common = frozenset(adaptive.keys).intersection(below.keys, above.keys)
    if common:
        samples = [sample.only(common) for sample in samples]
    at, low, high = (ratio(*sample.cost(cost)) for sample in samples)
    if at is None or low is None or high is None or not low <= at <= high:
        return None
    weight = 0.0 if low == high else (at - low) / (high - low)
    values = [float(sample.value.mean()) for sample in samples]
    fixed = (1 - weight) * values[1] + weight * values[2]
    drawn = _widened(_drawn_difference(samples, cost, resampling), samples, resampling)
    return Difference(
        at=at,
        value=values[0],
        fixed=fixed,
        weight=weight,
        difference=Estimate(values[0] - fixed, *percentiles(drawn)),
        n_episodes=min(len(sample.keys) for sample in samples),
        is_paired=bool(common),
    )


def _drawn_difference(samples: Sequence[Sample], cost: str, resampling: Resampling) -> Floats:
    at, low, high = (resampling.costs(sample, cost) for sample in samples)
    values, below, above = (resampling.values(sample) for sample in samples)
    gap = high - low
    weight = np.divide(at - low, gap, out=np.zeros_like(gap), where=gap > 0)
    drawn: Floats = values - ((1 - weight) * below + weight * above)
    return drawn


def beside(adaptive: Sample, fixed: Sample, resampling: Resampling) -> Difference:
    """Return the adaptive value minus that of one fixed depth, whatever each costs.

    On common episodes Tango's interval, as ``compare`` has it; bootstrap for chains and without common episodes.
    """
    samples = [adaptive, fixed]
    common = frozenset(adaptive.keys).intersection(fixed.keys)
    if common:
        samples = [sample.only(common) for sample in samples]
    mine, other = (float(sample.value.mean()) for sample in samples)
    if common and _is_binary(samples):
        counts = count(zip(samples[1].value > 0, samples[0].value > 0, strict=True))
        low, high = tango(counts)
    else:
        drawn = resampling.values(samples[0]) - resampling.values(samples[1])
        low, high = percentiles(_widened(drawn, samples, resampling))
    return Difference(
        at=float("nan") if (at := ratio(*samples[0].cost("depth"))) is None else at,
        value=mine,
        fixed=other,
        weight=0.0,
        difference=Estimate(mine - other, low, high),
        n_episodes=min(len(sample.keys) for sample in samples),
        is_paired=bool(common),
    )


def _unsure(sample: Sample, resampling: Resampling, number: int) -> Floats:
    """Return resampled values with one imagined episode of the best and one of the worst value among the N.

    As A. Agresti and B. Coull, Am. Stat. 52 (1998) 119-126 add successes and failures: runs that never fail, or never
    succeed, would otherwise be told apart with certainty by their costs alone.
    """
    n = len(sample.keys)
    unsure: Floats = (n * resampling.values(sample) + sample.best * resampling.imagined(2 + number)) / (n + 2)
    return unsure


def _is_binary(samples: Sequence[Sample]) -> bool:
    return all(not sample.is_chain for sample in samples)


def _widened(drawn: Floats, samples: Sequence[Sample], resampling: Resampling) -> Floats:
    """Return resampled differences with two imagined episodes among the N: one that each side alone wins.

    Without them, runs that agree on every episode would have the interval [0, 0]. In the spirit of A. Agresti and
    Y. Min, Statist. Med. 24 (2005) 729-740, who add such counts to matched proportions. A resample draws each of the
    two Poisson(1) times.
    """
    n = min(len(sample.keys) for sample in samples)
    won = (resampling.imagined(0) - resampling.imagined(1)) * samples[0].best
    widened: Floats = (n * drawn + won) / (n + 2)
    return widened
