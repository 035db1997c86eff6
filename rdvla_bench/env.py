"""What the harness asks of an environment, beyond ``gymnasium.Env``, and one around another."""

from __future__ import annotations

from typing import Any, Protocol, TypedDict

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rdvla_bench.types import Observation


class Info(TypedDict, total=False):
    """The keys of ``info`` that the harness reads; an environment may add others."""

    steps: int  # control steps of this episode so far, settle steps not counted
    subtask: int  # of a chain: how many of its instructions are done, and so the index of the present one
    task: str  # of a chain: the present subtask's name, "" when all are done
    privileged: dict[str, Any]  # present iff the environment was made with privileged=True


class BenchEnv(Protocol):
    """A Gymnasium environment whose episode is fixed completely by ``reset(seed, options)``.

    ``terminated`` means success and ``truncated`` the step cap of the protocol card; both end the episode. In a
    chain ``terminated`` means that all instructions are done; a chunk is cut where one is done.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Box
    appearance: str  # what its pictures are drawn from and with; "" where none are drawn

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start the episode given by ``seed`` and ``options``, settle steps included."""

    def step_chunk(self, actions: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Run up to K control steps on (K, A) actions, stop at success or cap, render only the last observation."""

    def get_state(self) -> NDArray[np.float64]:
        """Return the simulator's full state as one flat array."""

    def scene_digest(self) -> str:
        """Return SHA-256 over everything a reset placed: fixture poses and state, not pixels."""

    def close(self) -> None:
        """Free the simulator and its GL context."""


class EnvWrapper:
    """An environment around another one, which it passes everything on to; what it changes, a subclass overrides."""

    def __init__(self, env: BenchEnv) -> None:
        """Wrap ``env``."""
        self._env, self.appearance = env, env.appearance
        self.observation_space, self.action_space = env.observation_space, env.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start the episode."""
        return self._env.reset(seed=seed, options=options)

    def step_chunk(self, actions: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Run the chunk."""
        return self._env.step_chunk(actions)

    def get_state(self) -> NDArray[np.float64]:
        """Return the simulator's state."""
        return self._env.get_state()

    def scene_digest(self) -> str:
        """Return the digest of what the reset placed."""
        return self._env.scene_digest()

    def close(self) -> None:
        """Close the environment."""
        self._env.close()
