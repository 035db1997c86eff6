"""One LIBERO task in the simulator, reset such that nothing of an earlier episode is left.

LIBERO's own reset leaves four things of the past in an episode; facts and measurements are in
docs/decisions/0001-an-episode-is-a-function.md:
    * fixtures (cabinets, stoves, racks) are placed by the global ``np.random`` and are in no init state;
    * robosuite 1.4.0 keeps the gripper's last command (ARISE-Initiative/robosuite#386);
    * the constraint solver starts from the last episode's accelerations (``qacc_warmstart``);
    * the burner of a stove is shown by changing ``model.site_rgba`` in place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.envs.libero.simulator import (
    TASK_MAPPING,
    RandomizationError,
    get_libero_path,
    get_problem_info,
    load_initial_states,
    mujoco,
    robosuite,
)
from rdvla_bench.envs.libero.spread import spread_out

Float = NDArray[np.float64]

_CONTROL_HZ = 20  # libero 0.1.1 ControlEnv: control_freq
_ARM_NOISE = 0.02  # rad, robosuite 1.4.0 robots/robot.py initialization_noise "default"; the saved states show 0.020
_PLACED = ("body_pos", "body_quat", "site_rgba")  # the model arrays that LIBERO changes in place
_DIVERGED = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)


@contextmanager
def global_stream(state: Any) -> Iterator[None]:
    """Give the block ``np.random`` in ``state`` and put the caller's back: LIBERO draws from nowhere else."""
    kept = np.random.get_state()  # noqa: NPY002
    np.random.set_state(state)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(kept)  # noqa: NPY002


def stream(seed: int) -> Any:
    """Return the state of ``np.random`` after ``np.random.seed(seed)``."""
    return np.random.RandomState(seed & 0xFFFFFFFF).get_state()


def full_state(sim_env: Any) -> Float:
    """Return all that the future of a robosuite env depends on: integration state, poses, controller, gripper."""
    model, data, robot = sim_env.sim.model._model, sim_env.sim.data._data, sim_env.robots[0]
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(model, kind))
    mujoco.mj_getState(model, data, state, kind)
    controller = robot.controller
    gripper = np.broadcast_to(robot.gripper.current_action, (2,))
    parts = (state, model.body_pos, model.body_quat, controller.goal_pos, controller.goal_ori, gripper)
    return np.concatenate([np.asarray(part, np.float64).ravel() for part in parts])


class Scene:
    """A robosuite env of one task, without observables to read, cameras or a GL context."""

    def __init__(self, suite: str, task_name: str) -> None:
        """Build the model once; about 1 to 3 CPU-s."""
        bddl = str(Path(get_libero_path("bddl_files"), suite, f"{task_name}.bddl").resolve())
        states = Path(get_libero_path("init_states"), suite, f"{task_name}.pruned_init")
        self.init_states: Float = np.asarray(load_initial_states(states), np.float64)
        problem = TASK_MAPPING[get_problem_info(bddl)["problem_name"]]
        self._pristine: dict[str, NDArray[Any]] = {}
        env: Any = problem.__new__(problem)
        env.initialize_renderer = lambda: self._keep_pristine(env)  # called between the compiler and the first draw
        with global_stream(stream(0)):
            env.__init__(
                bddl,
                robots=["Panda"],
                controller_configs=robosuite.load_controller_config(default_controller="OSC_POSE"),
                initialization_noise=None,
                use_camera_obs=False,
                has_offscreen_renderer=False,
                control_freq=_CONTROL_HZ,
                ignore_done=True,  # the step cap is the protocol card's
                hard_reset=False,
            )
        self.env = env
        self.placed: Float = np.zeros(self.model.nq)  # (nq,) joint positions as the last reset set them, not settled
        self._samplers = tuple(env.object_property_initializers)

    @property
    def model(self) -> mujoco.MjModel:
        """Return MuJoCo's model."""
        return self.env.sim.model._model

    @property
    def data(self) -> mujoco.MjData:
        """Return MuJoCo's data."""
        return self.env.sim.data._data

    def reset(self, rng_state: Any, init_state: int, *, n_resets: int = 1) -> None:
        """Place the fixtures as ``np.random`` in ``rng_state`` does, then set init state number ``init_state``."""
        self.draw(rng_state, n_resets=n_resets)
        self._begin(self.init_states[init_state])

    def place(self, rng_state: Any, spread: float = 0.0) -> None:
        """Place fixtures and objects as ``np.random`` in ``rng_state`` does; no saved init state is used.

        The saved states come from the same placement samplers and from an arm with robosuite's default noise, so this
        is the task's own distribution; with a ``spread`` in m it is a wider one.
        """
        after = self.draw(rng_state)
        rng = np.random.RandomState()  # the stream that the placement came from goes on
        rng.set_state(after)
        drawn = self.env.sim.get_state()
        arm = self.env.robots[0]._ref_joint_pos_indexes
        drawn.qpos[arm] += rng.normal(0.0, _ARM_NOISE, len(arm))
        if spread:
            spread_out(self.env, drawn.qpos, spread, rng)
        self._begin(np.concatenate([[0.0], drawn.qpos, np.zeros_like(drawn.qvel)]))

    def _begin(self, flattened: Float) -> None:
        """Set time, positions and velocities as robosuite flattens them, with nothing left of what was before."""
        env = self.env
        self.placed = flattened[1 : 1 + self.model.nq].copy()
        mujoco.mj_resetData(self.model, self.data)
        env.robots[0].gripper.current_action = np.zeros(2)
        env.sim.set_state_from_flattened(flattened)
        env.sim.forward()
        env._post_process()
        env._update_observables(force=True)  # robosuite's sampling clock counts this update

    def draw(self, rng_state: Any, *, n_resets: int = 1) -> Any:
        """Reset robosuite, drawing as the ``n_resets``-th hard reset of an env does, and return the state after it.

        A hard reset appends the samplers of drawers and doors to a list that it never empties, so that each one
        draws once more than the one before. ``n_resets=1`` has every sampler once: the soft reset of a new env.
        """
        env = self.env
        for name, value in self._pristine.items():
            getattr(self.model, name)[:] = value
        env.object_property_initializers = list(self._samplers) * n_resets
        with global_stream(rng_state):
            while True:
                try:
                    env.reset()
                except RandomizationError:  # LIBERO's wrapper tries again too, on the stream as it is
                    continue
                return np.random.get_state()  # noqa: NPY002

    @property
    def has_diverged(self) -> bool:
        """Return whether MuJoCo met NaN or a huge number since the reset, upon which it starts from its own zero."""
        return any(self.data.warning[kind].number for kind in _DIVERGED)

    def digest(self) -> str:
        """Return SHA-256 over poses, positions and velocities as they are now."""
        arrays = (self.model.body_pos, self.model.body_quat, self.data.qpos, self.data.qvel)
        return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()

    def close(self) -> None:
        """Free the model."""
        self.env.close()

    def _keep_pristine(self, env: Any) -> None:
        model = env.sim.model._model
        self._pristine = {name: getattr(model, name).copy() for name in _PLACED}
