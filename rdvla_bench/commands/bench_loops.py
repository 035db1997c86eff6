"""The two loops that ``bench`` compares, each in a process of its own: LIBERO's as everybody runs it, and ours.

The plain loop is that of moojink/openvla-oft@213c5ff ``run_libero_eval.py`` and Physical-Intelligence/openpi@15a9616
``examples/libero/main.py``: ``OffScreenRenderEnv``, a hard reset, ``set_init_state``, 10 settle steps, two cameras of
256 x 256 rendered in every step. Three lines are added to it, so that there is an episode to compare at all: fixtures
are seeded an episode; the list of samplers of drawers and doors, to which each hard reset appends another copy, is
emptied; and ``mj_resetData`` drops the solver's warm start of the episode before.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Loop = Literal["plain", "ours"]
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """What to run: a task, with or without its cameras."""

    suite: str
    task: int
    with_cameras: bool
    chunk: int


@dataclass(frozen=True)
class Trial:
    """One episode: CPU seconds of its parts and what it computed."""

    start_cpu_s: float  # seeding, reset, init state, settle steps and the first observation
    steps_cpu_s: float
    n_steps: int
    start_state: str  # SHA-256 over the same values as ``state``, after the settle steps
    frames: str  # SHA-256 over pictures and proprioception at every query
    state: str  # SHA-256 over qpos, qvel, qacc_warmstart, ctrl at the end


class Worker:
    """A spawned process with one loop's environment, built once."""

    def __init__(self, loop: Loop, task: Task, environment: Mapping[str, str]) -> None:
        """Start the process; ``environment`` is what its GL library needs to be found."""
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, loop, task), daemon=True)
        with _environment(environment):
            self._process.start()
        theirs.close()

    def run(self, init_state: int, seed: int, actions: NDArray[np.float32]) -> Trial:
        """Run one episode on ``actions`` (T, 7).

        Raises:
            EOFError: The process died.
        """
        self._connection.send((init_state, seed, actions))
        trial: Trial = self._connection.recv()
        return trial

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    kept = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def _serve(connection: Connection, loop: Loop, task: Task) -> None:
    logging.disable(logging.WARNING)  # robosuite advises its users to write a settings file
    with redirect_stdout(io.StringIO()):  # LIBERO says which task order it uses
        run = (_plain if loop == "plain" else _ours)(task)
    while True:
        try:
            init_state, seed, actions = connection.recv()
        except EOFError:
            os._exit(0)  # robosuite's GL contexts raise where an interpreter that ends collects them
        connection.send(run(init_state, seed, actions))


Episode = Callable[[int, int, NDArray[np.float32]], Trial]


def _plain(task: Task) -> Episode:
    import mujoco
    from libero.libero import benchmark
    from libero.libero.envs.env_wrapper import ControlEnv, OffScreenRenderEnv
    from robosuite.utils.transform_utils import quat2axisangle

    suite = benchmark.get_benchmark(task.suite)()
    bddl = suite.get_task_bddl_file_path(task.task)
    if task.with_cameras:
        env = OffScreenRenderEnv(bddl_file_name=bddl, camera_heights=256, camera_widths=256)
    else:
        env = ControlEnv(bddl_file_name=bddl, use_camera_obs=False, has_offscreen_renderer=False)
    init_states = suite.get_task_init_states(task.task)

    def observe(obs: Mapping[str, Any]) -> list[NDArray[Any]]:
        quat = obs["robot0_eef_quat"].copy()  # quat2axisangle clips in place
        proprio = np.concatenate([obs["robot0_eef_pos"], quat2axisangle(quat), obs["robot0_gripper_qpos"]])
        names = ("agentview_image", "robot0_eye_in_hand_image") if task.with_cameras else ()
        return [proprio.astype(np.float32), *(np.ascontiguousarray(obs[name][::-1, ::-1]) for name in names)]

    def run(init_state: int, seed: int, actions: NDArray[np.float32]) -> Trial:
        began = time.process_time()
        env.seed(seed)
        env.env.object_property_initializers = []
        env.reset()
        mujoco.mj_resetData(env.sim.model._model, env.sim.data._data)
        env.set_init_state(init_states[init_state])
        for _ in range(10):
            obs, *_ = env.step([0, 0, 0, 0, 0, 0, -1])
        started = time.process_time()
        start_state = _state_sha256(env.sim.data)
        frames = hashlib.sha256()
        _add(frames, observe(obs))
        n_steps = 0
        for n_steps, action in enumerate(actions, 1):
            obs, _, done, _ = env.step(action.tolist())
            if done or n_steps % task.chunk == 0 or n_steps == len(actions):
                _add(frames, observe(obs))
            if done:
                break
        ended = time.process_time()
        data = env.sim.data
        return Trial(started - began, ended - started, n_steps, start_state, frames.hexdigest(), _state_sha256(data))

    return run


def _ours(task: Task) -> Episode:
    from rdvla_bench.envs.libero.env import LiberoEnv

    env = LiberoEnv(task.suite, task.task, cameras=None if task.with_cameras else ())

    def run(init_state: int, seed: int, actions: NDArray[np.float32]) -> Trial:
        began = time.process_time()
        obs, info = env.reset(seed=seed, options={"init_state": init_state})
        started = time.process_time()
        start_state = _state_sha256(env.scene.data)
        frames = hashlib.sha256()
        names = ("agentview", "wrist") if task.with_cameras else ()
        _add(frames, [obs["proprio"], *(obs["images"][name] for name in names)])
        for first in range(0, len(actions), task.chunk):
            obs, _, terminated, truncated, info = env.step_chunk(actions[first : first + task.chunk])
            _add(frames, [obs["proprio"], *(obs["images"][name] for name in names)])
            if terminated or truncated:
                break
        ended = time.process_time()
        state = _state_sha256(env.scene.data)
        return Trial(started - began, ended - started, info["steps"], start_state, frames.hexdigest(), state)

    return run


def _add(digest: Any, arrays: list[NDArray[Any]]) -> None:
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())


def _state_sha256(data: Any) -> str:
    digest = hashlib.sha256()
    _add(digest, [data.qpos, data.qvel, data.qacc_warmstart, data.ctrl])
    return digest.hexdigest()
