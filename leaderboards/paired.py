"""Two runs on the same episodes: what pairs, and what the pairs say.

The unit is a pair: one episode (suite, task, start, repetition, seed) played by A and by B. Every difference is
B minus A. An episode that ended in an ERROR in either run is no pair; it is counted and named.

Non-obvious: p values and intervals speak of these tasks played again from other starts. They do not speak of tasks
nobody played.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest

from rdvla_bench.record import Record
from rdvla_bench.types import Episode, Outcome

Key = tuple[str, int, int, int]  # suite, task, start, repetition
PSEUDO = 2
"""Instructions by which the two chains differ that a bootstrap adds, one in favour of each run."""


@dataclass(frozen=True)
class Pair:
    """One episode, played in both runs without an error."""

    episode: Episode  # as A played it
    a: Record
    b: Record

    @property
    def success(self) -> tuple[bool, bool]:
        """Return whether A, and whether B, succeeded."""
        return self.a.result.outcome is Outcome.SUCCESS, self.b.result.outcome is Outcome.SUCCESS

    @property
    def solved(self) -> tuple[int, int]:
        """Return the chain lengths of A and of B.

        Raises:
            ValueError: the episode is a single task, no chain.
        """
        a, b = self.a.result.solved, self.b.result.solved
        if a is None or b is None:
            raise ValueError(f"{self.episode.id} is no chain")
        return a, b


@dataclass(frozen=True)
class Pairing:
    """The common episodes of two runs, in the order of the board, and what is left out of them."""

    pairs: tuple[Pair, ...]
    errors: tuple[str, ...]  # ids of common episodes that ended in an error in A, in B or in both
    only_a: int  # episodes that B did not play
    only_b: int


@dataclass(frozen=True)
class Counts:
    """The fourfold table of paired outcomes."""

    both: int
    only_a: int  # A succeeded, B did not
    only_b: int
    neither: int

    @property
    def n(self) -> int:
        """Return the number of pairs."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def discordant(self) -> int:
        """Return the number of pairs whose outcomes differ."""
        return self.only_a + self.only_b

    @property
    def rate_a(self) -> float:
        """Return A's success rate over the pairs."""
        return (self.both + self.only_a) / self.n

    @property
    def rate_b(self) -> float:
        """Return B's success rate over the pairs."""
        return (self.both + self.only_b) / self.n

    @property
    def difference(self) -> float:
        """Return rate B minus rate A."""
        return (self.only_b - self.only_a) / self.n


def pair(a: Iterable[Record], b: Iterable[Record], *, across_seeds: bool = False) -> Pairing:
    """Pair the common episodes of two runs.

    Args:
        a: One run.
        b: The other.
        across_seeds: Pair by (suite, task, start, repetition) although the seeds differ. The pairs then share the
            benchmark's start state, but not what the seed places and draws.
    """
    return _join(
        {_key(r.episode, across_seeds): r for r in a},
        {_key(r.episode, across_seeds): r for r in b},
    )


def pair_repetitions(run: Iterable[Record], first: int = 0, second: int = 1) -> Pairing:
    """Pair two repetitions of the same starts within one run: the same policy against itself."""
    records = tuple(run)
    return _join(
        {(*_key(r.episode, True)[:3], 0): r for r in records if r.episode.repetition == first},
        {(*_key(r.episode, True)[:3], 0): r for r in records if r.episode.repetition == second},
    )


def count(outcomes: Iterable[tuple[bool, bool]]) -> Counts:
    """Return the fourfold table of (A succeeded, B succeeded)."""
    seen = [0, 0, 0, 0]
    for a, b in outcomes:
        seen[2 * a + b] += 1
    return Counts(both=seen[3], only_a=seen[2], only_b=seen[1], neither=seen[0])


def mcnemar(counts: Counts) -> float:
    """Return the two-sided exact p value: the discordant pairs as tosses of a fair coin.

    Q. McNemar, Psychometrika 12 (1947) 153-157; exact form: A. Agresti, Categorical Data Analysis (3rd ed., 2013),
    section 11.1.4. 1 where no pair is discordant.
    """
    return float(binomtest(counts.only_b, counts.discordant).pvalue) if counts.discordant else 1.0


def tango_z(counts: Counts, difference: float) -> float:
    """Return Tango's score statistic of the hypothesis that rate B minus rate A is ``difference``.

    T. Tango, Statist. Med. 17 (1998) 891-908, equations for Z(delta) and the restricted maximum-likelihood estimate of
    the smaller discordant probability. Standard normal under the hypothesis; positive if B did better than it says.
    At 0 its square is McNemar's chi-squared.

    Raises:
        ValueError: no pairs, or ``difference`` outside -1..1.
    """
    n, b, c = counts.n, counts.only_b, counts.only_a
    if n == 0 or not -1 <= difference <= 1:
        raise ValueError(f"no score of a difference of {difference} over {n} pairs")
    numerator = b - c - n * difference
    if numerator == 0:
        return 0.0
    linear = (2 * n - b + c) * difference - b - c
    constant = -c * difference * (1 - difference)
    root = math.sqrt(max(linear * linear - 8 * n * constant, 0.0))
    # the larger root of 2n q^2 + linear q + constant = 0, in the form that does not cancel
    q = (root - linear) / (4 * n) if linear <= 0 else -2 * constant / (root + linear)
    variance = n * (2 * max(q, 0.0) + difference * (1 - difference))
    return numerator / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, numerator)


def tango(counts: Counts, confidence: float = 0.95) -> tuple[float, float]:
    """Return Tango's score interval of rate B minus rate A: the differences whose score is within the normal quantile.

    T. Tango, Statist. Med. 17 (1998) 891-908. Recommended for paired proportions by M. W. Fagerland, S. Lydersen and
    P. Laake, Statist. Med. 33 (2014) 2850-2875. One-sided at level alpha: the end at confidence 1 - 2 alpha.

    Raises:
        ValueError: no pairs, which have no interval.
    """
    if counts.n == 0:
        raise ValueError("no pairs have no interval")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    center = counts.difference

    def beyond(end: float, sign: int) -> float:
        if center == end:
            return end
        edge = end * (1 - 1e-12)  # at the end itself the variance is zero
        return float(brentq(lambda d: tango_z(counts, d) + sign * z, *sorted((center, edge)), xtol=1e-12))

    return beyond(-1.0, -1), beyond(1.0, 1)


def clustered_differences(pairs: Iterable[Pair]) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each chain, the summed difference in length and the number of repetitions. Both (C,) int64.

    Repetitions of a chain are no independent chains: they are kept together.
    """
    found: dict[Key, tuple[int, int]] = {}
    for one in pairs:
        key = (*_key(one.episode, True)[:3], 0)
        total, n = found.get(key, (0, 0))
        a, b = one.solved
        found[key] = (total + b - a, n + 1)
    table = np.array(list(found.values()), np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def clustered_interval(
    totals: np.ndarray,
    sizes: np.ndarray,
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean sum(totals) / sum(sizes), resampling clusters.

    Paired: each cluster carries both runs. B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), section
    13.3; clusters as units: A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application (1997), section
    3.8. Clusters with equal (total, size) are exchangeable, so a resample is one multinomial draw over the kinds.

    Non-obvious: one cluster of ``PSEUDO`` and one of ``-PSEUDO`` are added, as A. Agresti and Y. Min, Statist. Med. 24
    (2005) 729-740 add to the cells of paired proportions. Without them 20 chains that came out alike would have the
    interval [0, 0], and where about 2 pairs of 20 differ a bootstrap covers 68 % (docs/statistics.md).

    Raises:
        ValueError: no clusters, which have no interval.
    """
    if not len(totals):
        raise ValueError("no chains have no interval")
    table = np.concatenate([np.stack([totals, sizes], axis=1), [[PSEUDO, 1], [-PSEUDO, 1]]])
    kinds, counts = np.unique(table, axis=0, return_counts=True)
    n = int(counts.sum())
    drawn = rng.multinomial(n, counts / n, size=resamples)
    means = (drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def sign_flip(totals: Sequence[int] | np.ndarray) -> float:
    """Return the two-sided exact p value of integer differences under flips of their signs.

    E. J. G. Pitman, Suppl. J. R. Stat. Soc. 4 (1937) 119-130. The distribution of the sum over all 2^n flips comes from
    convolution, as M. Pagano and D. Tritchler, J. Am. Stat. Assoc. 78 (1983) 435-440. With differences of -1, 0 and 1
    this is the exact McNemar test.
    """
    steps = [int(abs(d)) for d in totals if d]
    reach = sum(steps)
    chance = np.zeros(2 * reach + 1)
    chance[reach] = 1.0
    for step in steps:
        up, down = np.zeros_like(chance), np.zeros_like(chance)
        up[step:], down[:-step] = chance[:-step], chance[step:]
        chance = (up + down) / 2
    seen = abs(int(np.sum(totals)))
    sums = np.abs(np.arange(-reach, reach + 1))
    return min(1.0, float(chance[sums >= seen].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the adjusted p values, in the order given.

    S. Holm, Scand. J. Stat. 6 (1979) 65-70. Written out because importing statsmodels for it costs a second; the tests
    hold it against ``statsmodels.stats.multitest.multipletests(method="holm")``.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def _key(episode: Episode, across_seeds: bool) -> tuple[str, int, int, int, int]:
    seed = -1 if across_seeds else episode.seed
    return episode.suite, episode.task, episode.start, episode.repetition, seed


def _join(a: Mapping[tuple[str | int, ...], Record], b: Mapping[tuple[str | int, ...], Record]) -> Pairing:
    common = sorted(a.keys() & b.keys())
    failed = [k for k in common if Outcome.ERROR in (a[k].result.outcome, b[k].result.outcome)]
    out = set(failed)
    return Pairing(
        pairs=tuple(Pair(a[k].episode, a[k], b[k]) for k in common if k not in out),
        errors=tuple(a[k].episode.id for k in failed),
        only_a=len(a.keys() - b.keys()),
        only_b=len(b.keys() - a.keys()),
    )
