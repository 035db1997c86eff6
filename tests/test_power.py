"""Claims about how many paired episodes a question needs."""

from __future__ import annotations

import numpy as np
import pytest

from rdvla_bench.leaderboards.paired import Counts, mcnemar
from rdvla_bench.leaderboards.power import connor, detectable, independent_discordance, pairs_needed, power_of


def test_the_formula_repeats_its_own_arithmetic() -> None:
    # (1.959964 sqrt(0.2) + 0.841621 sqrt(0.19))^2 / 0.01 = 154.7..., by hand
    assert connor(0.1, 0.2) == 155
    assert connor(-0.1, 0.2) == 155


@pytest.mark.parametrize(("n", "difference", "discordance"), [(100, 0.1, 0.2), (300, 0.05, 0.1), (50, -0.2, 0.3)])
def test_power_is_the_share_of_simulated_comparisons_that_reject(n: int, difference: float, discordance: float) -> None:
    rng = np.random.default_rng(0)
    b, c = (discordance + difference) / 2, (discordance - difference) / 2
    drawn = rng.multinomial(n, [b, c, 1 - discordance], size=4000)
    known = {(x, y): mcnemar(Counts(n - x - y, y, x, 0)) <= 0.05 for x, y, _ in set(map(tuple, drawn.tolist()))}
    share = np.mean([known[x, y] for x, y, _ in drawn.tolist()])
    assert power_of(n, difference, discordance) == pytest.approx(share, abs=0.025)


@pytest.mark.parametrize(("difference", "discordance"), [(0.02, 0.04), (0.05, 0.15), (0.1, 0.2), (0.2, 0.2)])
def test_the_number_needed_reaches_its_power_and_is_near_connors(difference: float, discordance: float) -> None:
    n = pairs_needed(difference, discordance)
    assert power_of(n, difference, discordance) >= 0.8
    assert connor(difference, discordance) <= n <= 1.25 * connor(difference, discordance) + 10


def test_what_n_pairs_detect_needs_n_pairs() -> None:
    d = detectable(500, 0.1)
    assert d is not None
    assert power_of(500, d, 0.1) >= 0.8 > power_of(500, d - 2e-3, 0.1)


def test_five_pairs_detect_nothing() -> None:
    assert detectable(5, 0.5) is None
    assert power_of(5, 0.5, 0.5) == 0.0  # five tosses of one kind have p = 0.0625


def test_agreement_saves_episodes() -> None:
    unrelated = independent_discordance(0.90, 0.93)
    assert unrelated == pytest.approx(0.9 * 0.07 + 0.93 * 0.1)
    assert connor(0.03, 0.05) < connor(0.03, unrelated) / 2


@pytest.mark.parametrize(("difference", "discordance"), [(0.0, 0.1), (0.2, 0.1), (0.1, 1.2)])
def test_impossible_differences_are_refused(difference: float, discordance: float) -> None:
    with pytest.raises(ValueError, match="discordance"):
        connor(difference, discordance)


def test_levels_outside_zero_and_one_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        connor(0.1, 0.2, power=1.0)
