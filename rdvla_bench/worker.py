"""A worker plays episodes: it holds one policy and, at any time, the environment of one task."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.arithmetic import Arithmetic, arithmetic
from rdvla_bench.env import BenchEnv
from rdvla_bench.errors import MissingExtra, UsageError
from rdvla_bench.policy import Policy
from rdvla_bench.protocol_card import ProtocolCard
from rdvla_bench.provenance import versions
from rdvla_bench.record import Execution, Record
from rdvla_bench.registry import load_policy, load_suite
from rdvla_bench.rollout import Phase, play
from rdvla_bench.suite import Suite
from rdvla_bench.types import Episode, Outcome


@dataclass(frozen=True)
class Job:
    """What a worker needs to know before its first episode; small, and sent once."""

    policy: str
    settings: Mapping[str, str]
    protocol: ProtocolCard
    env: Mapping[str, str] = field(default_factory=dict)  # --env texts
    benchmark: str = ""  # of the suites

    def make_worker(self, name: str = "local", policy: Policy | None = None) -> Worker:
        """Return the worker that does this job; a job of another kind has another."""
        return Worker(self, name, policy)


@dataclass(frozen=True)
class Greeting:
    """What a worker says of itself once its policy is loaded."""

    policy_card: dict[str, Any]
    policy_hash: str
    versions: dict[str, str]
    gl: dict[str, str]  # renderer and canary frame; empty for a policy that sees no pixels
    arithmetic: Arithmetic
    host: str
    pid: int


@dataclass(frozen=True, eq=False)
class Played:
    """One finished episode on its way to the ledger."""

    record: Record
    actions: NDArray[np.float32]  # (N, A), every action executed


def runtime_of(suite: Suite) -> ModuleType | None:
    """Return the module that chooses a renderer for ``suite``, or None for a suite that has none.

    Raises:
        MissingExtra: the suite's simulator is not installed.
    """
    if not suite.runtime:
        return None
    try:
        return import_module(suite.runtime)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"suite '{suite.name}'", suite.extra, f"no module '{error.name}'") from error


def check_cameras(name: str, policy: Policy, suite: Suite) -> None:
    """Check that ``suite`` has every camera that the policy called ``name`` reads.

    Raises:
        UsageError: naming the first that it has not.
    """
    unknown = [camera for camera in policy.card.cameras if camera not in suite.cameras]
    if unknown:
        raise UsageError(
            f"policy '{name}' reads camera '{unknown[0]}', which suite '{suite.name}' has not: "
            f"it has {', '.join(suite.cameras)}"
        )


class Worker:
    """Plays the episodes it is given, one after another. Used in process and inside a Ray actor alike."""

    def __init__(self, job: Job, name: str = "local", policy: Policy | None = None) -> None:
        """Load the policy, or take the one given (a client of a shared one)."""
        self.job = job
        self.name = name
        self.policy = load_policy(job.policy, job.settings, job.benchmark) if policy is None else policy
        self._env: BenchEnv | None = None
        self._task: tuple[str, int] | None = None
        self._build_cpu_s = 0.0

    def greet(self, suite: Suite) -> Greeting:
        """Return the policy's card and this process's renderer and versions."""
        check_cameras(self.job.policy, self.policy, suite)
        runtime = runtime_of(suite) if self.policy.card.cameras else None
        return Greeting(
            policy_card=self.policy.card.to_json(),
            policy_hash=self.policy.card.hash,
            versions=versions(),
            gl=runtime.describe() if runtime else {},
            arithmetic=arithmetic(),
            host=os.uname().nodename,
            pid=os.getpid(),
        )

    def play(self, episode: Episode, *, on_phase: Callable[[Phase], None] = lambda phase: None) -> Played:
        """Play one episode and time it."""
        suite = load_suite(episode.suite)
        begun, cpu = time.perf_counter(), time.process_time()
        self._build_cpu_s = 0.0
        result, trace = play(
            lambda: self._environment(suite, episode.task),
            self.policy,
            episode,
            start_option=suite.start_option,
            max_horizon=self.job.protocol.max_horizon,
            on_phase=on_phase,
        )
        execution = Execution(
            worker=self.name,
            wall_s=time.perf_counter() - begun,
            cpu_s=time.process_time() - cpu - self._build_cpu_s,
            build_cpu_s=self._build_cpu_s,
            model_s=tuple(trace.model_s),
            batch_sizes=tuple(trace.batch_sizes),
            backbone_s=tuple(trace.backbone_s),
            head_s=tuple(trace.head_s),
            peak_memory_bytes=trace.peak_memory_bytes,
        )
        if result.outcome is Outcome.ERROR:
            self.close_env()  # whatever state it is in
        return Played(Record(episode, result, execution), trace.executed())

    def _environment(self, suite: Suite, task: int) -> BenchEnv:
        """Return the environment of ``task``; the one of another task is closed before it is built."""
        if self._env is None or self._task != (suite.name, task):
            self.close_env()
            card, cpu = self.policy.card, time.process_time()
            try:
                self._env = suite.make_env(
                    task,
                    self.job.protocol,
                    cameras=card.cameras,
                    privileged=card.privileged,
                    settings=self.job.env,
                )
            except ModuleNotFoundError as error:
                raise MissingExtra(f"suite '{suite.name}'", suite.extra, f"no module '{error.name}'") from error
            self._task = (suite.name, task)
            self._build_cpu_s = time.process_time() - cpu
        return self._env

    def close_env(self) -> None:
        """Free the simulator."""
        if self._env is not None:
            self._env.close()
        self._env, self._task = None, None

    def close(self) -> None:
        """Free the simulator and the policy."""
        self.close_env()
        self.policy.close()
