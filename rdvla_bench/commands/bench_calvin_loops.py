"""The loops that ``bench calvin`` compares, each in a process of its own that reads requests and writes results.

* ``original``: mees/calvin@fa03f01 calvin_models/calvin_agent/evaluation/evaluate_policy.py on mees/calvin_env itself:
  every control step draws both cameras and collects the whole ``info``, and so do the reset and each subtask's start.
* ``plain``: the same loop, restated on this package's world and oracle.
* ``ours``: ``CalvinEnv.reset`` and ``step_chunk``; pictures at queries only.
* ``state``: ``ours`` without cameras.

A process is started with ``python -m rdvla_bench.commands.bench_calvin_loops LOOP SETTINGS``, since the original may
need another interpreter. One JSON object a line goes in (``Request``) and comes out (``Trial``); what the simulators
print is led to the standard error stream.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.errors import UsageError
from rdvla_bench.protocol import protocol

Loop = Literal["original", "plain", "ours", "state"]
Actions = Literal["random", "hold"]
_STEP_CAP = 360  # control steps a subtask: mees/calvin@fa03f01 evaluate_policy.py EP_LEN
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Settings:
    """What a loop runs on."""

    suite: str
    chunk: int  # control steps between two queries
    assets: str = ""  # a checkout whose meshes and textures are drawn; "" for the procedural look
    root: str = ""  # of the checkout that the loop ``original`` runs


@dataclass(frozen=True)
class Request:
    """One chain to run."""

    chain: int
    steps: int  # control steps at most, all subtasks together
    actions: Actions
    seed: int


@dataclass(frozen=True)
class Trial:
    """One chain: CPU seconds of its parts and what it computed."""

    start_cpu_s: float  # reset and the first observation
    steps_cpu_s: float
    n_steps: int
    n_queries: int
    n_solved: int
    frames: str  # SHA-256 over pictures and proprioception at every query
    state: str  # SHA-256 over the world's full state at the end
    rss_mb: float  # the most memory the process has held so far


class Worker:
    """A process with one loop's environment, built once."""

    def __init__(self, loop: Loop, settings: Settings, python: str = sys.executable) -> None:
        """Start the process."""
        command = [python, "-m", __name__, loop, json.dumps(asdict(settings))]
        environment = {**os.environ, **dict.fromkeys(_THREADS, "1")}
        self._name = " ".join(command[:4])
        self._said = TemporaryFile("w+")  # noqa: SIM115 - ``close`` closes it
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True, env=environment
        )

    def run(self, request: Request) -> Trial:
        """Run one chain.

        Raises:
            UsageError: the process ended, with the last lines that it printed.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise UsageError(f"{self._name} has no pipes")
        try:
            self._process.stdin.write(json.dumps(asdict(request)) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.communicate()
            self._said.seek(0)
            raise UsageError(f"{self._name} ended: {' '.join(self._said.read().split()[-60:])}")
        return Trial(**json.loads(line))

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.communicate()
        self._said.close()


def draw_actions(request: Request) -> NDArray[np.float32]:
    """Return the chain's actions (T, 7): uniform in [-1, 1], or none at all with a closing gripper."""
    if request.actions == "hold":
        return np.tile(np.array([0, 0, 0, 0, 0, 0, -1], np.float32), (request.steps, 1))
    rng = np.random.default_rng([request.seed, request.chain])
    return rng.uniform(-1, 1, (request.steps, 7)).astype(np.float32)


Run = Callable[[Request], Trial]


def serve(loop: Loop, settings: Settings) -> None:
    """Answer requests from the standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # PyBullet prints from C
    run = {"original": _original, "plain": _plain, "ours": _ours, "state": _ours}[loop]
    play = run(settings, with_cameras=loop != "state")
    for line in sys.stdin:
        print(json.dumps(asdict(play(Request(**json.loads(line))))), file=answers, flush=True)


def _ours(settings: Settings, *, with_cameras: bool) -> Run:
    from rdvla_bench.envs.calvin.env import CalvinEnv

    env = CalvinEnv(settings.suite, cameras=None if with_cameras else (), assets=settings.assets or None)

    def run(request: Request) -> Trial:
        actions, watch = draw_actions(request), _Watch()
        obs, info = env.reset(seed=request.seed, options={"chain": request.chain})
        watch.start()
        watch.query([obs["proprio"], *(obs["images"][name] for name in env.cameras)])
        is_over = False
        while not is_over and info["steps"] < len(actions):
            first = info["steps"]
            obs, _, terminated, truncated, info = env.step_chunk(actions[first : first + settings.chunk])
            watch.query([obs["proprio"], *(obs["images"][name] for name in env.cameras)])
            is_over = terminated or truncated
        return watch.trial(info["steps"], info["subtask"], env.world.full_state())

    return run


def _plain(settings: Settings, *, with_cameras: bool) -> Run:
    from rdvla_bench.envs.calvin.backend import open_world
    from rdvla_bench.envs.calvin.oracle import holds
    from rdvla_bench.envs.calvin.sequences import chains
    from rdvla_bench.envs.calvin.starts import initial_state
    from rdvla_bench.envs.calvin.suites import SCENE_OF, SUITES

    card = protocol("calvin/abcd@1" if settings.assets else SUITES[settings.suite].default_protocol)
    assets, scene = settings.assets or None, SCENE_OF[settings.suite]
    world, eye = open_world("pybullet", scene, card, assets=assets, renderer="tiny", is_drawn=True)
    cameras = tuple(SUITES[settings.suite].cameras)

    def observe() -> list[NDArray[Any]]:
        world.scene_obs()
        return [world.robot_obs().astype(np.float32), *(eye.render(name) for name in cameras)]

    def run(request: Request) -> Trial:
        actions, watch = _signed(draw_actions(request)), _Watch()
        chain = chains()[request.chain]
        world.reset(*initial_state(chain.state, scene))
        obs = observe()
        watch.start()
        watch.query(obs)
        cut = _Cut(chain.tasks, settings.chunk)
        start = world.snapshot()
        observe()
        for action in actions:
            world.step(action)
            obs = observe()
            now = world.snapshot()
            event = cut.after_step(is_done=holds(cut.task, start, now))
            if event or cut.n_steps == len(actions):
                watch.query(obs)
            if event == "over":
                break
            if event == "next":
                start = now
                observe()
        return watch.trial(cut.n_steps, cut.n_solved, world.full_state())

    return run


def _original(settings: Settings, *, with_cameras: bool) -> Run:
    from importlib import import_module

    from rdvla_bench.envs.calvin.sequences import chains
    from rdvla_bench.envs.calvin.starts import initial_state
    from rdvla_bench.envs.calvin.suites import SCENE_OF
    from rdvla_bench.envs.calvin.upstream import UpstreamWorld

    scene = SCENE_OF[settings.suite]
    world = UpstreamWorld(scene, settings.root)
    env = world.original
    env.cameras = list(world.cameras.values())
    rules = import_module("omegaconf").OmegaConf.load(world.root / "conf" / "tasks" / "new_playtable_tasks.yaml")
    oracle = import_module("calvin_env.envs.tasks").Tasks(rules.tasks)

    def picture(obs: dict[str, Any]) -> list[NDArray[Any]]:
        return [obs["robot_obs"].astype(np.float32), obs["rgb_obs"]["rgb_static"], obs["rgb_obs"]["rgb_gripper"]]

    def run(request: Request) -> Trial:
        actions, watch = _signed(draw_actions(request)), _Watch()
        chain = chains()[request.chain]
        obs = env.reset(*initial_state(chain.state, scene))
        watch.start()
        watch.query(picture(obs))
        cut = _Cut(chain.tasks, settings.chunk)
        env.get_obs()
        start = env.get_info()
        for action in actions:
            obs, _, _, info = env.step(action.copy())
            is_done = bool(oracle.get_task_info_for_set(start, info, {cut.task}))
            event = cut.after_step(is_done=is_done)
            if event or cut.n_steps == len(actions):
                watch.query(picture(obs))
            if event == "over":
                break
            if event == "next":
                env.get_obs()
                start = env.get_info()
        return watch.trial(cut.n_steps, cut.n_solved, world.full_state())

    return run


def _signed(actions: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    """Return the actions as a world takes them: double precision, a gripper of exactly -1 or 1."""
    signed = actions.astype(np.float64)
    signed[:, 6] = np.where(signed[:, 6] > 0, 1.0, -1.0)
    return list(signed)


class _Cut:
    """Where a chain stands in a loop of single steps: which subtask, and whether a query is due."""

    def __init__(self, tasks: Sequence[str], chunk: int) -> None:
        self.n_steps = self.n_solved = 0
        self._tasks, self._chunk = tasks, chunk
        self._in_subtask = self._in_chunk = 0

    @property
    def task(self) -> str:
        """Return the present subtask."""
        return self._tasks[self.n_solved]

    def after_step(self, *, is_done: bool) -> str:
        """Return ``"over"``, ``"next"`` for a new subtask, ``"query"`` for a new chunk, or an empty string."""
        self.n_steps, self._in_subtask, self._in_chunk = self.n_steps + 1, self._in_subtask + 1, self._in_chunk + 1
        if is_done:
            self.n_solved, self._in_subtask, self._in_chunk = self.n_solved + 1, 0, 0
            return "over" if self.n_solved == len(self._tasks) else "next"
        if self._in_subtask == _STEP_CAP:
            return "over"
        if self._in_chunk == self._chunk:
            self._in_chunk = 0
            return "query"
        return ""


class _Watch:
    """Reads the clock of the process, and hashes what is seen."""

    def __init__(self) -> None:
        self._frames, self._n_queries = hashlib.sha256(), 0
        self._began = self._started = time.process_time()

    def start(self) -> None:
        self._started = time.process_time()

    def query(self, arrays: list[NDArray[Any]]) -> None:
        self._n_queries += 1
        for array in arrays:
            self._frames.update(np.ascontiguousarray(array).tobytes())

    def trial(self, n_steps: int, n_solved: int, state: NDArray[np.float64]) -> Trial:
        ended = time.process_time()
        digest = hashlib.sha256(state.tobytes()).hexdigest()
        start, steps = self._started - self._began, ended - self._started
        return Trial(start, steps, n_steps, self._n_queries, n_solved, self._frames.hexdigest(), digest, _peak_rss_mb())


def _peak_rss_mb() -> float:
    """Return the peak of resident memory in MB, or 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    return next(int(line.split()[1]) / 1e3 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    serve(sys.argv[1], Settings(**json.loads(sys.argv[2])))  # type: ignore[arg-type]
