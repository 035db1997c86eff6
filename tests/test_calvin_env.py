"""Claims about CALVIN as an environment: its face, its chains, what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env

import rdvla_bench  # noqa: F401 - registers the environments
from rdvla_bench.errors import UnknownName, UnknownTask, UsageError

pytest.importorskip("pybullet")

from rdvla_bench.envs.calvin.env import CalvinEnv
from rdvla_bench.envs.calvin.suites import INSTRUCTIONS
from rdvla_bench.registry import load_suite

pytestmark = pytest.mark.calvin
STAY = np.array([[0, 0, 0, 0, 0, 0, 1]], np.float32)


@pytest.fixture(scope="module")
def blind() -> Iterator[CalvinEnv]:
    env = CalvinEnv("calvin_d", cameras=())
    yield env
    env.close()


@pytest.mark.parametrize("scene", "ABCD")
def test_gymnasiums_checker_has_nothing_to_say(scene: str) -> None:
    env = gymnasium.make(f"rdvla_bench/Calvin{scene}-v0", render_mode="rgb_array")
    check_env(env.unwrapped, skip_close_check=True)
    env.close()


def test_the_observation_has_the_documented_layout() -> None:
    env = CalvinEnv("calvin_d", privileged=True, depth=True)
    obs, info = env.reset(options={"chain": 0})
    assert {name: (image.shape, str(image.dtype)) for name, image in obs["images"].items()} == {
        "static": ((200, 200, 3), "uint8"),
        "gripper": ((84, 84, 3), "uint8"),
    }
    assert (obs["proprio"].shape, str(obs["proprio"].dtype)) == ((15,), "float32")
    assert obs["instruction"] == "take the blue block and rotate it to the right"
    assert info["privileged"]["scene"].shape == (24,)
    assert {name: depth.shape for name, depth in info["depth"].items()} == {"static": (200, 200), "gripper": (84, 84)}
    assert 2.0 < np.median(info["depth"]["static"]) < 6.0  # the static camera stands 4.3 m away
    env.close()


def test_a_chain_fixes_the_episode_and_a_seed_draws_a_chain(blind: CalvinEnv) -> None:
    first, _ = blind.reset(options={"chain": 7})
    digest = blind.scene_digest()
    again, _ = blind.reset(options={"chain": 7})
    assert np.array_equal(first["proprio"], again["proprio"])
    assert blind.scene_digest() == digest
    blind.reset(options={"chain": 8})
    assert blind.scene_digest() != digest
    drawn = [blind.reset(seed=3)[1]["task"] and blind.scene_digest() for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_a_chunk_is_its_steps_one_by_one(blind: CalvinEnv) -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (16, 7)).astype(np.float32)
    blind.reset(options={"chain": 2})
    for action in actions:
        blind.step(action)
    one_by_one = blind.get_state()
    blind.reset(options={"chain": 2})
    blind.step_chunk(actions)
    assert np.array_equal(one_by_one, blind.get_state())


def test_rendering_does_not_touch_the_physics(blind: CalvinEnv) -> None:
    seeing = CalvinEnv("calvin_d")
    actions = np.random.default_rng(1).uniform(-1, 1, (8, 7)).astype(np.float32)
    states = []
    for env in (blind, seeing):
        env.reset(options={"chain": 4})
        env.step_chunk(actions)
        states.append(env.get_state())
    seeing.close()
    assert np.array_equal(*states)


def test_a_subtask_is_cut_off_at_the_cards_cap(blind: CalvinEnv) -> None:
    blind.reset(options={"chain": 0})
    for _ in range(44):
        *_, terminated, truncated, info = blind.step_chunk(STAY.repeat(8, axis=0))
        assert not terminated
        assert not truncated
    *_, terminated, truncated, info = blind.step_chunk(STAY.repeat(50, axis=0))
    assert (terminated, truncated, info["steps"], info["subtask"]) == (False, True, 360, 0)
    with pytest.raises(ResetNeeded):
        blind.step(STAY[0])


def test_the_800_step_card_cuts_off_later() -> None:
    env = CalvinEnv("calvin_d", cameras=(), protocol="calvin/procedural-800@1")
    env.reset(options={"chain": 0})
    *_, truncated, info = env.step_chunk(STAY.repeat(900, axis=0))
    assert (truncated, info["steps"]) == (True, 800)
    env.close()


def test_an_episode_after_a_varied_look_shows_the_pixels_of_a_fresh_environment() -> None:
    used, fresh = CalvinEnv("calvin_d"), CalvinEnv("calvin_d")
    varied, _ = used.reset(seed=1, options={"tasks": [], "look": 4})
    wanted, _ = fresh.reset(options={"chain": 3})
    seen, _ = used.reset(options={"chain": 3})
    for camera, image in wanted["images"].items():
        np.testing.assert_array_equal(seen["images"][camera], image)
        assert not np.array_equal(varied["images"][camera], image)
    used.close()
    fresh.close()


def test_no_evaluation_asks_for_a_varied_look() -> None:
    for name in "abcd":
        suite = load_suite(f"calvin_{name}")
        assert suite.start_option == "chain"  # beside which a look is refused
        assert bool(suite.demo_starts) == (name != "d")


def test_who_sees_nothing_may_name_a_look_and_moves_alike(blind: CalvinEnv) -> None:
    states = []
    for options in ({"tasks": []}, {"tasks": [], "look": 9}):
        blind.reset(seed=2, options=options)
        blind.step_chunk(STAY)
        states.append(blind.get_state())
    assert np.array_equal(*states)


def press(env: CalvinEnv) -> tuple[list[Any], dict[str, Any]]:
    """Push the button of scene D down and let go, from the neutral pose; return what was observed."""
    seen = []
    info: dict[str, Any] = {}
    for height, n_steps in ((0.55, 40), (0.47, 30), (0.55, 30)):
        for _ in range(n_steps):
            obs, reward, terminated, _, info = env.step_absolute(
                np.array([-0.12, -0.12, height]), np.array([np.pi, 0, np.pi / 2]), -1.0
            )
            seen.append((obs, reward, terminated))
            if terminated:
                return seen, info
    return seen, info


def test_a_subtask_done_shows_the_next_instruction_and_judges_from_there(blind: CalvinEnv) -> None:
    scene = np.zeros(24)
    scene[6:9], scene[12:15], scene[18:21] = (0.1, -0.1, 0.46), (0.2, -0.1, 0.46), (0.3, -0.1, 0.46)
    obs, info = blind.reset(seed=0, options={"scene_obs": scene, "tasks": ["turn_on_led", "turn_off_led"]})
    assert (obs["instruction"], info["task"]) == (INSTRUCTIONS["turn_on_led"], "turn_on_led")
    seen, info = press(blind)
    rewards = [reward for _, reward, _ in seen]
    assert rewards.count(1.0) == 1  # the second press has not come
    assert seen[rewards.index(1.0)][0]["instruction"] == INSTRUCTIONS["turn_off_led"]
    assert (info["subtask"], info["task"], info["success"]) == (1, "turn_off_led", False)
    seen, info = press(blind)
    assert (seen[-1][2], info["subtask"], info["success"]) == (True, 2, True)


def test_free_play_lists_what_was_achieved_since_the_mark(blind: CalvinEnv) -> None:
    scene = np.zeros(24)
    scene[6:9], scene[12:15], scene[18:21] = (0.1, -0.1, 0.46), (0.2, -0.1, 0.46), (0.3, -0.1, 0.46)
    obs, info = blind.reset(seed=0, options={"scene_obs": scene})
    assert (obs["instruction"], info["achieved"]) == ("", ())
    assert "subtask" not in info
    _, info = press(blind)
    assert info["achieved"] == ("turn_on_led",)
    blind.mark()
    _, info = press(blind)
    assert info["achieved"] == ("turn_off_led",)


def test_of_the_gripper_only_the_sign_counts(blind: CalvinEnv) -> None:
    states = []
    for value in (1.0, 0.1):
        blind.reset(options={"chain": 0})
        blind.step_chunk(np.array([[0, 0, 0, 0, 0, 0, value]], np.float32))
        states.append(blind.get_state())
    assert np.array_equal(*states)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"chain": 1000}, "chain 1000 is outside 0..999"),
        ({"chain": -1}, "chain -1 is outside"),
        ({"init_state": 0}, "no reset option 'init_state'"),
        ({"robot_obs": [1, 2]}, r"shape \(2,\), expected \(15,\)"),
        ({"scene_obs": [np.nan] * 24}, "holds nan at index 0"),
        ({"scene_obs": "here"}, "no array of 24 numbers"),
        ({"tasks": ["open_drawr"]}, "Did you mean 'open_drawer'"),
        ({"chain": 1, "tasks": []}, "exclude each other"),
        ({"chain": 1, "look": 3}, "'chain' and 'look' exclude each other"),
        ({"look": "oak"}, "'look' is 'oak', expected a whole number from 0 on"),
        ({"chain": 1, "button": 0.1}, "'chain' and 'button' exclude each other"),
        ({"button": 0.1}, "reset option 'button' .*: give 'look' too"),
        ({"look": 3, "button": 0.5}, "'button' is 0.5, expected x in m, -0.36 to 0.36"),
        ({"look": 3, "button": "left"}, "'button' is 'left', expected x in m"),
        ({"drawer": 0.1}, "reset option 'drawer' .*: give 'look' too"),
        ({"look": 3, "drawer": -0.21}, "'drawer' is -0.21, expected x in m, -0.2 to 0.2"),
        ({"look": -1}, "'look' is -1, expected"),
        ({"look": True}, "'look' is True, expected"),
    ],
)
def test_a_start_that_cannot_be_made_is_refused(blind: CalvinEnv, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        blind.reset(options=options)


@pytest.mark.parametrize("actions", [np.zeros(7), np.zeros((0, 7)), np.zeros((2, 6)), np.full((1, 7), np.nan)], ids=str)
def test_actions_that_are_none_are_refused(blind: CalvinEnv, actions: np.ndarray) -> None:
    blind.reset(options={"chain": 0})
    with pytest.raises(InvalidAction):
        blind.step_chunk(actions)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"suite": "calvin_e"}, UnknownName, "Did you mean"),
        ({"task": 1}, UnknownTask, "calvin_d"),
        ({"cameras": ("wrist",)}, UnknownName, "CALVIN has static, gripper"),
        ({"protocol": "libero/paired@1"}, UsageError, "caps libero_spatial"),
        ({"protocol": "calvin/abcd@1"}, UsageError, "assets=PATH"),
        ({"backend": "mujoco"}, UnknownName, "pybullet or upstream"),
        ({"backend": "upstream"}, UsageError, "procedural"),
        ({"renderer": "vulkan"}, UnknownName, "renderer"),
        ({"render_mode": "human"}, UsageError, "rgb_array"),
        ({"assets": "nowhere", "protocol": "calvin/procedural@1"}, UsageError, "original's look"),
    ],
)
def test_what_cannot_be_built_is_refused(
    arguments: dict[str, Any], error: type[UsageError], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=said):
        CalvinEnv(**arguments)


def test_state_only_worlds_need_no_assets_under_any_card() -> None:
    env = CalvinEnv("calvin_d", cameras=(), protocol="calvin/abcd@1")
    assert env.appearance == ""
    env.close()
