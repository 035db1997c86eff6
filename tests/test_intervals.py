"""Claims about the intervals of means over tasks, and of chains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rdvla_bench.leaderboards.chains import length_interval
from rdvla_bench.leaderboards.intervals import (
    Stratum,
    clustered_bootstrap,
    equally_weighted,
    in_a_row_bootstrap,
    in_a_row_intervals,
    stratified_bootstrap,
    stratified_wilson,
    weighted_mean,
)
from rdvla_bench.leaderboards.statistics import wilson

RATES = {
    "easy": np.full(10, 0.97),
    "even": np.linspace(0.80, 1.00, 10),
    "mixed": np.linspace(0.30, 0.95, 10),
}
RARE = np.array([0.1, *[0.0] * 9])  # one task of ten fails now and then


def coverage(method: Callable[[list[tuple[int, int]]], tuple[float, float]], rates: np.ndarray, n: int) -> float:
    """Return the share of 1000 simulated runs whose interval holds the true mean."""
    rng = np.random.default_rng(5)
    runs = rng.binomial(n, rates, size=(1000, len(rates)))
    truth, covered = rates.mean(), 0
    for successes in runs.tolist():
        low, high = method([(s, n) for s in successes])
        covered += low <= truth <= high
    return covered / len(runs)


def test_wilson_covers_the_truth_in_95_of_100_runs_on_average_over_rates() -> None:
    # exact, over the binomial; averaged over the rates, as R. G. Newcombe (1998) does
    from scipy.stats import binom

    for n in (10, 50, 500):
        ends = np.array([wilson(k, n) for k in range(n + 1)])
        rates = np.linspace(0.01, 0.99, 197)
        chance = [binom.pmf(np.arange(n + 1), n, p)[(ends[:, 0] <= p) & (p <= ends[:, 1])].sum() for p in rates]
        assert 0.93 <= np.mean(chance) <= 0.97


def test_the_boards_interval_covers_the_truth_in_95_of_100_runs() -> None:
    covered = [
        coverage(lambda counts: stratified_wilson(equally_weighted(counts)), rates, n)
        for rates in RATES.values()
        for n in (10, 50)
    ]
    assert 0.93 <= np.mean(covered) <= 0.97
    assert min(covered) >= 0.92  # outcomes are whole episodes: a single cell may lie off by two points


def test_the_stratified_bootstrap_covers_the_truth_in_95_of_100_runs_unless_failures_are_few() -> None:
    rng = np.random.default_rng(6)
    covered = {
        (name, n): coverage(
            lambda counts: stratified_bootstrap(equally_weighted(counts), rng, resamples=1000), rates, n
        )
        for name, rates, n in (("even", RATES["even"], 50), ("mixed", RATES["mixed"], 10), ("hard", 1 - RARE, 10))
    }
    assert 0.93 <= (covered["even", 50] + covered["mixed", 10]) / 2 <= 0.97
    assert covered["hard", 10] < 0.75  # why boards print the other one


@pytest.mark.parametrize("n_tasks", [10, 40])
def test_the_clustered_bootstrap_covers_the_mean_over_all_tasks_in_95_of_100_runs(n_tasks: int) -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(1000):
        rates = rng.binomial(20, rng.beta(4, 2, n_tasks)) / 20
        low, high = clustered_bootstrap(rates.tolist(), rng, resamples=1000)
        covered += low <= 4 / 6 <= high
    assert 930 <= covered <= 970


@pytest.mark.parametrize("chances", [[0.1, 0.1, 0.15, 0.15, 0.2, 0.3], [0.01, 0.01, 0.01, 0.01, 0.01, 0.95]])
def test_the_bootstrap_of_chain_length_covers_the_truth_in_95_of_100_runs(chances: list[float]) -> None:
    rng = np.random.default_rng(8)
    truth, covered = float(np.arange(6) @ chances), 0
    for _ in range(1000):
        low, high = length_interval(rng.choice(6, size=100, p=chances).tolist(), 5, rng, resamples=1000)
        covered += low <= truth <= high
    assert 930 <= covered <= 975


def test_perfect_chains_are_not_certain() -> None:
    few, many = (length_interval([5] * n, 5, np.random.default_rng(0)) for n in (20, 1000))
    assert few[0] < 4.7 < many[0] < 5.0
    assert few[1] == many[1] == 5.0


def test_a_perfect_run_is_not_certain() -> None:
    perfect = equally_weighted([(50, 50)] * 10)
    assert stratified_bootstrap(perfect, np.random.default_rng(0)) == (1.0, 1.0)
    low, high = stratified_wilson(perfect)
    assert (low, high) == pytest.approx(wilson(500, 500))


def test_strata_that_differ_narrow_the_interval() -> None:
    same = stratified_wilson(equally_weighted([(25, 50)] * 10))
    apart = stratified_wilson(equally_weighted([(5, 50), (45, 50)] * 5))
    assert apart[1] - apart[0] < 0.7 * (same[1] - same[0])


def test_suites_may_weigh_their_tasks_unequally() -> None:
    strata = [Stratum(10, 10, 0.5), Stratum(0, 10, 0.25), Stratum(10, 10, 0.25)]
    assert weighted_mean(strata) == 0.75
    for low, high in (stratified_wilson(strata), stratified_bootstrap(strata, np.random.default_rng(0))):
        assert low <= 0.75 <= high


def test_the_clustered_interval_is_wider_than_the_stratified_one_where_tasks_differ() -> None:
    counts = [(s, 50) for s in (10, 50, 30, 45, 20)]
    rng = np.random.default_rng(0)
    near, far = (
        stratified_bootstrap(equally_weighted(counts), rng),
        clustered_bootstrap([s / n for s, n in counts], rng),
    )
    assert far[0] < near[0] < near[1] < far[1]


def test_shares_in_a_row_have_wilsons_interval_and_fall() -> None:
    lengths = [5, 5, 3, 0, 1]
    intervals = in_a_row_intervals(lengths, 5)
    assert intervals[0] == wilson(4, 5)
    assert intervals[4] == wilson(2, 5)
    assert [high for _, high in intervals] == sorted((high for _, high in intervals), reverse=True)


def test_bootstrap_and_wilson_of_the_shares_agree_for_many_chains() -> None:
    lengths = np.random.default_rng(1).integers(0, 6, 1000).tolist()
    boot = in_a_row_bootstrap(lengths, 5, np.random.default_rng(2))
    assert np.array(boot) == pytest.approx(np.array(in_a_row_intervals(lengths, 5)), abs=0.004)


def test_the_same_generator_gives_the_same_interval() -> None:
    strata = equally_weighted([(3, 10), (7, 10)])
    for method in (
        lambda rng: stratified_bootstrap(strata, rng),
        lambda rng: clustered_bootstrap([0.3, 0.7, 0.5], rng),
        lambda rng: in_a_row_bootstrap([1, 2, 5], 5, rng),
    ):
        assert method(np.random.default_rng(3)) == method(np.random.default_rng(3))


def test_nothing_has_no_interval() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least one task"):
        stratified_wilson([])
    with pytest.raises(ValueError, match="episodes in every task"):
        stratified_bootstrap([Stratum(0, 0, 1.0)], rng)
    with pytest.raises(ValueError, match="sum to 1"):
        weighted_mean([Stratum(1, 2, 0.5)])
    with pytest.raises(ValueError, match="at least two"):
        clustered_bootstrap([0.5], rng)
    with pytest.raises(ValueError, match="no chains"):
        in_a_row_bootstrap([], 5, rng)
