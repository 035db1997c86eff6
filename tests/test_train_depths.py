"""How deep training thinks: the published distribution, number by number."""

from __future__ import annotations

import numpy as np
import pytest

from rdvla_bench.policies.rdvla.training.depth_sampling import DepthDistribution

DRAWS = 400_000


@pytest.fixture(scope="module")
def depths():
    return DepthDistribution().draw(np.random.default_rng(0), DRAWS)


def test_the_depths_have_the_published_moments(depths) -> None:
    # Standard errors at 400k draws: mean 0.024, P(N <= 8) 0.019 %, P(N = 64) 0.038 %; the facts are rounded.
    assert depths.mean() == pytest.approx(31.9, abs=0.12)
    assert np.median(depths) == 29
    assert (depths <= 8).mean() == pytest.approx(0.015, abs=0.001)
    assert (depths == 64).mean() == pytest.approx(0.061, abs=0.0015)


def test_the_depths_stay_in_their_bounds(depths) -> None:
    assert depths.min() >= 1
    assert depths.max() == 64


def test_the_distribution_agrees_with_its_formula_summed_numerically(depths) -> None:
    # P(N = n) = integral of Poisson(n - 1; min(e^tau, 100)) over the normal density of tau.
    from math import lgamma

    z = np.linspace(-8, 8, 4001)
    density = np.exp(-(z**2) / 2)
    density /= density.sum()
    rate = np.minimum(np.exp(np.log(32) - 0.125 + 0.5 * z), 100.0)
    n = np.arange(1, 64)
    log_pmf = (n[:, None] - 1) * np.log(rate) - rate - np.array([lgamma(i) for i in n])[:, None]
    expected = (np.exp(log_pmf) * density).sum(axis=1)
    expected = np.append(expected, 1 - expected.sum())  # all that is clipped to 64
    seen = np.bincount(depths, minlength=65)[1:] / DRAWS
    assert np.abs(seen - expected).max() < 5 * np.sqrt(expected.max() / DRAWS)


def test_a_smaller_mean_moves_the_depths() -> None:
    shallow = DepthDistribution(mean=8).draw(np.random.default_rng(0), 100_000)
    assert shallow.mean() == pytest.approx(9.0, abs=0.1)  # mu + 1; almost nothing is clipped
