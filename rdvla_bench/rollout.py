"""THE loop: stepping happens here and nowhere else.

``rollout`` is a generator that yields a ``Query`` and is sent an ``ActionChunk``. Local, Ray and replayed
execution drive this same generator; recording and filming wrap the environment or the policy around it.
"""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.env import BenchEnv
from rdvla_bench.errors import EnvFault, InfraFault, PolicyFault, UsageError
from rdvla_bench.policy import HorizonRule, Policy
from rdvla_bench.record import Result
from rdvla_bench.types import ActionChunk, Culprit, Episode, Observation, Outcome

Phase = Literal["env", "policy"]

TOLERANCE = 1e-6
"""How far outside the action space a value may lie: float32 rounding of a clipped float64."""


@dataclass(frozen=True)
class Query:
    """One question to the policy."""

    index: int
    obs: Observation
    seed: int  # of every random draw made in answering
    subtask: int = 0  # how many instructions of a chain are done


@dataclass
class Trace:
    """What ``rollout`` has written down so far; it survives an exception half-way."""

    steps: int = 0
    instruction: str = ""
    appearance: str = ""
    solved: int | None = None
    subtasks: list[str] = field(default_factory=list)
    subtask_steps: list[int] = field(default_factory=list)
    scene_sha256: str = ""
    depths: list[int] = field(default_factory=list)
    horizons: list[int] = field(default_factory=list)
    exit_traces: list[tuple[float, ...]] = field(default_factory=list)
    flops: list[float | None] = field(default_factory=list)
    model_s: list[float] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=list)
    backbone_s: list[float] = field(default_factory=list)
    head_s: list[float] = field(default_factory=list)
    peak_memory_bytes: int | None = None
    actions: list[NDArray[np.float32]] = field(default_factory=list)  # each (executed, A)
    frames: list[bytes] = field(default_factory=list)  # SHA-256 of each query's images

    def follow_chain(self, info: Mapping[str, Any], n_steps: int) -> None:
        """Write down ``n_steps`` for the present subtask of a chain, then where the chain stands."""
        if "subtask" not in info:
            return
        if self.subtask_steps:
            self.subtask_steps[-1] += n_steps
        if info["task"] and len(self.subtasks) == info["subtask"]:
            self.subtasks.append(str(info["task"]))
            self.subtask_steps.append(0)
        self.solved = int(info["subtask"])

    def executed(self) -> NDArray[np.float32]:
        """Return every action executed so far, (N, A) float32."""
        return np.concatenate(self.actions) if self.actions else np.zeros((0, 0), np.float32)

    def result(
        self, outcome: Outcome, *, state_sha256: str = "", culprit: Culprit | None = None, error: str = ""
    ) -> Result:
        """Freeze the trace."""
        known = [f for f in self.flops if f is not None]
        return Result(
            outcome=outcome,
            steps=self.steps,
            instruction=self.instruction,
            depths=tuple(self.depths),
            horizons=tuple(self.horizons),
            exit_traces=tuple(self.exit_traces),
            flops=sum(known) if known and len(known) == len(self.flops) else None,
            solved=self.solved,
            subtasks=tuple(self.subtasks),
            subtask_steps=tuple(self.subtask_steps),
            appearance=self.appearance,
            scene_sha256=self.scene_sha256,
            frames_sha256=hashlib.sha256(b"".join(self.frames)).hexdigest() if self.frames else "",
            actions_sha256=hashlib.sha256(self.executed().tobytes()).hexdigest(),
            state_sha256=state_sha256,
            culprit=culprit,
            error=error,
        )


def digest(array: NDArray[np.generic]) -> bytes:
    """Return SHA-256 over the bytes of ``array`` in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()


def checked(chunk: ActionChunk, env: BenchEnv) -> NDArray[np.float32]:
    """Return the chunk's actions, (K, A) float32 inside the action space.

    Raises:
        PolicyFault: no chunk, wrong shape, not finite, or out of range by more than ``TOLERANCE``.
    """
    if not isinstance(chunk, ActionChunk):
        raise PolicyFault(f"act returned {type(chunk).__name__}, expected an ActionChunk")
    low, high = env.action_space.low, env.action_space.high
    actions = np.asarray(chunk.actions)
    if actions.ndim != 2 or not len(actions) or actions.shape[1] != len(low):
        raise PolicyFault(f"actions have shape {actions.shape}, expected (K, {len(low)}) with K >= 1")
    if actions.dtype.kind != "f":
        raise PolicyFault(f"actions have dtype {actions.dtype}, expected float32")
    if not np.isfinite(actions).all():
        where = np.argwhere(~np.isfinite(actions))[0]
        raise PolicyFault(f"action {where[0]} value {where[1]} is {actions[tuple(where)]}, expected a finite number")
    outside = (actions < low - TOLERANCE) | (actions > high + TOLERANCE)
    if outside.any():
        k, a = np.argwhere(outside)[0]
        raise PolicyFault(f"action {k} value {a} is {actions[k, a]:.6g}, allowed is [{low[a]:g}, {high[a]:g}]")
    if not np.isfinite(chunk.compute.exit_trace).all():
        raise PolicyFault(f"the exit trace holds a value that is not finite: {chunk.compute.exit_trace}")
    return np.clip(actions, low, high).astype(np.float32)


def rollout(
    env: BenchEnv,
    episode: Episode,
    *,
    start_option: str,
    horizon: HorizonRule,
    max_horizon: int | None,
    trace: Trace,
) -> Generator[Query, ActionChunk, tuple[Outcome, str]]:
    """Play one episode; return its outcome and the SHA-256 of the final simulator state.

    Raises:
        PolicyFault: the chunk or the horizon breaks the contract.
        EnvFault: the environment ended neither in success nor at its cap.
    """
    obs, info = env.reset(seed=episode.env_seed, options={start_option: episode.start})
    trace.scene_sha256, trace.appearance = env.scene_digest(), env.appearance
    trace.follow_chain(info, 0)
    for index in range(1 << 20):
        if index == 0:
            trace.instruction = obs["instruction"]
        if "privileged" in info:
            obs["privileged"] = info["privileged"]
        if obs["images"]:
            trace.frames.append(b"".join(digest(obs["images"][camera]) for camera in sorted(obs["images"])))
        chunk = yield Query(index, obs, episode.query_seed(index), trace.solved or 0)
        actions = checked(chunk, env)
        n = horizon(chunk)
        if not 1 <= n <= len(actions):
            raise PolicyFault(f"the horizon rule asks for {n} actions of a chunk of {len(actions)}")
        actions = actions[: min(n, max_horizon or n)]
        before = trace.steps
        obs, _, terminated, truncated, info = env.step_chunk(actions)
        trace.steps = int(info["steps"])
        trace.actions.append(actions[: trace.steps - before])
        trace.horizons.append(trace.steps - before)
        trace.follow_chain(info, trace.steps - before)
        compute = chunk.compute
        trace.depths.append(int(compute.depth))
        trace.exit_traces.append(tuple(float(v) for v in compute.exit_trace))
        trace.flops.append(compute.flops)
        trace.batch_sizes.append(int(compute.batch_size))
        if compute.backbone_s is not None and compute.head_s is not None:
            trace.backbone_s.append(float(compute.backbone_s))
            trace.head_s.append(float(compute.head_s))
        if compute.peak_memory_bytes is not None:
            trace.peak_memory_bytes = max(trace.peak_memory_bytes or 0, int(compute.peak_memory_bytes))
        if terminated or truncated:
            outcome = Outcome.SUCCESS if terminated else Outcome.TIMEOUT
            return outcome, digest(env.get_state()).hex()
        if trace.steps == before:
            raise EnvFault("step_chunk ran no control step and the episode did not end")
    raise EnvFault("the environment never ended the episode")


def play(
    make_env: Callable[[], BenchEnv],
    policy: Policy,
    episode: Episode,
    *,
    start_option: str,
    max_horizon: int | None,
    on_phase: Callable[[Phase], None] = lambda phase: None,
) -> tuple[Result, Trace]:
    """Play one episode with one policy; an exception becomes an ERROR with its traceback and its culprit.

    ``make_env`` returns the episode's environment, built or kept from before; its failure is an ERROR too.
    ``on_phase`` is told whose turn it is, so that a watchdog can say who hangs.
    """
    trace = Trace()
    culprit = Culprit.ENV
    try:
        on_phase("env")
        env = make_env()
        culprit = Culprit.POLICY
        on_phase("policy")
        state = policy.initial_state(episode)
        turns = rollout(
            env, episode, start_option=start_option, horizon=policy.horizon, max_horizon=max_horizon, trace=trace
        )
        chunk, subtask = None, 0
        while True:
            culprit = Culprit.ENV
            on_phase("env")
            try:
                query = turns.send(chunk)  # type: ignore[arg-type]  # a generator is started by sending None
            except StopIteration as end:
                outcome, state_sha256 = end.value
                return trace.result(outcome, state_sha256=state_sha256), trace
            culprit = Culprit.POLICY
            on_phase("policy")
            if query.subtask != subtask:
                subtask, state = query.subtask, policy.next_subtask(state, episode)
            begun = time.perf_counter()
            chunk, state = policy.act(query.obs, state, np.random.default_rng(query.seed))
            trace.model_s.append(chunk.compute.model_s or time.perf_counter() - begun)
    except (UsageError, InfraFault):  # a wrong call concerns the whole run, a lost process the executor
        raise
    except Exception as error:  # the one place where an episode's crash becomes an ERROR
        if isinstance(error, PolicyFault):
            culprit = Culprit.POLICY
        return trace.result(Outcome.ERROR, culprit=culprit, error="".join(traceback.format_exception(error))), trace
