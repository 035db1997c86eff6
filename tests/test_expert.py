"""Claims about the scripted expert: its geometry, its controller, its planning, and that it solves real tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rdvla_bench.policies.expert import expert, expert_noisy, geometry
from rdvla_bench.policies.expert.grasp import grasps
from rdvla_bench.policies.expert.hand import collides
from rdvla_bench.policies.expert.move import CLOSED, OPEN, Move, action, has_arrived, is_over
from rdvla_bench.policies.expert.planner import next_goal, plan
from rdvla_bench.policies.expert.reach import lean_at, stretch
from rdvla_bench.policies.expert.scripted import Expert, Progress, advance
from rdvla_bench.registry import load_policy
from rdvla_bench.rollout import Trace, rollout
from rdvla_bench.types import Episode, Outcome

DOWN = geometry.grip_down(np.pi / 2)


def box(owner: str, half: tuple[float, float, float], pos: tuple[float, float, float]) -> dict[str, Any]:
    """One box as a part of the privileged view."""
    return {
        "owner": owner,
        "pos": np.array(pos),
        "mat": np.eye(3),
        "centers": np.zeros((1, 3)),
        "mats": np.eye(3)[None],
        "halves": np.array([half]),
    }


def scene(**changes: Any) -> dict[str, Any]:
    """A hand over a table with a small box and a flat plate."""
    thing = {"movable": True, "mat": np.eye(3), "held": False, "touched": False, "lo": -np.ones(3), "hi": np.ones(3)}
    view = {
        "goal": (("on", "box_1", "plate_1"),),
        "holds": (False,),
        "eef_pos": np.array([-0.2, 0.0, 1.1]),
        "eef_mat": DOWN,
        "shoulder": np.array([-0.66, 0.0, 1.24]),
        "gripper": 0.08,
        "objects": {
            "box_1": {**thing, "kind": "box", "pos": np.array([0.0, -0.1, 0.93])},
            "plate_1": {**thing, "kind": "plate", "pos": np.array([0.0, 0.2, 0.905])},
        },
        "parts": {
            "box_1_main": box("box_1", (0.04, 0.02, 0.03), (0.0, -0.1, 0.93)),
            "plate_1_main": box("plate_1", (0.07, 0.07, 0.005), (0.0, 0.2, 0.905)),
        },
        "sites": {},
        "joints": {},
    }
    return {**view, **changes}


@pytest.mark.parametrize("seed", range(20))
def test_rotation_vector_inverts_turn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    angle = rng.uniform(0.0, np.pi - 1e-3)
    assert np.allclose(geometry.rotation_vector(geometry.turn(axis, angle)), axis * angle, atol=1e-7)


def test_rotation_vector_survives_half_a_turn() -> None:
    for axis in np.eye(3):
        mat = geometry.turn(axis, np.pi)
        assert np.allclose(np.abs(geometry.rotation_vector(mat)), np.pi * axis, atol=1e-6)


def test_grip_frames_are_rotations_that_point_where_asked() -> None:
    mat = geometry.grip_down(0.3)
    assert np.allclose(mat.T @ mat, np.eye(3))
    assert np.linalg.det(mat) == pytest.approx(1.0)
    assert np.allclose(mat[:, 2], [0, 0, -1])
    assert np.allclose(mat[:, 0], [np.cos(0.3), np.sin(0.3), 0])


def test_the_hand_never_turns_more_than_a_quarter_to_swap_fingers() -> None:
    for angle in np.linspace(0, 2 * np.pi, 13):
        chosen = geometry.nearest_grip(geometry.grip_down(float(angle)), DOWN)
        assert np.linalg.norm(geometry.rotation_vector(chosen @ DOWN.T)) <= np.pi / 2 + 1e-6


def test_the_hand_leans_only_where_the_arm_would_be_straight() -> None:
    shoulder = np.array([0.0, 0.0, 0.33])
    assert np.allclose(lean_at(shoulder, np.array([0.45, 0.0, 0.05]), DOWN), np.eye(3))
    far = np.array([0.82, 0.0, 0.05])
    assert stretch(shoulder, far, lean_at(shoulder, far, DOWN) @ DOWN) < stretch(shoulder, far, DOWN)


def test_actions_point_at_the_target_and_stay_in_range() -> None:
    view = scene()
    move = Move(np.array([0.5, 0.0, 1.1]), DOWN, CLOSED)
    command = action(view, move)
    assert command[0] == pytest.approx(1.0)
    assert np.allclose(command[1:6], 0, atol=1e-6)
    assert command[6] == CLOSED
    assert np.all(np.abs(action(view, replace(move, mat=geometry.grip_down(-1.0)))[3:6]) <= 1.0)


def test_a_hand_that_has_all_but_stopped_goes_on_to_its_next_move() -> None:
    view, policy = scene(), expert()
    short = Move(view["eef_pos"] + [0.0, 0.002, 0.0], DOWN, OPEN, tol=0.001)
    after = replace(short, pos=view["eef_pos"] + [0.0, 0.3, 0.0])
    state = Progress(program=(short, after), goal=next_goal(view))
    walked = []
    for _ in range(5):
        _, state = policy.act({"images": {}, "privileged": view}, state, np.random.default_rng(0))
        walked.append(state.index)
    assert walked == [0, 0, 0, 1, 1]
    held = replace(short, hold="box_1")
    waits = Progress(program=(held, after), goal=next_goal(view))
    for _ in range(10):
        _, waits = policy.act({"images": {}, "privileged": view}, waits, np.random.default_rng(0))
    assert waits.index == 0


def test_a_move_ends_by_arrival_joint_or_limit() -> None:
    view = scene(joints={"knob": {"value": 0.7}})
    there = Move(view["eef_pos"], DOWN, OPEN)
    away = Move(view["eef_pos"] + 0.3, DOWN, OPEN, limit=5)
    assert has_arrived(view, there)
    assert is_over(view, there, 0)
    assert not is_over(view, replace(there, dwell=3), 2)
    assert not is_over(view, away, 4)
    assert is_over(view, away, 5)
    assert is_over(view, replace(away, until=("knob", 0.5, 2.0)), 0)


def test_a_box_is_taken_across_its_short_side_by_a_hand_that_fits() -> None:
    view = scene()
    best = grasps(view, "box_1")[0]
    assert best.width == pytest.approx(0.04, abs=0.005)
    assert abs(best.mat[1, 0]) == pytest.approx(1.0, abs=0.02)
    assert not collides(geometry.sample_object(view, "box_1", 0.004), best.pos, best.mat)


def test_no_grasp_is_wider_than_the_hand_opens() -> None:
    view = scene()
    view["parts"]["box_1_main"]["halves"] = np.array([[0.05, 0.034, 0.03]])
    assert all(grasp.width <= 0.068 for grasp in grasps(view, "box_1"))


def test_the_plan_picks_what_lies_and_places_what_is_held() -> None:
    names = [move.name for move in plan(scene(), 0)]
    assert names[-3:] == ["close", "take", "lift"]
    view = scene()
    view["objects"]["box_1"]["held"] = True
    assert [move.name for move in plan(view, 0)] == ["raise", "carry", "lower", "open", "leave"]


def test_closing_waits_until_all_else_holds() -> None:
    goal = (("close", "drawer"), ("in", "box_1", "drawer"))
    assert next_goal(scene(goal=goal, holds=(False, False))) == goal[1]
    assert next_goal(scene(goal=goal, holds=(False, True))) == goal[0]
    assert next_goal(scene(goal=goal, holds=(True, True))) is None


def test_losing_the_object_abandons_the_program_and_counts_an_attempt() -> None:
    view = scene()
    now = advance(view, Progress())
    lift = now.program[-1]
    assert lift.keep == "box_1"
    now = replace(now, index=len(now.program) - 1, loose=4)
    after = advance(view, now)
    assert after.attempt == 1
    assert after.index == 0


def test_noise_comes_from_the_given_generator_alone() -> None:
    policy, obs = expert_noisy(noise=0.3), {"images": {}, "privileged": scene()}
    first, second, other = (policy.act(obs, Progress(), np.random.default_rng(s))[0].actions for s in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert policy.card.config == {"noise": 0.3}
    assert expert().card.privileged


def test_acting_leaves_the_given_state_as_it_was() -> None:
    policy, state = expert(), Progress()
    policy.act({"images": {}, "privileged": scene()}, state, np.random.default_rng(0))
    assert state.program == ()
    assert state.ticks == 0


# real episodes


@contextmanager
def made(suite: str, task: int) -> Iterator[Any]:
    pytest.importorskip("libero")
    from rdvla_bench.envs.libero.env import LiberoEnv

    env = LiberoEnv(suite=suite, task=task, cameras=(), privileged=True)
    yield env
    env.close()


def turns(env: Any, policy: Expert, episode: Episode) -> Iterator[np.ndarray]:
    """Play one episode, yielding each action; the outcome is the generator's value."""
    loop = rollout(env, episode, start_option="init_state", horizon=policy.horizon, max_horizon=None, trace=Trace())
    state, chunk = policy.initial_state(episode), None
    while True:
        try:
            query = loop.send(chunk)
        except StopIteration as end:
            return end.value[0]
        chunk, state = policy.act(query.obs, state, np.random.default_rng(query.seed))
        yield chunk.actions[0]


def outcome(play: Any) -> tuple[Outcome, np.ndarray]:
    """Run a generator of ``turns`` to its end."""
    actions = []
    while True:
        try:
            actions.append(next(play))
        except StopIteration as end:
            return end.value, np.array(actions)


@pytest.mark.libero
@pytest.mark.parametrize(
    ("suite", "task"), [("libero_spatial", 0), ("libero_object", 0), ("libero_goal", 0), ("libero_10", 5)]
)
def test_the_expert_solves_a_task_of_every_suite(suite: str, task: int) -> None:
    with made(suite, task) as env:
        assert outcome(turns(env, expert(), Episode(suite, task, 0, 0, 0)))[0] is Outcome.SUCCESS


@pytest.mark.libero
def test_a_missed_handle_is_left_outwards_not_up_against_the_handle_above() -> None:
    with made("libero_goal", 0) as env:  # the middle drawer
        obs, info = env.reset(seed=0, options={"init_state": 0})
        demonstrator, state, missing, over = expert(), None, 0, False
        while not over:
            chunk, state = demonstrator.act({**obs, **info}, state, np.random.default_rng(0))
            actions = chunk.actions
            if missing < 8 and (
                missing or actions[0, 6] > 0
            ):  # it would grip: close and sink beside the handle instead
                actions = np.array([[0, 0, -0.4, 0, 0, 0, 1]], np.float32)
                missing, state = missing + 1, None
            obs, _, success, truncated, info = env.step_chunk(actions)
            over = success or truncated
        assert success
        assert info["steps"] < 190  # 140; 230 to 260 where it rises first


@pytest.mark.libero
def test_interleaved_episodes_on_one_policy_equal_separate_ones() -> None:
    policy = expert_noisy(noise=0.2)
    episodes = [Episode("libero_object", 1, start, 0, 0) for start in (0, 1)]
    with made("libero_object", 1) as first, made("libero_object", 1) as second:
        alone = [outcome(turns(first, expert_noisy(noise=0.2), e))[1] for e in episodes]
        plays = [turns(env, policy, e) for env, e in zip((first, second), episodes, strict=True)]
        together: list[list[np.ndarray]] = [[], []]
        running = {0, 1}
        while running:
            for i in sorted(running):
                step = next(plays[i], None)
                if step is None:
                    running.discard(i)
                else:
                    together[i].append(step)
    for separate, mixed in zip(alone, together, strict=True):
        assert np.array_equal(separate, np.array(mixed))


@pytest.mark.libero
def test_the_view_costs_less_than_a_millisecond_and_stays_true_of_its_moment() -> None:
    import time

    with made("libero_spatial", 0) as env:
        _, info = env.reset(seed=0, options={"init_state": 0})
        before = info["privileged"]["eef_pos"].copy()
        begun = time.process_time()
        for _ in range(20):
            env._view()
        assert (time.process_time() - begun) / 20 < 2e-3  # 0.1 ms here; room for a slow machine
        env.step_chunk(np.ones((3, 7), np.float32))
        assert np.array_equal(info["privileged"]["eef_pos"], before)


def test_the_expert_loads_by_name_again_and_again() -> None:
    assert [load_policy("expert").card.name for _ in range(2)] == ["expert", "expert"]
