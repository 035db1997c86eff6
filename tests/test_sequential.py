"""Claims about the test that may look after every episode."""

from __future__ import annotations

import numpy as np
import pytest

from rdvla_bench.leaderboards.gate_simulation import Scene, draw, simulate
from rdvla_bench.leaderboards.sequential import SequentialTest, order


@pytest.mark.parametrize("about", [False, True])
@pytest.mark.parametrize("changed", [0.06, 0.2])
def test_at_the_margin_each_wrong_verdict_is_rarer_than_alpha(changed: float, about: bool) -> None:
    scene = Scene(margin=0.05, changed=changed, difference=-0.05, most=600, about=about)
    found = simulate(scene, 0.1, 1000, np.random.default_rng(0))
    assert found.passes <= 0.1 + 3 * np.sqrt(0.09 / 1000)
    assert found.regressions <= 0.1 + 3 * np.sqrt(0.09 / 1000)
    assert found.passes + found.regressions > 0.02  # the test does decide


def test_error_rates_hold_for_chain_lengths() -> None:
    rng = np.random.default_rng(0)
    test = SequentialTest(0.2, 0.1, bound=5, streams=1000)
    for _ in range(400):  # a chain changes with chance 0.1, by -5..1, by -2 on average: the mean is -0.2
        test.observe(rng.integers(-5, 2, 1000) * (rng.random(1000) < 0.1))
    assert 0 < (test.verdicts == 1).mean() <= 0.1 + 3 * np.sqrt(0.09 / 1000)
    assert 0 < (test.verdicts == -1).mean() <= 0.1 + 3 * np.sqrt(0.09 / 1000)


def test_equal_policies_pass_and_a_lost_tenth_is_found_long_before_all_episodes_are_played() -> None:
    equal = simulate(Scene(0.02, 0.03, 0.0, 2000), 0.05, 200, np.random.default_rng(0))
    worse = simulate(Scene(0.02, 0.15, -0.10, 2000), 0.05, 200, np.random.default_rng(0))
    assert equal.passes > 0.97
    assert equal.mean < 2000 / 3
    assert worse.regressions > 0.99
    assert worse.mean < 2000 / 9


def test_a_claim_about_the_episodes_needs_fewer_of_them() -> None:
    found = [simulate(Scene(0.05, 0.1, 0.0, 500, about), 0.05, 200, np.random.default_rng(0)) for about in (0, 1)]
    assert found[1].mean < 0.85 * found[0].mean


def test_when_every_episode_is_known_the_claim_about_them_is_decided() -> None:
    for lost in (9, 11):
        test = SequentialTest(0.1, 1e-9, population=100)
        for difference in order([-1] * lost + [0] * (100 - lost), np.random.default_rng(0)):
            test.observe(np.array([difference]))
        assert test.verdict == ("pass" if lost == 9 else "regression")


def test_a_verdict_stands_whatever_comes_after() -> None:
    test = SequentialTest(0.2, 0.05)
    for difference in [0] * 30 + [-1] * 30:
        test.observe(np.array([difference]))
    assert test.verdict == "pass"
    assert test.decided_at[0] < 30


def test_streams_do_not_touch_each_other() -> None:
    rows = draw(Scene(0.05, 0.3, -0.05, 100), 5, np.random.default_rng(3))
    together = SequentialTest(0.05, 0.05, streams=5)
    for row in rows:
        together.observe(row)
    for i in range(5):
        alone = SequentialTest(0.05, 0.05)
        for row in rows:
            alone.observe(row[i : i + 1])
        assert alone._log_pass[0] == pytest.approx(together._log_pass[i])
        assert alone.verdicts[0] == together.verdicts[i]


def test_the_capital_of_no_change_grows_as_its_stakes_say() -> None:
    test = SequentialTest(0.02, 0.05)
    for _ in range(50):
        test.observe(np.array([0]))
    assert 1 < test.capitals[0] <= (1 + 0.02 * 0.9 / 0.98) ** 50
    assert test.capitals[1] < 1


def test_more_differences_than_the_population_are_refused() -> None:
    test = SequentialTest(0.02, 0.05, population=1)
    test.observe(np.array([0]))
    with pytest.raises(ValueError, match="more differences"):
        test.observe(np.array([0]))


def test_the_order_is_a_permutation_that_mixes_tasks() -> None:
    items = [(task, start) for task in range(10) for start in range(50)]
    mixed = order(items, np.random.default_rng(0))
    assert sorted(mixed) == items
    assert len({task for task, _ in mixed[:30]}) > 6
