"""The few formulas of a board, each with its source. Standard library only, so a progress display can use them too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion, without continuity correction.

    E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212; method 3 of R. G. Newcombe, Statist. Med. 17 (1998)
    857-872, whose Table I the tests repeat. Written out because importing scipy or statsmodels for it costs most
    of a second; the tests hold it against ``scipy.stats.binomtest(...).proportion_ci(method="wilson")``.

    Raises:
        ValueError: ``n`` is not positive or ``successes`` lies outside 0..n. No episodes have no interval.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} episodes have no interval")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    center = (successes + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(successes * (n - successes) / n + z * z / 4)
    low = 0.0 if successes == 0 else center - half  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if successes == n else center + half
    return low, high


def mean(values: Sequence[float]) -> float | None:
    """Return the arithmetic mean, None of nothing. Exactly rounded sums: the order of ``values`` cannot matter."""
    return math.fsum(values) / len(values) if values else None


def spread(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation (divisor n - 1), None of fewer than two values."""
    center = mean(values)
    if center is None or len(values) < 2:
        return None
    return math.sqrt(math.fsum((v - center) ** 2 for v in values) / (len(values) - 1))


def quantile(values: Sequence[float], q: float) -> float | None:
    """Return the ``q`` quantile by linear interpolation, None of nothing.

    Type 7 of R. J. Hyndman and Y. Fan, Am. Stat. 50 (1996) 361-365, which is numpy's default.
    """
    if not values:
        return None
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])
