"""LIBERO as a Gymnasium environment whose episode is a function of (card, suite, task, init state, seed)."""

from __future__ import annotations

import math
import string
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rdvla_bench.envs.libero import gl
from rdvla_bench.envs.libero.offscreen import OffscreenContext
from rdvla_bench.envs.libero.placements import require_spread
from rdvla_bench.envs.libero.privileged import PrivilegedView
from rdvla_bench.envs.libero.scene import Scene, full_state, stream
from rdvla_bench.envs.libero.stepper import Stepper
from rdvla_bench.envs.libero.suites import SUITES
from rdvla_bench.errors import EnvFault, UnknownName, UnknownTask, UsageError
from rdvla_bench.protocol import protocol as protocol_card
from rdvla_bench.protocol_card import ProtocolCard
from rdvla_bench.seeding import derive_seed
from rdvla_bench.suite import Suite
from rdvla_bench.types import Observation

_PLACEMENT = "placement"
_SPREAD = "spread"
_N_PLACEMENTS = 1 << 63
_CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}  # ours -> the model's
_CHARACTERS = string.ascii_letters + string.digits + " ,.;:!?'\"()-_/"
# generous limits of the proprioception: 10 m, a full turn (an angle is 2 acos w), 1 m
_REACH = np.array([10.0] * 3 + [2 * math.pi] * 3 + [1.0] * 2, np.float32)
_Step = tuple[Observation, float, bool, bool, dict[str, Any]]


class LiberoEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """One task of a LIBERO suite. ``terminated`` is success, ``truncated`` the card's step cap.

    Non-obvious:
        * Only the last observation of a chunk is rendered, at the moment at which robosuite's cameras sample.
        * Actions outside [-1, 1] are clipped by robosuite's controller; of the gripper's value only the sign counts.
        * Under a card with ``seeding="sequential"`` the fixtures depend on the init state alone, not on the seed.
        * With ``cameras=()`` no GL library is touched, and the physics is the same to the last bit.
    """

    metadata = {  # noqa: RUF012 - Gymnasium declares it so
        "render_modes": ["rgb_array"],
        "render_fps": 20,
        "autoreset_mode": AutoresetMode.DISABLED,
    }

    def __init__(
        self,
        suite: str,
        task: int = 0,
        protocol: ProtocolCard | str = "libero/paired@1",
        cameras: tuple[str, ...] | None = None,
        *,
        privileged: bool = False,
        render_mode: str | None = None,
    ) -> None:
        """Build the scene; ``cameras=None`` means all, ``()`` none.

        Raises:
            UsageError: an unknown suite, task, card, camera or render mode, or a card without a cap for the suite.
            NoRenderer: cameras are wanted and nothing on this machine renders without a screen.
        """
        self.suite, self.task, self.render_mode = _suite(suite), task, render_mode
        self.card = protocol_card(protocol) if isinstance(protocol, str) else protocol
        self.cameras = tuple(_CAMERAS) if cameras is None else tuple(cameras)
        self._check()
        self._instruction = self.suite.tasks[task].instruction
        self.action_space = spaces.Box(-1.0, 1.0, (len(self.suite.actions),), np.float32)
        self._size = self.card.image_size or self.suite.cameras["agentview"][0]
        self.observation_space = _observation_space(self.cameras, self._size)
        self.scene = Scene(self.suite.files or suite, self.suite.tasks[task].name)
        self._view = PrivilegedView(self.scene.env) if privileged else None
        self._context: OffscreenContext | None = None
        if self.cameras or render_mode:
            self._context = OffscreenContext(self.scene.model, self._size)
            self.scene.env.sim.add_render_context(self._context)
        self._stepper: Stepper | None = None
        # the RNG stream of a sequential card: element k is its state before hard reset number k + 1
        self._stream = [stream(self.card.stream_seed or 0)]
        self.appearance = f"libero assets, {gl.active().backend}" if self._context else ""
        self._steps, self._over, self._closed, self._digest = 0, True, False, ""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Place fixtures and objects and settle; ``options={"init_state": k}`` chooses one of the saved states.

        ``options={"placement": k}``, any k from 0, draws objects and fixtures anew from the task's own placement
        samplers instead, with a seed of its own: for training, as no saved state is used. The seed then plays no part.
        ``"spread": m`` beside it lets each thing on the table lie up to m metres further off.
        What is not given is drawn from ``self.np_random``: first the init state, then the fixtures' seed; in a suite
        whose starts are placements, the placement.

        Raises:
            UsageError: an unknown option, both options, or a number outside its range.
        """
        super().reset(seed=seed)
        wanted = dict(options or {})
        spread = self._spread(wanted)
        start = self._start(wanted)
        if start is None and self.suite.start_option == _PLACEMENT:
            start = _PLACEMENT, int(self.np_random.integers(_N_PLACEMENTS))
        if start is not None and start[0] == _PLACEMENT:
            self.scene.place(stream(derive_seed(_PLACEMENT, self.suite.name, self.task, start[1], bits=32)), spread)
        else:
            k = int(self.np_random.integers(len(self.scene.init_states))) if start is None else start[1]
            fixture_seed = int(self.np_random.integers(2**32)) if seed is None else seed
            if self.card.seeding == "sequential":
                self.scene.reset(self._stream_before(k), k, n_resets=k + 2)
            else:
                self.scene.reset(stream(fixture_seed), k)
        self._digest = self.scene.digest()
        if self._stepper is None:
            self._stepper = Stepper(self.scene.env)
        else:
            self._stepper.reset()
        for _ in range(self.card.settle_steps):
            self._stepper.step(np.asarray(self.card.settle_action, np.float64))
        self._steps, self._over = 0, False
        return self._observe(), self._info(success=False)

    def step(self, action: NDArray[np.float32]) -> _Step:
        """Run one control step: a chunk of one."""
        return self.step_chunk(np.asarray(action)[None])

    def step_chunk(self, actions: NDArray[np.float32]) -> _Step:
        """Run up to K control steps on (K, 7) actions, stop at success or cap, render only the last observation.

        Raises:
            InvalidAction: another shape, no action at all, or a value that is not finite.
            ResetNeeded: the episode is over or has not begun.
            EnvFault: the physics diverged.
        """
        if self._over:
            raise ResetNeeded("the episode is over or has not begun: call reset() first")
        chunk = np.asarray(actions, np.float64)
        if chunk.ndim != 2 or not len(chunk) or chunk.shape[1:] != self.action_space.shape:
            raise InvalidAction(f"actions have shape {chunk.shape}, expected (K, {len(self.suite.actions)}), K >= 1")
        if not np.isfinite(chunk).all():
            raise InvalidAction("an action is NaN or infinite")
        success = truncated = False
        for action in chunk:
            success = self._running.step(action)
            self._steps += 1
            truncated = not success and self._steps >= self.card.max_steps[self.suite.name]
            if success or truncated:
                break
        self._over = success or truncated
        if self.scene.has_diverged:
            self._over = True
            raise EnvFault(f"the physics of {self.suite.name} task {self.task} diverged by step {self._steps}")
        return self._observe(), float(success), success, truncated, self._info(success=success)

    def get_state(self) -> NDArray[np.float64]:
        """Return all that the future depends on: MuJoCo's integration state, poses, controller goal, gripper."""
        return full_state(self.scene.env)

    def scene_digest(self) -> str:
        """Return SHA-256 over what the last reset placed, before it settled: poses, positions, velocities."""
        return self._digest

    def render(self) -> NDArray[np.uint8] | None:
        """Return the agentview as (H, W, 3) uint8, or None without a render mode."""
        return self._pictures(("agentview",))["agentview"] if self.render_mode else None

    def close(self) -> None:
        """Free the render context and the simulator; closing again does nothing."""
        if self._context:
            self._context.free()
        if not self._closed:
            self.scene.close()
        self._context, self._stepper, self._over, self._closed = None, None, True, True

    def _check(self) -> None:
        """Refuse arguments that cannot be carried out, before anything is built."""
        suite, card = self.suite, self.card
        if not 0 <= self.task < len(suite.tasks):
            raise UnknownTask(suite.name, self.task, len(suite.tasks))
        if suite.name not in card.max_steps:
            raise UsageError(f"{card.name} caps {', '.join(card.max_steps)}, but not '{suite.name}'")
        if self.render_mode not in (None, "rgb_array"):
            raise UsageError(f"render_mode '{self.render_mode}' is neither None nor 'rgb_array'")
        for name in self.cameras:
            if name not in _CAMERAS:
                raise UnknownName("camera", name, _CAMERAS, f"{suite.name} has {', '.join(_CAMERAS)}")

    def _spread(self, wanted: dict[str, Any]) -> float:
        """Take the spread in metres out of the options."""
        if _SPREAD not in wanted:
            return 0.0
        if _PLACEMENT not in wanted:
            raise UsageError(
                f"reset option '{_SPREAD}' goes with '{_PLACEMENT}' alone: saved states lie where they lie"
            )
        spread = float(wanted.pop(_SPREAD))
        require_spread(spread)
        return spread

    def _start(self, wanted: dict[str, Any]) -> tuple[str, int] | None:
        """Return which start state is asked for as (option, number), or None."""
        allowed = {self.suite.start_option: len(self.scene.init_states), _PLACEMENT: _N_PLACEMENTS}
        for name in wanted:
            if name not in allowed:
                raise UnknownName("reset option", name, (*allowed, _SPREAD), "reset(options=...)")
        if len(wanted) > 1:
            raise UsageError(f"reset options {' and '.join(map(repr, wanted))} exclude each other")
        for name, number in wanted.items():
            if not 0 <= int(number) < allowed[name]:
                where = f"0..{allowed[name] - 1} of {self.suite.name} task {self.task}"
                raise UsageError(f"{name} {number} is outside {where}")
            return name, int(number)
        return None

    def _stream_before(self, k: int) -> Any:
        """Return the sequential stream's state before episode ``k``, running the draws of earlier ones once."""
        while len(self._stream) <= k:
            self._stream.append(self.scene.draw(self._stream[-1], n_resets=len(self._stream) + 1))
        return self._stream[k]

    def _observe(self) -> Observation:
        sample = self._running.sample
        proprio = np.concatenate([sample.eef_pos, _axis_angle(sample.eef_quat), sample.gripper_qpos])
        return {
            "images": self._pictures(self.cameras),
            "proprio": proprio.astype(np.float32),
            "instruction": self._instruction,
        }

    def _pictures(self, names: tuple[str, ...]) -> dict[str, NDArray[np.uint8]]:
        """Return camera -> (H, W, 3) of the moment at which robosuite's observables last sampled.

        robosuite's pictures, bottom row first, turned by 180 degrees as moojink/openvla-oft@213c5ff libero_utils.py
        get_libero_image does for every published policy: upright, and mirrored left to right.
        """
        if not names:
            return {}
        drawn = self._running.render([_CAMERAS[name] for name in names], self._size, self._size)
        return {name: np.ascontiguousarray(drawn[_CAMERAS[name]][::-1, ::-1]) for name in names}

    @property
    def _running(self) -> Stepper:
        if self._stepper is None:
            raise ResetNeeded("the episode has not begun: call reset() first")
        return self._stepper

    def _info(self, *, success: bool) -> dict[str, Any]:
        info: dict[str, Any] = {"steps": self._steps, "success": success}
        if self._view:
            info["privileged"] = self._view()
        return info


def _suite(name: str) -> Suite:
    if name not in SUITES:
        raise UnknownName("suite", name, SUITES, "rdvla-bench list suites")
    return SUITES[name]


def _observation_space(cameras: tuple[str, ...], size: int) -> spaces.Space[Observation]:
    pixels: dict[str, spaces.Space[Any]] = {name: spaces.Box(0, 255, (size, size, 3), np.uint8) for name in cameras}
    layout: dict[str, spaces.Space[Any]] = {
        "images": spaces.Dict(pixels),
        "proprio": spaces.Box(-_REACH, _REACH, _REACH.shape, np.float32),
        "instruction": spaces.Text(max_length=256, min_length=1, charset=_CHARACTERS),
    }
    return cast("spaces.Space[Observation]", spaces.Dict(layout))


def _axis_angle(quat_xyzw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation vector (3,) in the formula and branch of robosuite 1.4.0's ``quat2axisangle``."""
    w = min(max(float(quat_xyzw[3]), -1.0), 1.0)
    sine = math.sqrt(1.0 - w * w)
    if math.isclose(sine, 0.0):
        return np.zeros(3)
    return quat_xyzw[:3] * 2.0 * math.acos(w) / sine
