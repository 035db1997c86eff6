"""Episodes drawn again: one bootstrap for everything that compares runs.

The tasks of a suite are fixed and its starts are the sample, so episodes are redrawn within each task. Runs that played
the same episodes are redrawn together (paired); others on their own.
B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), sections 13.3 (percentile interval) and 8.3 (more
than one sample).

Letters: N episodes, R resamples, P points.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rdvla_bench.types import Outcome

RESAMPLES = 2000
SEED = 0
"""Of the bootstrap: the same runs give the same intervals."""

MAX_KEPT = 8
"""Sets of episodes whose draws are kept: 16 MB each, of 2000 episodes."""

Floats = NDArray[np.float64]
Key = tuple[str, int, int, int, int]  # suite, task, start, repetition, seed
COSTS = ("depth", "gflop", "model_ms")


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Sample:
    """The scored episodes of one run, sums an episode. Errors are left out, as everywhere on a board."""

    keys: tuple[Key, ...]
    value: Floats  # (N,) 1 or 0 for a task, instructions done in a row for a chain
    depth: Floats  # (N,) iterations of all queries together
    queries: Floats  # (N,)
    steps: Floats  # (N,) control steps
    flops: Floats  # (N,) NaN where unknown
    model_s: Floats  # (N,) of all queries together
    is_chain: bool = False
    best: float = 1.0  # the highest value an episode can have

    @classmethod
    def of(cls, results: pd.DataFrame, executions: pd.DataFrame, n_instructions: int = 1) -> Sample:
        """Take the scored rows of the frames of one run, which are in the same order."""
        chosen = (results["outcome"] != Outcome.ERROR.value).to_numpy(bool)
        rows, costs = results[chosen], executions[chosen]
        succeeded = (rows["outcome"] == Outcome.SUCCESS.value).to_numpy(np.float64)
        solved = rows["solved"].to_numpy(np.float64)
        return cls(
            keys=episode_keys(rows),
            value=np.where(np.isnan(solved), succeeded, solved),
            depth=np.array([sum(depths) for depths in rows["depths"]], np.float64),
            queries=rows["queries"].to_numpy(np.float64),
            steps=rows["steps"].to_numpy(np.float64),
            flops=rows["flops"].to_numpy(np.float64),
            model_s=np.array([sum(seconds) for seconds in costs["model_s"]], np.float64),
            is_chain=n_instructions > 1,
            best=float(n_instructions),
        )

    def only(self, keys: frozenset[Key]) -> Sample:
        """Return the episodes in ``keys``, in this order."""
        chosen = np.array([key in keys for key in self.keys], bool)
        kept = tuple(key for key in self.keys if key in keys)
        return Sample(
            keys=kept,
            value=self.value[chosen],
            depth=self.depth[chosen],
            queries=self.queries[chosen],
            steps=self.steps[chosen],
            flops=self.flops[chosen],
            model_s=self.model_s[chosen],
            is_chain=self.is_chain,
            best=self.best,
        )

    def cost(self, name: str) -> tuple[Floats, Floats]:
        """Return numerator and denominator (N,) of a cost of ``COSTS``.

        depth: iterations a query; gflop: GFLOP a control step, so that neither an early success nor a short horizon
        changes what is compared; model_ms: milliseconds a query.
        """
        if name == "depth":
            return self.depth, self.queries
        return (self.flops / 1e9, self.steps) if name == "gflop" else (1e3 * self.model_s, self.queries)


def episode_keys(results: pd.DataFrame) -> tuple[Key, ...]:
    """Return what tells the episodes of the rows apart, in their order."""
    rows = results[["suite", "task", "start", "repetition", "seed"]].itertuples(index=False)
    return tuple((str(s), int(t), int(k), int(r), int(seed)) for s, t, k, r, seed in rows)


def ratio(numerator: Floats, denominator: Floats) -> float | None:
    """Return the ratio of sums; None of nothing and of what is unknown."""
    total, n = float(numerator.sum()), float(denominator.sum())
    return total / n if n > 0 and np.isfinite(total) else None


def draw_counts(keys: Sequence[Key], rng: np.random.Generator, resamples: int = RESAMPLES) -> NDArray[np.float32]:
    """Return (R, N): how often each episode is drawn, as many a task as the task has."""
    tasks = [key[:2] for key in keys]
    counts = np.zeros((resamples, len(keys)), np.float32)
    for task in dict.fromkeys(tasks):
        at = np.array([i for i, other in enumerate(tasks) if other == task])
        counts[:, at] = rng.multinomial(len(at), np.full(len(at), 1 / len(at)), size=resamples)
    return counts


class Resampling:
    """Draws once for each set of episodes: equal sets get equal draws, which pairs their runs."""

    def __init__(self, resamples: int = RESAMPLES, seed: int = SEED) -> None:
        """Begin with nothing drawn."""
        self._resamples, self._seed = resamples, seed
        self._drawn: dict[tuple[Key, ...], NDArray[np.float32]] = {}

    def counts(self, keys: tuple[Key, ...]) -> NDArray[np.float32]:
        """Return (R, N). The set alone decides what is drawn, so that it may be forgotten and drawn again."""
        if keys not in self._drawn:
            while len(self._drawn) >= MAX_KEPT:
                del self._drawn[next(iter(self._drawn))]
            digest = hashlib.sha256(repr(keys).encode()).digest()
            rng = np.random.default_rng([self._seed, int.from_bytes(digest[:16], "big")])
            self._drawn[keys] = draw_counts(keys, rng, self._resamples)
        return self._drawn[keys]

    def imagined(self, number: int) -> Floats:
        """Return how often imagined episode ``number`` is drawn in each resample, (R,): Poisson with mean 1."""
        return np.random.default_rng([self._seed, number]).poisson(1, self._resamples).astype(np.float64)

    def values(self, sample: Sample) -> Floats:
        """Return the mean value in each resample, (R,)."""
        means: Floats = self.counts(sample.keys) @ sample.value
        return means / max(len(sample.keys), 1)

    def costs(self, sample: Sample, name: str) -> Floats:
        """Return a cost in each resample, (R,)."""
        numerator, denominator = sample.cost(name)
        return self.ratios(sample.keys, numerator, denominator)

    def ratios(self, keys: tuple[Key, ...], numerator: Floats, denominator: Floats) -> Floats:
        """Return the ratio of sums of (N,) or (N, G) arrays in each resample, (R,) or (R, G); NaN of nothing."""
        counts = self.counts(keys)
        below: Floats = counts @ denominator
        above: Floats = counts @ numerator
        ratios: Floats = np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
        return ratios


def percentiles(draws: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of resampled values, NaN left out."""
    low, high = np.nanquantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
