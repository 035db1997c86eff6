"""Claims about what the network reads of each benchmark."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from rdvla_bench.errors import UnknownName, UsageError
from rdvla_bench.policies.rdvla.config import NANO, NANO_CONV_GRIP, RDVLA_05B
from rdvla_bench.policies.rdvla.conventions import (
    BENCHMARKS,
    Convention,
    axis_angle_matrix,
    benchmark_with,
    euler_matrix,
    read_proprio,
)
from rdvla_bench.registry import load_policy

CALVIN = BENCHMARKS["calvin"]
UNTRAINED = {"checkpoint": "untrained"}


def test_a_policy_is_told_which_benchmark_it_plays() -> None:
    assert load_policy("rdvla-adaptive", UNTRAINED, "calvin").card.cameras == ("static", "gripper")
    assert load_policy("rdvla-adaptive", UNTRAINED, "libero").card.cameras == ("agentview", "wrist")
    insisting = load_policy("rdvla-adaptive", {**UNTRAINED, "benchmark": "calvin"}, "libero")
    assert insisting.card.config["benchmark"] == "calvin"


def test_a_policy_without_such_a_parameter_is_told_nothing() -> None:
    assert load_policy("random", {}, "calvin").card.name == "random"


def test_an_untrained_policy_answers_a_calvin_observation() -> None:
    policy = load_policy("rdvla-adaptive", UNTRAINED, "calvin")
    images = {"static": np.zeros((200, 200, 3), np.uint8), "gripper": np.zeros((84, 84, 3), np.uint8)}
    obs = {"images": images, "proprio": np.zeros(15, np.float32), "instruction": "open the drawer"}
    chunk, _ = policy.act(obs, None, np.random.default_rng(0))  # type: ignore[arg-type]
    assert chunk.actions.shape == (8, 7)


def test_released_weights_read_eight_of_calvins_fifteen_values() -> None:
    raw = np.arange(15, dtype=np.float32)
    assert read_proprio(CALVIN, "as-is", raw, raw).tolist() == [0, 1, 2, 3, 4, 5, 6, 14]


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_model_that_does_not_read_the_gripper_sees_no_change_of_it(benchmark: str) -> None:
    here = BENCHMARKS[benchmark]
    opened = np.zeros(here.n_proprio, np.float32)
    closed = opened.copy()
    closed[[here.reads[-2], here.reads[-1]]] = 1.0
    moved = opened.copy()
    moved[here.reads[2]] = 1.0
    one, other, third = (read_proprio(here, "matrix", raw, raw, gripper=False) for raw in (opened, closed, moved))
    assert one.shape == (9,)
    assert np.array_equal(one, other)
    assert not np.array_equal(one, third)
    with pytest.raises(UsageError, match="11 proprio values, but with rotation 'matrix' and gripper False there are 9"):
        replace(NANO, gripper=False)


def test_a_model_may_be_told_that_it_closed_on_nothing_and_no_more_of_the_gripper() -> None:
    here = BENCHMARKS["libero"]
    raw = np.zeros((4, 8), np.float32)
    raw[:, 6] = [
        0.0400,
        0.0105,
        0.0016,
        0.0004,
    ]  # open, a box, a bowl's rim, nothing: half of what is between the fingers
    raw[:, 7] = -raw[:, 6]
    for rotation, width in (("as-is", 7), ("matrix", 10)):
        told = read_proprio(here, rotation, raw, raw, gripper="empty")  # type: ignore[arg-type]
        assert told.shape == (4, width)
        assert told.dtype == np.float32
        assert told[:, -1].tolist() == [0, 0, 0, 1]
        assert np.array_equal(told[:, :-1], read_proprio(here, rotation, raw, raw, gripper=False))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"hold nothing was not measured in calvin; choose .* nano-conv"):
        NANO_CONV_GRIP.on("calvin")


def test_rotations_agree_with_scipys() -> None:
    rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    vectors = np.random.default_rng(0).uniform(-3, 3, (50, 3)).astype(np.float32)
    vectors[0] = 0
    np.testing.assert_allclose(axis_angle_matrix(vectors), rotation.from_rotvec(vectors).as_matrix(), atol=1e-6)
    np.testing.assert_allclose(euler_matrix(vectors), rotation.from_euler("xyz", vectors).as_matrix(), atol=1e-6)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_turn_across_pi_does_not_jump(benchmark: str) -> None:
    here: Convention = BENCHMARKS[benchmark]
    seen = []
    for angle in (np.pi - 1e-3, -(np.pi - 1e-3)):
        raw = np.zeros(here.n_proprio, np.float32)
        raw[3] = angle
        seen.append(read_proprio(here, "matrix", raw, raw))
    assert seen[0].shape == (11,)
    assert np.abs(seen[0] - seen[1]).max() < 0.01


def test_cameras_tell_the_benchmark() -> None:
    assert benchmark_with({"wrist", "agentview", "side"}) == "libero"
    assert benchmark_with(["static", "gripper"]) == "calvin"
    with pytest.raises(UsageError, match="cameras nose are those of no benchmark"):
        benchmark_with(["nose"])


def test_a_config_on_another_benchmark_differs_in_its_cameras_alone() -> None:
    moved = RDVLA_05B.on("calvin")
    assert moved.backbone.cameras == ("static", "gripper")
    assert moved.on("libero") == RDVLA_05B
    with pytest.raises(UnknownName, match="no benchmark 'calvn'"):
        NANO.on("calvn")
