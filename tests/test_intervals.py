"""Claims about the intervals of means over tasks, and of chains."""

from __future__ import annotations

import numpy as np
import pytest

from rdvla_bench.leaderboards import coverage
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


def test_wilson_covers_the_truth_in_95_of_100_runs_on_average_over_rates() -> None:
    for n in (10, 50, 500):
        assert 0.93 <= coverage.of_wilson(n) <= 0.97


def test_the_boards_interval_covers_the_truth_in_95_of_100_runs() -> None:
    covered = [
        coverage.of_tasks(lambda counts: stratified_wilson(equally_weighted(counts)), rates, n, runs=1000)
        for rates in coverage.TASKS.values()
        for n in (10, 50)
    ]
    assert 0.93 <= np.mean(covered) <= 0.97
    assert min(covered) >= 0.91  # outcomes are whole episodes: a single cell may lie off by some points


def test_the_bootstrap_within_tasks_covers_the_truth_unless_failures_are_few() -> None:
    rng = np.random.default_rng(6)
    mixed, rare = (
        coverage.of_tasks(
            lambda counts: stratified_bootstrap(equally_weighted(counts), rng, resamples=1000), rates, 10, runs=1000
        )
        for name, rates in coverage.TASKS.items()
        if "30 to 95" in name or "nine of 100" in name
    )
    assert 0.93 <= mixed <= 0.97
    assert rare < 0.75  # why boards print the other one


@pytest.mark.parametrize("n_tasks", [10, 40])
def test_the_bootstrap_over_tasks_covers_the_mean_over_all_tasks_in_95_of_100_runs(n_tasks: int) -> None:
    assert 0.93 <= coverage.of_tasks_drawn(n_tasks) <= 0.97


@pytest.mark.parametrize("name", coverage.LENGTHS)
def test_the_bootstrap_of_chain_length_covers_the_truth_in_95_of_100_runs(name: str) -> None:
    assert 0.93 <= coverage.of_length(coverage.LENGTHS[name], 100, runs=1000) <= 0.98


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
