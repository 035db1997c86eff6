"""Runs the original environment, from a checkout of mees/calvin_env that the user has, behind our world's face.

Nothing of it is contained here: its code is imported from the checkout when a world is made. What it needs beside
PyBullet is named by ``MissingOriginal``. Its configuration is composed by hand from the checkout's ``conf`` folder,
since the file it usually comes from ships with data sets of gigabytes only.

Non-obvious:
    * The original creates one body on PyBullet's client 0, whatever its own client is. So it must be the first world
      of its process, and the only one.
    * It imports ``gym``, which is no longer maintained; Gymnasium stands in for it during the import.
    * Pictures come from TinyRenderer: its EGL plug-in ends the process where no GPU answers.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.envs.calvin.scenes import SCENES
from rdvla_bench.envs.calvin.snapshot import TABLE, BlockState, Contact, Floats, Snapshot
from rdvla_bench.envs.calvin.visual import Variation
from rdvla_bench.errors import EnvFault, UnknownName, UsageError

ROOT_VARIABLE = "CALVIN_ENV_ROOT"
_NEEDS = "pybullet==3.2.7 hydra-core omegaconf gitpython numpy-quaternion scipy opencv-python-headless"
_CAMERAS = ("static", "gripper")
_PARTS = ("calvin_env/envs/play_table_env.py", "conf/env/play_table_env.yaml", "conf/scene/calvin_scene_D.yaml", "data")
_BODIES = range(7)  # robot, its base cylinder, three blocks, table, plane


class NoCheckout(UsageError):
    """No checkout of the original environment where one was looked for."""

    def __init__(self, said: str) -> None:
        """Say what was looked at, and how to get a checkout and name it."""
        super().__init__(
            f"{said}. Get one with `git clone https://github.com/mees/calvin_env` and give its path, as an argument "
            f"or in {ROOT_VARIABLE}"
        )


class MissingOriginal(UsageError):
    """A package that the original environment imports and that is not installed."""

    def __init__(self, name: str | None) -> None:
        """Name the module that was not found and the command that installs everything the original needs."""
        super().__init__(
            f"the original CALVIN environment imports what is not installed (no module '{name}'): pip install {_NEEDS}"
        )


def find_checkout(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the checkout at ``root``, or at ``CALVIN_ENV_ROOT`` where no root is given; its ``data`` folder will do.

    Raises:
        NoCheckout: neither is given, or the folder is no checkout; the first missing part is named.
    """
    given = root or os.environ.get(ROOT_VARIABLE)
    if not given:
        raise NoCheckout("backend 'upstream' runs a checkout of mees/calvin_env, and none is named")
    folder = Path(given).expanduser().resolve()
    if folder.name == "data" and (folder.parent / _PARTS[0]).exists():
        folder = folder.parent
    for part in _PARTS:
        if not (folder / part).exists():
            raise NoCheckout(f"{folder} is no checkout of mees/calvin_env: {part} is missing")
    return folder


class UpstreamWorld:
    """The original's world: the same numbers in, the same numbers out as ``World``.

    Every reset loads all bodies anew and sets back what the original leaves from the episode before (the gripper's
    last action, the button's last reading, contact caches), so that an episode depends on its start alone.
    """

    def __init__(self, scene: str = "D", root: str | os.PathLike[str] | None = None, button: str | None = None) -> None:
        """Import the original and build it.

        ``button`` is ``"main"`` or ``"pinned"``, the rule the caller counts on; None takes what the checkout has.

        Raises:
            UsageError: an unknown scene, no checkout, a package it needs is missing, a checkout with the other
                button rule, or another PyBullet world in this process.
        """
        if scene not in SCENES:
            raise UnknownName("scene", scene, SCENES, f"CALVIN has {', '.join(SCENES)}")
        self.scene = SCENES[scene]
        self.root = find_checkout(root)
        self._module = _import(self.root)
        self._bullet: Any = self._module.p
        if self._bullet.getConnectionInfo(0)["isConnected"]:
            raise UsageError(
                "the original CALVIN environment puts a body on PyBullet's client 0, which another world of this "
                "process holds: close that one, or start a process of its own for each world"
            )
        self._original: Any = _build(self._module, self.root, scene)
        self.cameras: Mapping[str, Any] = {camera.name: camera for camera in self._original.cameras}
        self._original.cameras = []  # so that it does not draw in every step
        self._original.close = lambda: None  # its destructor calls it, after us, and prints
        self.client: int = self._original.cid
        self.robot_id: int = self._original.robot.robot_uid
        self.table_id = TABLE
        self._info: Mapping[str, Any] = {}
        self._is_closed = False
        self.button = self._button_rule()
        if button not in (None, self.button):
            self.close()
            raise UsageError(
                f"the checkout {self.root} has the button rule '{self.button}', not '{button}': check out 797142c "
                f"for 'main', 1431a46 for 'pinned'"
            )

    @property
    def original(self) -> Any:
        """The original's own environment object, its cameras taken out."""
        return self._original

    @property
    def target_pos(self) -> Floats:
        """Return the target (3,) on which relative actions build, in m."""
        return np.array(self._original.robot.target_pos, np.float64)

    @property
    def target_euler(self) -> Floats:
        """Return the target's Euler angles (3,), in rad."""
        return np.array(self._original.robot.target_orn, np.float64)

    @property
    def commit(self) -> str:
        """Return the checkout's commit, or an empty string where git does not know it."""
        try:
            done = subprocess.run(
                ["git", "-C", str(self.root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:  # no git on this machine
            return ""
        return done.stdout.strip()

    @property
    def appearance(self) -> str:
        """Return what pictures are drawn from and with."""
        return f"mees/calvin_env@{self.commit[:7] or 'unknown'} tiny"

    def rebuild(self) -> None:
        """Load all bodies anew, as before the first episode of a process."""
        self._original.scene.np_random = np.random.default_rng(0)  # loading draws poses that the reset overwrites
        self._original.load()
        self._original.robot.gripper_action = 1

    def reset(self, robot_obs: Floats, scene_obs: Floats) -> None:
        """Build anew and place everything at ``robot_obs`` (15,) and ``scene_obs`` (24,)."""
        self.rebuild()
        self._original.reset(np.array(robot_obs, np.float64), np.array(scene_obs, np.float64))
        self._info = self._original.get_info()

    def step(self, action: Floats) -> None:
        """Run one control step with a relative action (7,); the gripper's value is exactly -1 or 1."""
        _, _, _, self._info = self._original.step(np.array(action, np.float64))  # a copy: 1431a46 writes into it

    def step_absolute(self, position: Floats, euler_xyz: Floats, gripper: float) -> None:
        """Run one control step towards a pose of the tcp (m and rad, world frame)."""
        pose = np.array(position, np.float64), np.array(euler_xyz, np.float64)
        _, _, _, self._info = self._original.step((*pose, int(gripper)))

    def robot_obs(self) -> Floats:
        """Return (15,): tcp position and euler angles, gripper width, seven joints, last gripper action."""
        return np.asarray(self._original.robot.get_observation()[0], np.float64)

    def scene_obs(self) -> Floats:
        """Return (24,): slide, drawer, button, switch, bulb, led, then position and euler angles of each block."""
        return np.asarray(self._original.scene.get_obs(), np.float64)

    def snapshot(self, *, contacts: bool = True) -> Snapshot:
        """Return what the oracle reads, taken from the original's ``info``, which always has the contacts."""
        scene = self._info["scene_info"]
        return Snapshot(
            blocks={name.removeprefix("block_"): _block(block) for name, block in scene["movable_objects"].items()},
            doors={name.removeprefix("base__"): door["current_state"] for name, door in scene["doors"].items()},
            lights={name: bool(light["logical_state"]) for name, light in scene["lights"].items()},
            robot_contacts=_contacts(self._info["robot_info"]["contacts"]),
        )

    def full_state(self) -> NDArray[np.float64]:
        """Return poses and velocities of all bodies, all joints, the target pose, gripper, button and lights."""
        values: list[float] = []
        for body in _BODIES:
            for part in (*self._bullet.getBasePositionAndOrientation(body), *self._bullet.getBaseVelocity(body)):
                values.extend(part)
            for joint in range(self._bullet.getNumJoints(body)):
                values.extend(self._bullet.getJointState(body, joint)[:2])
        robot, scene = self._original.robot, self._original.scene
        values += [*robot.target_pos, *robot.target_orn, robot.gripper_action]
        for part in (*scene.buttons, *scene.switches, *scene.lights):
            values.append(part.state.value)
        values += [button.prev_is_pressed for button in scene.buttons]
        return np.array(values, np.float64)

    @property
    def has_diverged(self) -> bool:
        """Whether a number of the state is no longer finite."""
        return not (np.isfinite(self.robot_obs()).all() and np.isfinite(self.scene_obs()).all())

    def vary(self, look: Variation | None) -> None:
        """Refuse.

        Raises:
            UsageError: a look is asked for.
        """
        if look is not None:
            raise UsageError("backend 'upstream' shows the original's look, which does not vary")

    def render(self, camera: str) -> NDArray[np.uint8]:
        """Return the camera's picture, (H, W, 3)."""
        return np.ascontiguousarray(self._draw(camera)[0], np.uint8)

    def depth(self, camera: str) -> NDArray[np.float32]:
        """Return the camera's depth, (H, W) in m."""
        return np.ascontiguousarray(self._draw(camera)[1], np.float32)

    def close(self) -> None:
        """Free the simulator; closing again does nothing."""
        if not self._is_closed:
            with redirect_stdout(io.StringIO()):  # it says that it disconnects
                type(self._original).close(self._original)
        self._is_closed = True

    def _draw(self, camera: str) -> tuple[NDArray[Any], NDArray[Any]]:
        if camera not in self.cameras:
            raise UnknownName("camera", camera, self.cameras, f"CALVIN has {', '.join(self.cameras)}")
        picture: tuple[NDArray[Any], NDArray[Any]] = self.cameras[camera].render()
        return picture

    def _button_rule(self) -> str:
        """Return whether a reset keeps the button in step with a led that is on ("main"), or not ("pinned")."""
        scene = self._original.scene
        button, led = scene.buttons[0], scene.buttons[0].light
        led.turn_on()
        button.reset()
        rule = "main" if button.state.value else "pinned"
        led.turn_off()
        button.reset()
        return rule


def _import(root: Path) -> ModuleType:
    """Import the original's environment from ``root`` and put back what importing it changes on the side."""
    loaded = sys.modules.get("calvin_env")
    if loaded and Path(loaded.__file__ or "").resolve().parents[1] != root:
        raise UsageError(f"this process has imported another calvin_env already: {loaded.__file__}")
    try:
        with _path(root), _gym(), _hook(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # Hydra's advice to the original's authors
            return import_module("calvin_env.envs.play_table_env")
    except ModuleNotFoundError as error:
        raise MissingOriginal(error.name) from error


@contextmanager
def _path(root: Path) -> Iterator[None]:
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))


@contextmanager
def _gym() -> Iterator[None]:
    """Let Gymnasium answer to the name ``gym``."""
    names = ("", ".utils", ".utils.seeding")
    kept = {f"gym{name}": sys.modules.get(f"gym{name}") for name in names}
    sys.modules.update({f"gym{name}": import_module(f"gymnasium{name}") for name in names})
    try:
        yield
    finally:
        for name, module in kept.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


@contextmanager
def _hook() -> Iterator[None]:
    """Keep the process's own way of printing exceptions: 1431a46 installs another while it is imported."""
    kept = sys.excepthook
    try:
        yield
    finally:
        sys.excepthook = kept


def _build(module: ModuleType, root: Path, scene: str) -> Any:
    """Return the original's environment with TinyRenderer and both cameras."""
    hydra, omega = import_module("hydra"), import_module("omegaconf").OmegaConf
    conf = root / "conf"
    robot = omega.merge(
        omega.load(conf / "robot" / "panda.yaml"), omega.load(conf / "robot" / "panda_longer_finger.yaml")
    )
    robot.pop("defaults")  # Hydra's instruction to do the merge above
    whole = omega.create(
        {
            "cameras": {name: omega.load(conf / "cameras" / "cameras" / f"{name}.yaml") for name in _CAMERAS},
            "env": omega.load(conf / "env" / "play_table_env.yaml"),
            "robot": robot,
            "scene": omega.load(conf / "scene" / f"calvin_scene_{scene}.yaml"),
            "use_vr": False,
            "data_path": "data",
        }
    )
    # it would log a commit, and raises where the checkout is no git work tree
    vars(module)["get_git_commit_hash"] = lambda path: ""
    try:
        with redirect_stdout(io.StringIO()):
            return hydra.utils.instantiate(whole.env, show_gui=False, use_scene_info=True, use_egl=False)
    except ModuleNotFoundError as error:
        raise MissingOriginal(error.name) from error
    except hydra.errors.InstantiationException as error:
        raise EnvFault(f"the original CALVIN environment at {root} could not be built: {error}") from error


def _block(info: Mapping[str, Any]) -> BlockState:
    return BlockState(
        body=info["uid"],
        position=np.array(info["current_pos"]),
        quat_xyzw=np.array(info["current_orn"]),
        linear_velocity=np.array(info["current_lin_vel"]),
        angular_velocity=np.array(info["current_ang_vel"]),
        contacts=_contacts(info["contacts"]),
    )


def _contacts(points: Any) -> frozenset[Contact]:
    """Return (other body, its link) of PyBullet's contact points."""
    return frozenset((point[2], point[4]) for point in points)
