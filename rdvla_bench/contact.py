"""What the gripper's fingers touch, as every environment tells it, and an environment that writes it down.

The seam between a simulator and whoever asks in which part of an episode something happens: free motion or contact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.env import BenchEnv, EnvWrapper
from rdvla_bench.errors import UsageError
from rdvla_bench.types import Observation

KEY = "fingers_touch"


class Touch(TypedDict):
    """The part of ``info["privileged"]`` that every environment with a gripper offers."""

    fingers_touch: tuple[str, ...]
    """Names of what a finger touches and what can move: things, doors, drawers, handles, buttons, switches, knobs.

    Sorted. Tables, floors, shelves and the robot itself are never among them.
    """


def touched(info: Mapping[str, Any], env: str) -> tuple[str, ...]:
    """Return ``Touch.fingers_touch`` of an ``info``; ``env`` is the environment's name, for the message.

    Raises:
        UsageError: the environment does not say what its fingers touch.
    """
    privileged = info.get("privileged", {})
    if KEY not in privileged:
        raise UsageError(
            f"{env} does not say what its fingers touch: its info['privileged'] lacks '{KEY}' (rdvla_bench.contact)"
        )
    names: tuple[str, ...] = privileged[KEY]
    return names


class Felt(EnvWrapper):
    """An environment that writes down what the fingers touch at each observation of its present episode.

    The environment inside must have been made with ``privileged=True``. The first entry of ``touched`` is the start,
    each further one the end of a chunk; so the first Q belong to the episode's Q queries, and the last to its end.
    """

    def __init__(self, env: BenchEnv, name: str) -> None:
        """Wrap ``env``, called ``name``."""
        super().__init__(env)
        self._name = name
        self.touched: list[tuple[str, ...]] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start, and forget the episode before."""
        obs, info = self._env.reset(seed=seed, options=options)
        self.touched = [touched(info, self._name)]
        return obs, info

    def step_chunk(self, actions: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Run the chunk."""
        obs, reward, terminated, truncated, info = self._env.step_chunk(actions)
        self.touched.append(touched(info, self._name))
        return obs, reward, terminated, truncated, info
