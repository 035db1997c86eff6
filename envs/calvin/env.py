"""CALVIN as a Gymnasium environment: a chain of five instructions, or free play, fixed completely by its reset."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rdvla_bench.envs.calvin.backend import open_world
from rdvla_bench.envs.calvin.oracle import achieved, holds, needs_contacts
from rdvla_bench.envs.calvin.privileged import PrivilegedView
from rdvla_bench.envs.calvin.sequences import chains
from rdvla_bench.envs.calvin.snapshot import Snapshot
from rdvla_bench.envs.calvin.starts import initial_state, random_start
from rdvla_bench.envs.calvin.suites import INSTRUCTIONS, SCENE_OF, SUITES, TASKS
from rdvla_bench.envs.calvin.visual import Variation
from rdvla_bench.errors import EnvFault, UnknownName, UnknownTask, UsageError
from rdvla_bench.protocol import protocol as protocol_card
from rdvla_bench.protocol_card import ProtocolCard
from rdvla_bench.suite import Suite
from rdvla_bench.types import Observation

_CHARACTERS = string.ascii_letters + string.digits + " ,.;:!?'\"()-_/"
_DRAWN = {"button": 0.36, "drawer": 0.2}  # m from the middle; a led is 0.16 wide, a drawer 0.44, the table 0.88
_OPTIONS = ("chain", "robot_obs", "scene_obs", "tasks", "look", "button", "drawer")
_REACH = 10.0  # a generous limit of every proprioceptive value, in m and rad
_Step = tuple[Observation, float, bool, bool, dict[str, Any]]


class CalvinEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """One scene of CALVIN. ``terminated``: the chain is done; ``truncated``: a subtask used up its steps.

    Non-obvious:
        * A chunk ends where a subtask is done: the next instruction is shown at once, as in mees/calvin@fa03f01
          calvin_models/calvin_agent/evaluation/evaluate_policy.py, which asks the policy anew after each success.
        * The world is built anew at every reset, so an episode cannot depend on those before it.
        * Relative actions move a target that may run ahead of the arm, as in the original.
        * Of the gripper's value only the sign counts: above 0 opens.
    """

    metadata = {  # noqa: RUF012 - Gymnasium declares it so
        "render_modes": ["rgb_array"],
        "render_fps": 30,
        "autoreset_mode": AutoresetMode.DISABLED,
    }

    def __init__(
        self,
        suite: str = "calvin_d",
        task: int = 0,
        protocol: ProtocolCard | str | None = None,
        cameras: tuple[str, ...] | None = None,
        *,
        privileged: bool = False,
        depth: bool = False,
        render_mode: str | None = None,
        assets: str | None = None,
        backend: str = "pybullet",
        renderer: str = "",
    ) -> None:
        """Build the scene; ``cameras=None`` means all, ``()`` none.

        ``assets`` is an original checkout's ``data`` folder, for its pictures; ``backend="upstream"`` runs that
        checkout itself, found at ``assets``. ``renderer`` is tiny, egl or auto; by default what the environment
        variable RDVLA_CALVIN_RENDERER says, else tiny. ``depth`` adds ``info["depth"]``, camera -> (H, W) float32 in m.

        Raises:
            UsageError: an unknown suite, camera, card, renderer or backend, or assets and card that disagree.
        """
        self.suite, self.render_mode = _suite(suite), render_mode
        if task != 0:
            raise UnknownTask(suite, task, len(self.suite.tasks))
        default = "calvin/abcd@1" if assets else self.suite.default_protocol
        self.card = protocol_card(protocol or default) if isinstance(protocol, str | None) else protocol
        self.cameras = tuple(self.suite.cameras) if cameras is None else tuple(cameras)
        self._check()
        drawn = tuple(self.suite.cameras) if render_mode else self.cameras
        self.world, self._eye = open_world(
            backend, SCENE_OF[suite], self.card, assets=assets, renderer=renderer, is_drawn=bool(drawn)
        )
        self.appearance = self._eye.appearance
        self._view = PrivilegedView(self.world) if privileged else None
        self._with_depth = depth
        self.action_space = spaces.Box(-1.0, 1.0, (len(self.suite.actions),), np.float32)
        self.observation_space = _observation_space(self.suite, self.cameras)
        self._tasks: tuple[str, ...] = ()
        self._solved = self._steps = self._subtask_steps = 0
        self._over, self._digest = True, ""
        self._start: Snapshot | None = None
        self._mark: Snapshot | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Build the world anew and place everything.

        Options: ``{"chain": i}`` for one of the benchmark's 1000; or ``{"robot_obs": (15,), "scene_obs": (24,)}``,
        either alone too, with ``{"tasks": [...]}`` for a chain of one's own, or free play without. What is not
        given is drawn from ``self.np_random``: a chain, or a random start where states or tasks are given.
        ``{"look": n}`` beside the latter shows the table in varied woods (``look.varied``), as training wants it,
        and ``{"button": x}`` and ``{"drawer": x}`` beside that one draw button (and led) and drawer at x m, for chains
        that never press or move them.

        Raises:
            UsageError: an unknown option, a chain outside 0..999, a malformed state, an unknown task, a look that
                does not vary.
        """
        super().reset(seed=seed)
        given = dict(options or {})
        for name in given:
            if name not in _OPTIONS:
                raise UnknownName("reset option", name, _OPTIONS, "reset(options=...)")
        if "chain" in given and len(given) > 1:
            other = next(name for name in given if name != "chain")
            raise UsageError(f"reset options 'chain' and '{other}' exclude each other: a chain brings its own start")
        look = _look(given.pop("look", None), {name: given.pop(name, None) for name in _DRAWN})
        robot_obs, scene_obs = self._place(given)
        self._eye.vary(look)
        self.world.reset(robot_obs, scene_obs)
        self._digest = hashlib.sha256(np.concatenate([robot_obs, scene_obs]).tobytes()).hexdigest()
        self._solved = self._steps = self._subtask_steps = 0
        self._over = False
        self._start = self._mark = self.world.snapshot()
        return self._observe(), self._info()

    def step(self, action: NDArray[np.float32]) -> _Step:
        """Run one control step (1/30 s): a chunk of one."""
        return self.step_chunk(np.asarray(action)[None])

    def step_chunk(self, actions: NDArray[np.float32]) -> _Step:
        """Run up to K control steps on (K, 7) relative actions; stop where a subtask is done or cut off.

        Only the last observation is rendered. The reward counts the subtasks done: 0 or 1.

        Raises:
            InvalidAction: another shape, no action at all, or a value that is not finite.
            ResetNeeded: the episode is over or has not begun.
            EnvFault: the physics diverged.
        """
        if self._over:
            raise ResetNeeded("the episode is over or has not begun: call reset() first")
        chunk = np.array(actions, np.float64)
        if chunk.ndim != 2 or not len(chunk) or chunk.shape[1:] != self.action_space.shape:
            raise InvalidAction(f"actions have shape {chunk.shape}, expected (K, {len(self.suite.actions)}), K >= 1")
        if not np.isfinite(chunk).all():
            raise InvalidAction("an action is NaN or infinite")
        chunk[:, 6] = np.where(chunk[:, 6] > 0, 1.0, -1.0)
        return self._advance(partial(self.world.step, action) for action in chunk)

    def mark(self) -> None:
        """Take the start anew from which ``info["achieved"]`` is judged; a chain's own start is not touched.

        Raises:
            ResetNeeded: nothing has begun.
        """
        self._since(self._start)
        self._mark = self.world.snapshot()

    def step_absolute(self, position: NDArray[np.float64], euler_xyz: NDArray[np.float64], gripper: float) -> _Step:
        """Run one control step towards a pose of the tcp (m and rad, world frame); ``gripper`` above 0 opens.

        As in the original, this does not move the target on which relative actions build.

        Raises:
            InvalidAction: a value that is not finite, or a wrong shape.
            ResetNeeded: the episode is over or has not begun.
        """
        if self._over:
            raise ResetNeeded("the episode is over or has not begun: call reset() first")
        pose = np.asarray(position, np.float64), np.asarray(euler_xyz, np.float64)
        if any(part.shape != (3,) or not np.isfinite(part).all() for part in pose) or not np.isfinite(gripper):
            raise InvalidAction("an absolute action is a finite position (3,), euler angles (3,) and a gripper value")
        return self._advance([partial(self.world.step_absolute, *pose, 1.0 if gripper > 0 else -1.0)])

    def get_state(self) -> NDArray[np.float64]:
        """Return joints, bodies, targets and switches of the world, and where the chain stands."""
        return np.concatenate([self.world.full_state(), [self._solved, self._subtask_steps, self._steps]])

    def scene_digest(self) -> str:
        """Return SHA-256 over the state that the last reset placed."""
        return self._digest

    def render(self) -> NDArray[np.uint8] | None:
        """Return the static camera's picture, or None without a render mode."""
        return self._eye.render("static") if self.render_mode else None

    def close(self) -> None:
        """Free the simulator; closing again does nothing."""
        self.world.close()
        self._over = True

    def _advance(self, control_steps: Iterable[Callable[[], None]]) -> _Step:
        """Run control steps until a subtask is done or cut off; then observe."""
        is_done = is_cut = False
        for run in control_steps:
            run()
            self._steps, self._subtask_steps = self._steps + 1, self._subtask_steps + 1
            is_done = self._is_subtask_done()
            is_cut = bool(self._tasks) and not is_done and self._subtask_steps >= self.card.max_steps[self.suite.name]
            if is_done or is_cut:
                break
        if self.world.has_diverged:
            self._over = True
            raise EnvFault(f"the physics of {self.suite.name} diverged by step {self._steps}")
        if is_done:
            self._solved, self._subtask_steps = self._solved + 1, 0
            self._start = self.world.snapshot()
        is_chain_done = is_done and self._solved == len(self._tasks)
        self._over = is_chain_done or is_cut
        return self._observe(), float(is_done), is_chain_done, is_cut, self._info()

    @property
    def _task(self) -> str:
        """Return the present subtask's name, "" in free play and at a chain's end."""
        return self._tasks[self._solved] if self._solved < len(self._tasks) else ""

    def _is_subtask_done(self) -> bool:
        task = self._task
        if not task:
            return False
        return holds(task, self._since(self._start), self.world.snapshot(contacts=needs_contacts(task)))

    def _since(self, snapshot: Snapshot | None) -> Snapshot:
        if snapshot is None:
            raise ResetNeeded("the episode has not begun: call reset() first")
        return snapshot

    def _place(self, given: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return robot_obs and scene_obs of the start, and set the chain's tasks."""
        if not given or "chain" in given:
            k = int(given["chain"] if given else self.np_random.integers(len(chains())))
            if not 0 <= k < len(chains()):
                raise UsageError(f"chain {k} is outside 0..{len(chains()) - 1} of {self.suite.name}")
            chain = chains()[k]
            self._tasks = chain.tasks
            return initial_state(chain.state, SCENE_OF[self.suite.name])
        self._tasks = tuple(given.get("tasks", ()))
        for name in self._tasks:
            if name not in TASKS:
                raise UnknownName("task", name, TASKS, "rdvla_bench.envs.calvin.suites.TASKS")
        robot_obs, scene_obs = random_start(SCENE_OF[self.suite.name], self.np_random)
        return (
            _state("robot_obs", given.get("robot_obs", robot_obs), 15),
            _state("scene_obs", given.get("scene_obs", scene_obs), 24),
        )

    def _observe(self) -> Observation:
        return {
            "images": {name: self._eye.render(name) for name in self.cameras},
            "proprio": self.world.robot_obs().astype(np.float32),
            "instruction": INSTRUCTIONS[self._tasks[min(self._solved, len(self._tasks) - 1)]] if self._tasks else "",
        }

    def _info(self) -> dict[str, Any]:
        now = self.world.snapshot()
        info: dict[str, Any] = {"steps": self._steps, "achieved": tuple(sorted(achieved(self._since(self._mark), now)))}
        if self._tasks:
            info |= {"subtask": self._solved, "task": self._task, "success": self._solved == len(self._tasks)}
        if self._with_depth:
            info["depth"] = {name: self._eye.depth(name) for name in self.cameras}
        if self._view:
            info["privileged"] = {**self._view(self._task, self._subtask_steps), "scene": self.world.scene_obs()}
        return info

    def _check(self) -> None:
        """Refuse arguments that cannot be carried out, before anything is built."""
        if self.suite.name not in self.card.max_steps:
            raise UsageError(f"{self.card.name} caps {', '.join(self.card.max_steps)}, but not '{self.suite.name}'")
        if self.render_mode not in (None, "rgb_array"):
            raise UsageError(f"render_mode '{self.render_mode}' is neither None nor 'rgb_array'")
        for name in self.cameras:
            if name not in self.suite.cameras:
                raise UnknownName("camera", name, self.suite.cameras, f"CALVIN has {', '.join(self.suite.cameras)}")


def _suite(name: str) -> Suite:
    if name not in SUITES:
        raise UnknownName("suite", name, SUITES, "rdvla-bench list suites")
    return SUITES[name]


def _look(number: Any, drawn: dict[str, Any]) -> Variation | None:
    """Return a varied look, or None for the suite's own look; ``drawn``: where parts are drawn, or None."""
    given = {name: x for name, x in drawn.items() if x is not None}
    if number is None:
        for name in given:
            raise UsageError(f"reset option '{name}' draws the {name} elsewhere in a varied look: give 'look' too")
        return None
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
        raise UsageError(f"reset option 'look' is {number!r}, expected a whole number from 0 on")
    for name, x in given.items():
        most = _DRAWN[name]
        if not (isinstance(x, float) and abs(x) <= most):
            raise UsageError(f"reset option '{name}' is {x!r}, expected x in m, -{most} to {most}")
    return Variation(int(number), **{name: float(x) for name, x in given.items()})


def _state(name: str, values: Any, width: int) -> NDArray[np.float64]:
    """Return a state given by the user as (width,) float64."""
    try:
        state = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"reset option '{name}' is no array of {width} numbers: {error}") from error
    if state.shape != (width,):
        raise UsageError(f"reset option '{name}' has shape {state.shape}, expected ({width},)")
    if not np.isfinite(state).all():
        at = int(np.argmin(np.isfinite(state)))
        raise UsageError(f"reset option '{name}' holds {state[at]} at index {at}, expected finite numbers")
    return state


def _observation_space(suite: Suite, cameras: tuple[str, ...]) -> spaces.Space[Observation]:
    pixels: dict[str, spaces.Space[Any]] = {
        name: spaces.Box(0, 255, (*suite.cameras[name], 3), np.uint8) for name in cameras
    }
    layout: dict[str, spaces.Space[Any]] = {
        "images": spaces.Dict(pixels),
        "proprio": spaces.Box(-_REACH, _REACH, (len(suite.proprio),), np.float32),
        "instruction": spaces.Text(max_length=256, min_length=0, charset=_CHARACTERS),
    }
    return cast("spaces.Space[Observation]", spaces.Dict(layout))
