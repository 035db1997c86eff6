"""Claims about LIBERO episodes: what they are a function of, and that they are upstream's own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env

from rdvla_bench.envs.libero import gl
from rdvla_bench.errors import EnvFault, UnknownName, UnknownTask, UsageError
from rdvla_bench.protocol import protocol
from rdvla_bench.types import Observation

pytestmark = pytest.mark.libero
pytest.importorskip("libero")

from rdvla_bench.envs.libero.env import LiberoEnv  # noqa: E402 - needs what was just asked for

ACTIONS = np.random.default_rng(0).uniform(-1, 1, (24, 7)).astype(np.float32)


def sha256(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def fingerprint(obs: Observation) -> str:
    return sha256(obs["proprio"], *(obs["images"][name] for name in sorted(obs["images"])))


def play(env: LiberoEnv, init_state: int, seed: int, n_actions: int = 8) -> list[str]:
    """Return hashes of state and observation after settling and after a chunk."""
    obs, _ = env.reset(seed=seed, options={"init_state": init_state})
    hashes = [env.scene_digest(), sha256(env.get_state()), fingerprint(obs)]
    obs, *_ = env.step_chunk(ACTIONS[:n_actions])
    return [*hashes, sha256(env.get_state()), fingerprint(obs)]


@pytest.fixture(scope="module")
def goal() -> Iterator[LiberoEnv]:
    """A task with a stove, whose fixtures are drawn at each reset, seen by both cameras."""
    env = LiberoEnv("libero_goal", 7)
    yield env
    env.close()


@pytest.fixture(scope="module")
def blind() -> Iterator[LiberoEnv]:
    """The same task without cameras."""
    env = LiberoEnv("libero_goal", 7, cameras=())
    yield env
    env.close()


@pytest.fixture(scope="module")
def soup() -> Iterator[LiberoEnv]:
    """A libero_object task without cameras, capped at 12 steps."""
    card = replace(protocol("libero/paired@1"), max_steps={"libero_object": 12})
    env = LiberoEnv("libero_object", 0, card, cameras=())
    yield env
    env.close()


def test_gymnasium_finds_nothing_wrong() -> None:
    env = gymnasium.make("rdvla_bench/LiberoObject-v0", task=3, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.reset(seed=0)
    frame = env.render()
    assert isinstance(frame, np.ndarray)
    assert frame.shape == (256, 256, 3)
    env.close()


def test_gymnasium_imports_the_registration_on_request() -> None:
    code = """
import gymnasium
env = gymnasium.make("rdvla_bench.envs:rdvla_bench/LiberoObject-v0", task=3, cameras=())
print(env.unwrapped.task, env.get_wrapper_attr("suite").name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("3 libero_object", "")


def test_an_episode_is_the_same_first_in_a_fresh_process_and_after_others(goal: LiberoEnv) -> None:
    code = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_libero_env import LiberoEnv, play
env = LiberoEnv("libero_goal", 7)
print(json.dumps([play(env, 4, 11), play(env, 2, 5)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout.splitlines()[-1])
    goal.reset(seed=1, options={"init_state": 0})
    goal.step_chunk(ACTIONS)
    assert play(goal, 2, 5) == second
    assert play(goal, 4, 11) == first
    assert play(goal, 4, 11) == first


def test_physics_does_not_depend_on_cameras(goal: LiberoEnv, blind: LiberoEnv) -> None:
    for env in (goal, blind):
        obs, _ = env.reset(seed=9, options={"init_state": 3})
        env.step_chunk(ACTIONS)
    assert np.array_equal(goal.get_state(), blind.get_state())
    assert obs["images"] == {}


def test_without_cameras_no_gl_library_is_touched() -> None:
    code = """
from rdvla_bench.envs.libero import gl
from rdvla_bench.envs.libero.env import LiberoEnv
env = LiberoEnv("libero_object", 1, cameras=())
env.reset(seed=0)
env.step_chunk(env.action_space.sample()[None])
maps = open("/proc/self/maps").read() if __import__("os").path.exists("/proc/self/maps") else ""
print(gl._contexts, [name for name in ("libEGL", "libOSMesa") if name in maps])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"


def test_a_chunk_is_its_single_steps(goal: LiberoEnv) -> None:
    goal.reset(seed=2, options={"init_state": 1})
    chunked, *_ = goal.step_chunk(ACTIONS[:5])
    state = goal.get_state()
    goal.reset(seed=2, options={"init_state": 1})
    for action in ACTIONS[:5]:
        single, *_ = goal.step(action)
    assert np.array_equal(goal.get_state(), state)
    assert fingerprint(single) == fingerprint(chunked)


UPSTREAM = """
import sys
import mujoco, numpy as np
from libero.libero import benchmark, get_libero_path
from libero.libero.envs import OffScreenRenderEnv
from robosuite.utils.transform_utils import quat2axisangle

out, actions, init_state, seed = sys.argv[1], np.load(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
suite = benchmark.get_benchmark("libero_goal")()
env = OffScreenRenderEnv(
    bddl_file_name=suite.get_task_bddl_file_path(7), camera_heights=256, camera_widths=256
)
env.seed(seed)
env.reset()
mujoco.mj_resetData(env.sim.model._model, env.sim.data._data)
env.set_init_state(suite.get_task_init_states(7)[init_state])
for _ in range(10):
    obs, *_ = env.step([0, 0, 0, 0, 0, 0, -1])
seen = [obs]
for number, action in enumerate(actions, 1):
    obs, *_ = env.step(action.tolist())
    if number % 8 == 0:
        seen.append(obs)
state = np.concatenate([env.sim.data.qpos, env.sim.data.qvel, env.sim.data.qacc_warmstart, env.sim.data.ctrl])
proprio = [np.concatenate([o["robot0_eef_pos"], quat2axisangle(o["robot0_eef_quat"]), o["robot0_gripper_qpos"]])
           for o in seen]
np.savez(out, state=state, proprio=proprio,
         agentview=[o["agentview_image"][::-1, ::-1] for o in seen],
         wrist=[o["robot0_eye_in_hand_image"][::-1, ::-1] for o in seen])
"""


def test_frames_and_states_are_those_of_upstreams_loop_that_renders_every_step(goal: LiberoEnv, tmp_path: Path) -> None:
    actions = ACTIONS[:16]
    np.save(tmp_path / "actions.npy", actions)
    choice = gl.choose()
    variables = dict(choice.env) or gl.link_bundled(tmp_path)
    command = [sys.executable, "-c", UPSTREAM, str(tmp_path / "out.npz"), str(tmp_path / "actions.npy"), "6", "21"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ) | variables)
    assert done.returncode == 0, done.stderr
    upstream = np.load(tmp_path / "out.npz")

    obs, _ = goal.reset(seed=21, options={"init_state": 6})
    seen = [obs]
    for start in (0, 8):
        obs, *_ = goal.step_chunk(actions[start : start + 8])
        seen.append(obs)
    data = goal.scene.data
    assert np.array_equal(np.concatenate([data.qpos, data.qvel, data.qacc_warmstart, data.ctrl]), upstream["state"])
    assert np.array_equal([o["proprio"] for o in seen], upstream["proprio"].astype(np.float32))
    for camera in ("agentview", "wrist"):
        assert np.array_equal([o["images"][camera] for o in seen], upstream[camera])


@pytest.mark.parametrize(("suite", "task"), [("libero_spatial", 0), ("libero_goal", 8), ("libero_10", 3)])
def test_a_sequential_card_places_what_upstreams_script_places(suite: str, task: int) -> None:
    """One env a task, seeded once, a hard reset before each episode; and episodes can be had in any order."""
    from libero.libero.envs.env_wrapper import ControlEnv

    env = LiberoEnv(suite, task, "libero/openpi@1", cameras=())
    upstream = ControlEnv(env.scene.env.bddl_file_name, use_camera_obs=False, has_offscreen_renderer=False)
    upstream.seed(7)
    expected = []
    for _ in range(3):
        upstream.reset()
        model = upstream.sim.model
        expected.append(np.concatenate([model.body_pos.ravel(), model.body_quat.ravel()]))
    upstream.close()
    for k in (2, 0, 1):
        env.reset(seed=k + 100, options={"init_state": k})
        model = env.scene.model
        assert np.array_equal(np.concatenate([model.body_pos.ravel(), model.body_quat.ravel()]), expected[k])
    env.close()


def test_the_seed_moves_the_fixtures_and_nothing_else(blind: LiberoEnv) -> None:
    placed = []
    for seed in (0, 1, 0):
        blind.reset(seed=seed, options={"init_state": 0})
        placed.append((blind.scene_digest(), blind.scene.model.body_pos.copy()))
    assert placed[0][0] == placed[2][0] != placed[1][0]
    assert 0.001 < np.abs(placed[0][1] - placed[1][1]).max() < 0.05


def test_what_is_not_given_is_drawn_from_the_envs_own_generator(blind: LiberoEnv) -> None:
    def digests() -> list[str]:
        blind.reset(seed=5)
        seeded = blind.scene_digest()
        blind.reset()
        return [seeded, blind.scene_digest()]

    assert digests() == digests()
    assert len(set(digests())) == 2


def test_the_callers_global_generator_is_left_alone(blind: LiberoEnv) -> None:
    np.random.seed(123)  # noqa: NPY002 - the claim is about it
    expected = np.random.RandomState(123).uniform(size=3)
    blind.reset(seed=0)
    assert np.array_equal(np.random.uniform(size=3), expected)  # noqa: NPY002


def test_the_cap_truncates_in_mid_chunk(soup: LiberoEnv) -> None:
    soup.reset(seed=0)
    *_, truncated, info = soup.step_chunk(ACTIONS[:8])
    assert (truncated, info["steps"]) == (False, 8)
    _, reward, terminated, truncated, info = soup.step_chunk(ACTIONS[:8])
    assert (reward, terminated, truncated, info["steps"], info["success"]) == (0.0, False, True, 12, False)
    with pytest.raises(ResetNeeded):
        soup.step(ACTIONS[0])


def test_success_terminates_in_mid_chunk(soup: LiberoEnv) -> None:
    soup.reset(seed=0, options={"init_state": 0})
    env = soup.scene.env
    env.sim.forward()
    basket = env.sim.data.get_site_xpos("basket_1_contain_region")
    env.sim.data.set_joint_qpos(env.get_object("alphabet_soup_1").joints[-1], [*basket, 1, 0, 0, 0])
    _, reward, terminated, truncated, info = soup.step_chunk(np.zeros((8, 7), np.float32))
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    assert info["steps"] < 8
    with pytest.raises(ResetNeeded):
        soup.step(ACTIONS[0])


def test_physics_that_diverges_is_a_fault_of_the_environment(
    soup: LiberoEnv, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo logs into the working folder
    soup.reset(seed=0)
    soup.scene.data.qvel[0] = np.nan
    with pytest.raises(EnvFault, match="libero_object task 0 diverged by step 1"):
        soup.step(ACTIONS[0])
    with pytest.raises(ResetNeeded):
        soup.step(ACTIONS[0])
    soup.reset(seed=0)
    soup.step(ACTIONS[0])


def test_observations_do_not_alias(goal: LiberoEnv) -> None:
    first, _ = goal.reset(seed=3, options={"init_state": 0})
    kept = fingerprint(first)
    goal.step_chunk(ACTIONS)
    assert fingerprint(first) == kept


def test_privileged_state_is_in_info_only_when_asked_for(soup: LiberoEnv) -> None:
    _, info = soup.reset(seed=0)
    assert "privileged" not in info
    env = LiberoEnv("libero_object", 0, cameras=(), privileged=True)
    obs, info = env.reset(seed=0)
    assert "privileged" not in obs
    assert info["privileged"]["objects"]
    env.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"init_state": 50}, "init_state 50 is outside 0..49"), ({"init_stat": 1}, "Did you mean 'init_state'")],
)
def test_bad_reset_options_are_named(soup: LiberoEnv, options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        soup.reset(seed=0, options=options)


@pytest.mark.parametrize(
    "actions", [np.zeros(7), np.zeros((2, 6)), np.zeros((0, 7)), np.full((1, 7), np.nan), np.full((1, 7), np.inf)]
)
def test_bad_actions_are_refused_before_any_step(soup: LiberoEnv, actions: np.ndarray) -> None:
    soup.reset(seed=0)
    before = soup.get_state()
    with pytest.raises(InvalidAction):
        soup.step_chunk(actions)
    assert np.array_equal(soup.get_state(), before)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: LiberoEnv("libero_spatail"), UnknownName),
        (lambda: LiberoEnv("libero_object", 10), UnknownTask),
        (lambda: LiberoEnv("libero_object", protocol="libero/openpi"), UnknownName),
        (lambda: LiberoEnv("libero_object", cameras=("front",)), UnknownName),
        (lambda: LiberoEnv("libero_object", render_mode="human"), UsageError),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_built(make: Callable[[], LiberoEnv], error: type) -> None:
    with pytest.raises(error):
        make()
