"""Claims about the frames of a demonstration that are kept, their labels, and the noise on what is executed."""

from __future__ import annotations

import numpy as np
import pytest

from rdvla_bench.demo_file import Stored
from rdvla_bench.demo_noise import Bursts, NoiseRecipe, advance, begin
from rdvla_bench.demo_record import FrameRule, Take, kept_frames
from rdvla_bench.record import Result
from rdvla_bench.types import Outcome

pytest.importorskip("torch")


from rdvla_bench.commands.demos_folder import goal_rows

RULE = FrameRule(chunk=4, stride=4, contact_stride=2)


def take(
    n: int, *, noisy: tuple[int, ...] = (), closes_at: int = -1, segments: tuple[tuple[int, int], ...] = ()
) -> Take:
    labels = np.zeros((n, 7), np.float32)
    labels[:, 0] = np.arange(n)
    labels[:, 6] = np.where((closes_at >= 0) & (np.arange(n) >= closes_at), 1.0, -1.0)
    clean = ~np.isin(np.arange(n), noisy)
    segments = segments or ((0, n),)
    return Take(Result(Outcome.SUCCESS, steps=n), labels, labels, clean, segments, ("do it",) * len(segments))


def steps_kept(of: Take) -> list[int]:
    return [step for step, _ in kept_frames(of, RULE)]


def test_every_fourth_frame_is_kept_and_every_second_around_the_gripper() -> None:
    assert steps_kept(take(20)) == [0, 4, 8, 12, 16]
    assert steps_kept(take(40, closes_at=24)) == [0, 4, 8, 12, 16, *range(18, 33, 2), 36]


def test_no_label_holds_an_action_that_was_executed_with_noise() -> None:
    noisy = (9, 10)
    kept = steps_kept(take(30, noisy=noisy))
    assert kept == [0, 4, 11, 15, 19, 23, 27]
    assert not any(step <= bad < step + RULE.chunk for step in kept for bad in noisy)


def test_each_subtask_starts_with_a_frame_and_no_label_reaches_into_the_next() -> None:
    chunks = dict(kept_frames(take(12, segments=((0, 6), (6, 12))), RULE))
    assert list(chunks) == [0, 4, 6, 10]
    assert chunks[4][:, 0].tolist() == [4, 5, 5, 5]
    assert chunks[4][:, 6].tolist() == [-1] * 4


def test_after_the_end_a_label_goes_on_with_the_last_action() -> None:
    whole = take(10, closes_at=7)
    chunks = dict(kept_frames(whole, RULE))
    last = chunks[max(chunks)]
    assert last[-1].tolist() == whole.labels[9].tolist()
    assert last[-1, 0] == 9
    assert last[-1, 6] == 1


def test_noise_moves_the_arm_alone_and_is_weaker_near_objects() -> None:
    recipe = NoiseRecipe(jitter=0.0)
    burst = Bursts(rate=0.1, left=5, direction=np.ones(6, np.float32))
    fast, slow = np.array([1, 0, 0, 0, 0, 0, -1], np.float32), np.array([0.1, 0, 0, 0, 0, 0, -1], np.float32)
    at_speed, after = advance(recipe, burst, fast, np.random.default_rng(0))
    near, _ = advance(recipe, burst, slow, np.random.default_rng(0))
    assert at_speed.tolist() == [1] * 6
    assert near.tolist() == [0.5] * 6
    assert after.left == 4


def test_the_recipe_decides_how_many_episodes_are_clean_and_begin_with_a_burst() -> None:
    kinds = [begin(NoiseRecipe(), 8, np.random.default_rng(i)) for i in range(2000)]
    assert np.mean([kind.rate == 0 for kind in kinds]) == pytest.approx(0.15, abs=0.03)
    assert np.mean([kind.rate == 0.035 for kind in kinds]) == pytest.approx(0.60, abs=0.04)
    assert np.mean([kind.left > 0 for kind in kinds]) == pytest.approx(0.425, abs=0.04)
    assert {kind.quiet for kind in kinds if kind.rate and not kind.left} == {8}


def test_an_episode_that_does_not_begin_with_a_burst_begins_with_a_clean_chunk() -> None:
    recipe, label = NoiseRecipe(clean_share=0, start_share=0, mild_rate=1, strong_rate=1), np.ones(7, np.float32)
    now, clean = begin(recipe, 8, np.random.default_rng(0)), []
    for i in range(10):
        noise, now = advance(recipe, now, label, np.random.default_rng(i))
        clean.append(not noise.any())
    assert clean == [True] * 8 + [False] * 2


def test_a_frame_names_the_frame_where_the_gripper_next_switches_or_else_the_tasks_last() -> None:
    grip = np.array([-1, -1, -1, -1, 1, 1, 1, -1, -1, -1, -1, 1], np.float32)
    stored = Stored(
        about={"segments": [[0, 9], [9, 12]]},
        arrays={"frames": np.array([0, 2, 5, 6, 8, 9, 10]), "labels": np.stack([grip, grip], axis=1)},
    )
    # Closes at 4, opens at 7, the second task begins at 9 and closes at 11, after its last kept frame.
    assert goal_rows(stored) == [2, 2, 4, 4, 4, 6, 6]
