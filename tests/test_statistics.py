"""Claims about the formulas of a board."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from rdvla_bench.leaderboards.statistics import mean, quantile, spread, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_repeats_the_worked_examples_of_newcombe_1998(successes: int, n: int, low: float, high: float) -> None:
    # Table I, method 3, of Statist. Med. 17 (1998) 857-872
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("n", [1, 2, 10, 50, 500, 2000])
def test_wilson_equals_scipy_for_every_count(n: int) -> None:
    for k in {0, 1, n // 3, n // 2, n - 1, n}:
        theirs = binomtest(k, n).proportion_ci(method="wilson")
        assert wilson(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_is_symmetric_and_stays_inside_zero_and_one() -> None:
    for k in range(51):
        low, high = wilson(k, 50)
        mirrored = wilson(50 - k, 50)
        assert 0 <= low <= k / 50 <= high <= 1
        assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_no_episodes_have_no_interval(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="no interval"):
        wilson(successes, n)


def test_mean_spread_and_quantile_are_numpys() -> None:
    values = np.random.default_rng(0).normal(5, 2, 101).tolist()
    assert mean(values) == pytest.approx(np.mean(values))
    assert spread(values) == pytest.approx(np.std(values, ddof=1))
    for q in (0.0, 0.5, 0.95, 1.0):
        assert quantile(values, q) == pytest.approx(np.quantile(values, q))


def test_the_mean_does_not_depend_on_the_order() -> None:
    values = np.random.default_rng(1).lognormal(0, 8, 200).tolist()
    assert mean(values) == mean(sorted(values)) == mean(values[::-1])


def test_nothing_has_no_mean_spread_or_quantile() -> None:
    assert (mean([]), spread([1.0]), quantile([], 0.5)) == (None, None, None)
