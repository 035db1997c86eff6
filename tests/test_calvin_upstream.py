"""Claims about the adapter over an original checkout: what it says without one, and that it is the original."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rdvla_bench.envs.calvin.upstream import ROOT_VARIABLE, MissingOriginal, NoCheckout, UpstreamWorld, find_checkout
from rdvla_bench.errors import UnknownName

ROOT = os.environ.get(ROOT_VARIABLE, "")
needs_checkout = pytest.mark.skipif(
    not ROOT, reason=f"{ROOT_VARIABLE} is not set: it names a checkout of mees/calvin_env"
)
PARTS = ("calvin_env/envs/play_table_env.py", "conf/env/play_table_env.yaml", "conf/scene/calvin_scene_D.yaml")


def pretended(folder: Path, source: str) -> Path:
    """Return a folder that looks like a checkout, whose environment module is ``source``."""
    for part in PARTS:
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).write_text("")
    (folder / "data").mkdir()
    (folder / "calvin_env" / "__init__.py").write_text("")
    (folder / PARTS[0]).write_text(source)
    return folder


def test_without_a_checkout_the_error_says_how_to_get_and_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    with pytest.raises(NoCheckout, match=rf"none is named.*git clone .*mees/calvin_env.*{ROOT_VARIABLE}"):
        UpstreamWorld("D")


def test_a_folder_that_is_no_checkout_is_refused_with_its_first_missing_part(tmp_path: Path) -> None:
    with pytest.raises(NoCheckout, match=r"calvin_env/envs/play_table_env\.py is missing"):
        UpstreamWorld("D", tmp_path)
    (pretended(tmp_path / "x", "") / "data").rmdir()
    with pytest.raises(NoCheckout, match=r"no checkout of mees/calvin_env: data is missing"):
        UpstreamWorld("D", tmp_path / "x")


def test_the_environment_variable_stands_in_for_the_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(pretended(tmp_path / "x", "")))
    assert find_checkout() == (tmp_path / "x").resolve()
    with pytest.raises(NoCheckout):
        find_checkout(tmp_path)


def test_an_unknown_scene_is_refused_before_anything_is_looked_for() -> None:
    with pytest.raises(UnknownName, match="no scene 'E'"):
        UpstreamWorld("E", "nowhere")


def test_a_missing_package_is_named_with_the_command_that_installs_all(tmp_path: Path) -> None:
    root = pretended(tmp_path / "x", "import a_package_that_nobody_has")
    path, hook, modules = list(sys.path), sys.excepthook, {name: sys.modules.get(name) for name in ("gym", "gym.utils")}
    try:
        with pytest.raises(MissingOriginal, match=r"no module .a_package_that_nobody_has.*pip install pybullet=="):
            UpstreamWorld("D", root)
        assert sys.path == path
        assert sys.excepthook is hook
        assert {name: sys.modules.get(name) for name in modules} == modules
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "calvin_env"]:
            del sys.modules[name]


REPLAY = """
import sys, numpy as np
from rdvla_bench.envs.calvin.upstream import UpstreamWorld
from rdvla_bench.errors import UsageError
folder = sys.argv[1]
start = np.load(f"{folder}/start.npz")
world = UpstreamWorld("D")
rng = np.random.default_rng(0)
actions = np.c_[rng.uniform(-1, 1, (20, 6)), rng.choice([-1.0, 1.0], 20)]
states = []
for _ in range(2):
    world.reset(start["robot_obs"], start["scene_obs"])
    for action in actions:
        world.step(action)
    states.append(world.full_state())
try:
    UpstreamWorld("D")
except UsageError as error:
    second = str(error)
snapshot = world.snapshot()
np.savez(
    f"{folder}/end.npz", states=states, robot_obs=world.robot_obs(), scene_obs=world.scene_obs(), second=second,
    static=world.render("static"), gripper=world.render("gripper"), depth=world.depth("static"),
    blocks=sorted(snapshot.blocks), doors=sorted(snapshot.doors), lights=sorted(snapshot.lights),
)
world.close()
world.close()
"""


FACE = """
import os, sys, numpy as np
from rdvla_bench.envs.calvin.env import CalvinEnv
root = os.environ["CALVIN_ENV_ROOT"]
env = CalvinEnv("calvin_d", cameras=("gripper",), assets=root, backend="upstream", privileged=True)
obs, info = env.reset(options={"chain": 0})
assert obs["images"]["gripper"].shape == (84, 84, 3)
assert info["task"] == info["privileged"]["task"] == "rotate_blue_block_right"
before = obs["proprio"]
obs, reward, terminated, truncated, info = env.step_chunk(np.tile(np.float32([1, 0, 0, 0, 0, 0, 1]), (10, 1)))
assert info["steps"] == 10 and not (terminated or truncated)
assert obs["proprio"][0] - before[0] > 0.1, (obs["proprio"], before)
assert set(info["privileged"]["blocks"]) == {"red", "blue", "pink"}
env.close()
"""


def needs_packages() -> None:
    for module in ("pybullet", "hydra", "omegaconf", "git", "quaternion", "scipy", "cv2"):
        pytest.importorskip(module)


@needs_checkout
def test_an_environment_runs_the_original_behind_the_same_face() -> None:
    needs_packages()
    done = subprocess.run([sys.executable, "-c", FACE], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


@needs_checkout
def test_an_episode_of_the_original_depends_on_its_start_alone(tmp_path: Path) -> None:
    """In a process of its own, since the original wants PyBullet's first client."""
    needs_packages()
    robot_obs = np.zeros(15)
    robot_obs[6:14] = [0.08, -1.21779, 1.03988, 2.11978, -2.34205, -0.87016, 1.64119, 0.55345]
    scene_obs = np.zeros(24)
    scene_obs[[6, 7, 8]] = 0.05, -0.12, 0.46
    scene_obs[[12, 13, 14]] = 0.0703, 0.0924, 0.461
    scene_obs[[18, 19, 20]] = -0.2409, 0.0924, 0.461
    np.savez(tmp_path / "start.npz", robot_obs=robot_obs, scene_obs=scene_obs)
    done = subprocess.run(
        [sys.executable, "-c", REPLAY, str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "disconnecting" not in done.stdout
    end = np.load(tmp_path / "end.npz")
    assert np.array_equal(end["states"][0], end["states"][1])
    assert end["robot_obs"].shape == (15,)
    assert end["scene_obs"].shape == (24,)
    assert end["static"].shape == (200, 200, 3)
    assert end["gripper"].shape == (84, 84, 3)
    assert end["static"].std() > 10  # it shows something
    assert 2 < end["depth"].min() < end["depth"].max() < 10.01
    assert end["blocks"].tolist() == ["blue", "pink", "red"]
    assert end["doors"].tolist() == ["drawer", "slide"]
    assert end["lights"].tolist() == ["led", "lightbulb"]
    assert "process of its own" in str(end["second"])
