"""Claims about two runs on the same episodes: what pairs, and what the pairs say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm, permutation_test
from statsmodels.stats.contingency_tables import mcnemar as theirs
from statsmodels.stats.multitest import multipletests

from rdvla_bench.leaderboards import coverage
from rdvla_bench.leaderboards.paired import (
    Counts,
    clustered_differences,
    clustered_interval,
    count,
    holm,
    mcnemar,
    pair,
    pair_repetitions,
    sign_flip,
    tango,
    tango_z,
)
from rdvla_bench.record import Record, Result
from rdvla_bench.types import Culprit, Episode, Outcome


def played(text: str, *, seed: int = 0, repetition: int = 0, task: int = 0) -> list[Record]:
    """Return one episode a letter: s(uccess), t(imeout), e(rror), or a chain of 0..5."""
    names = {"s": Outcome.SUCCESS, "t": Outcome.TIMEOUT, "e": Outcome.ERROR}
    return [
        Record(
            Episode("suite", task, start, repetition, seed),
            Result(
                names.get(letter, Outcome.SUCCESS if letter == "5" else Outcome.TIMEOUT),
                culprit=Culprit.ENV if letter == "e" else None,
                solved=int(letter) if letter.isdigit() else None,
            ),
        )
        for start, letter in enumerate(text)
    ]


def test_episodes_pair_by_suite_task_start_repetition_and_seed() -> None:
    a = played("sst") + played("ss", task=1)
    b = played("tsst") + played("ss", task=2)
    pairing = pair(a, b)
    assert [p.success for p in pairing.pairs] == [(True, False), (True, True), (False, True)]
    assert (pairing.only_a, pairing.only_b, pairing.errors) == (2, 3, ())


def test_episodes_of_different_seeds_do_not_pair_unless_told_to() -> None:
    a, b = played("sst"), played("sst", seed=1)
    assert pair(a, b).pairs == ()
    assert len(pair(a, b, across_seeds=True).pairs) == 3


def test_an_error_in_either_run_is_no_pair_and_is_named() -> None:
    pairing = pair(played("sets"), played("esss"))
    assert len(pairing.pairs) == 2
    assert pairing.errors == ("suite-t00-s000-r0", "suite-t00-s001-r0")


def test_the_order_of_the_ledgers_changes_nothing() -> None:
    a, b = played("sstt"), played("stst")
    assert pair(a[::-1], b[2:] + b[:2]) == pair(a, b)


def test_two_repetitions_of_one_run_pair_with_themselves() -> None:
    run = played("sst") + played("stt", repetition=1) + played("s", repetition=2)
    assert [p.success for p in pair_repetitions(run).pairs] == [(True, True), (True, False), (False, False)]


def test_the_fourfold_table_counts_each_pair_once() -> None:
    counts = count([(True, True), (True, False), (False, True), (False, True), (False, False)])
    assert counts == Counts(both=1, only_a=1, only_b=2, neither=1)
    assert (counts.rate_a, counts.rate_b, counts.difference) == pytest.approx((2 / 5, 3 / 5, 1 / 5))


@pytest.mark.parametrize("counts", [Counts(10, 0, 0, 2), Counts(3, 1, 7, 9), Counts(0, 12, 2, 0), Counts(1, 40, 55, 2)])
def test_mcnemar_equals_statsmodels(counts: Counts) -> None:
    table = [[counts.both, counts.only_a], [counts.only_b, counts.neither]]
    assert mcnemar(counts) == pytest.approx(theirs(table, exact=True).pvalue, rel=1e-12)


@pytest.mark.parametrize("discordance", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("n", [10, 50, 200])
def test_mcnemar_rejects_true_hypotheses_at_most_at_its_level(n: int, discordance: float) -> None:
    assert coverage.mcnemar_level(n, discordance) <= 0.05  # exact, no simulation


def test_mcnemar_is_no_stricter_than_whole_episodes_make_it() -> None:
    assert coverage.mcnemar_level(500, 0.3) > 0.035


@pytest.mark.parametrize(
    ("table", "confidence", "low", "high"),
    [
        # contact lenses, T. Tango, Statist. Med. 17 (1998) 891-908
        ((43, 0, 1, 0), 0.90, -0.096, 0.037),
        # airways, M. W. Fagerland et al., Statist. Med. 33 (2014) 2850-2875
        ((1, 1, 7, 12), 0.95, -0.517, -0.026),
        # A. Agresti and Y. Min, Statist. Med. 24 (2005) 729-740
        ((53, 16, 8, 9), 0.95, -0.020, 0.207),
        # a further published table, as R's ratesci 0.3 repeats it in its tests
        ((4, 9, 3, 16), 0.95, -0.027, 0.390),
    ],
)
def test_tango_repeats_published_worked_examples(
    table: tuple[int, int, int, int], confidence: float, low: float, high: float
) -> None:
    both, first, second, neither = table  # their difference is first minus second
    assert tango(Counts(both, second, first, neither), confidence) == pytest.approx((low, high), abs=5e-4)


def test_tango_repeats_his_test_of_equivalence_within_ten_points() -> None:
    z = tango_z(Counts(43, 1, 0, 0), -0.1)
    assert (z, 1 - norm.cdf(z)) == pytest.approx((1.709, 0.044), abs=5e-4)


def test_the_score_at_zero_is_mcnemars_chi() -> None:
    for b, c in [(3, 9), (9, 3), (1, 0), (20, 21)]:
        assert tango_z(Counts(50, c, b, 7), 0.0) == pytest.approx((b - c) / math.sqrt(b + c))


def test_tangos_interval_holds_the_difference_turns_with_the_runs_and_stays_inside() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.integers(1, 60))
        both, x, y, neither = (int(k) for k in rng.multinomial(n, rng.dirichlet([0.5] * 4)))
        low, high = tango(Counts(both, x, y, neither))
        assert -1 <= low <= (y - x) / n <= high <= 1
        assert low < high
        assert tango(Counts(both, y, x, neither)) == pytest.approx((-high, -low), abs=1e-9)


def test_both_ends_of_tangos_interval_have_the_normal_quantile_as_their_score() -> None:
    counts = Counts(60, 9, 4, 27)
    low, high = tango(counts)
    assert (tango_z(counts, low), tango_z(counts, high)) == pytest.approx((1.959964, -1.959964), abs=1e-5)


def test_without_a_discordant_pair_tangos_end_is_wilsons() -> None:
    z2 = norm.ppf(0.975) ** 2
    assert tango(Counts(100, 0, 0, 0)) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)), abs=1e-9)


def test_more_confidence_is_wider() -> None:
    counts = Counts(30, 4, 9, 7)
    widths = [high - low for low, high in (tango(counts, c) for c in (0.8, 0.9, 0.95, 0.99))]
    assert widths == sorted(widths)


def test_tango_covers_the_truth_in_95_of_100_runs() -> None:
    covered = [
        coverage.of_tango(n, only_a, only_b, runs=1000)
        for n in (50, 200, 500)
        for only_a, only_b in ((0.05, 0.05), (0.02, 0.06), (0.10, 0.20), (0.15, 0.10))
    ]
    assert 0.93 <= np.mean(covered) <= 0.97
    assert min(covered) >= 0.92


def test_no_pairs_have_no_interval() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        tango(Counts(0, 0, 0, 0))
    with pytest.raises(ValueError, match="no chains"):
        clustered_interval(np.array([], int), np.array([], int), np.random.default_rng(0))


def test_repetitions_of_a_chain_stay_together() -> None:
    a = played("032") + played("11", repetition=1)
    b = played("153") + played("25", repetition=1)
    totals, sizes = clustered_differences(pair(a, b).pairs)
    assert (totals.tolist(), sizes.tolist()) == ([1 + 1, 2 + 4, 1], [2, 2, 1])


def test_single_tasks_have_no_chain_length() -> None:
    with pytest.raises(ValueError, match="is no chain"):
        clustered_differences(pair(played("s"), played("s")).pairs)


@pytest.mark.parametrize(("n", "discordance", "at_most"), [(100, 0.5, 0.97), (50, 0.2, 0.975), (20, 0.05, 1.0)])
def test_the_paired_bootstrap_of_chain_lengths_covers_the_truth_in_95_of_100_runs(
    n: int, discordance: float, at_most: float
) -> None:
    # with few chains that differ it errs towards caution
    assert 0.93 <= coverage.of_length_difference(discordance, n, runs=1000) <= at_most


def test_chains_that_came_out_alike_are_not_certain_to_be_alike() -> None:
    low, high = clustered_interval(np.zeros(20, int), np.ones(20, int), np.random.default_rng(0))
    assert low < -0.15
    assert high > 0.15


def test_the_same_generator_gives_the_same_interval() -> None:
    totals, sizes = np.array([1, -2, 0, 3]), np.ones(4, int)
    twice = [clustered_interval(totals, sizes, np.random.default_rng(7)) for _ in range(2)]
    assert twice[0] == twice[1]


def test_sign_flips_of_single_tasks_are_mcnemar() -> None:
    for x, y in [(0, 0), (0, 5), (3, 9), (9, 3), (40, 61)]:
        assert sign_flip([-1] * x + [1] * y + [0] * 7) == pytest.approx(mcnemar(Counts(0, x, y, 7)), rel=1e-9)


def test_sign_flips_equal_scipy_over_all_permutations() -> None:
    differences = [1, -3, 2, 2, -1, 4, 0, 5]
    exact = permutation_test(
        (np.array(differences),), np.sum, permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    assert sign_flip(differences) == pytest.approx(exact.pvalue)


def test_holm_equals_statsmodels() -> None:
    rng = np.random.default_rng(3)
    for n in (1, 2, 10, 40):
        p_values = (rng.random(n) ** 3).tolist()
        assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([]) == []
