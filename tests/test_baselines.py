"""Random and hold."""

from __future__ import annotations

import numpy as np
import pytest

from rdvla_bench.errors import UsageError
from rdvla_bench.policies.baselines import hold, random_policy
from rdvla_bench.types import Observation

OBS: Observation = {"images": {}, "proprio": np.zeros(8, np.float32), "instruction": "pick up the milk"}


def test_random_actions_are_a_function_of_the_generator() -> None:
    policy = random_policy()
    a, b, c = (policy.act(OBS, None, np.random.default_rng(seed))[0].actions for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert a.shape == (8, 7)
    assert a.dtype == np.float32
    assert np.abs(a).max() <= 1


def test_hold_moves_nothing_and_opens_the_gripper() -> None:
    actions = hold(chunk=3).act(OBS, None, np.random.default_rng(0))[0].actions
    np.testing.assert_array_equal(actions, np.tile(np.float32([0, 0, 0, 0, 0, 0, -1]), (3, 1)))


@pytest.mark.parametrize("factory", [random_policy, hold])
def test_baselines_render_no_camera_and_have_no_weights(factory) -> None:
    card = factory(chunk=4).card
    assert card.cameras == ()
    assert card.weights == "none"
    assert card.chunk == 4
    with pytest.raises(UsageError, match="chunk must be at least 1, got 0"):
        factory(chunk=0)
