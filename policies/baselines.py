"""The two floors of every board: random motion and no motion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.errors import UsageError
from rdvla_bench.policy import Policy, PolicyCard
from rdvla_bench.types import ActionChunk, Observation

ACTION_DIM = 7  # LIBERO and CALVIN: 6 of motion, 1 of gripper
GRIPPER_OPEN = -1.0  # robosuite 1.4.0 PandaGripper: -1 opens, +1 closes


class RandomPolicy(Policy):
    """Draws every action uniformly from [-1, 1]."""

    def __init__(self, chunk: int) -> None:
        """Fix the length K of a chunk."""
        self.card = PolicyCard(name="random", weights="none", chunk=_chunk(chunk), config={"chunk": chunk})

    def act(self, obs: Observation, state: None, rng: np.random.Generator) -> tuple[ActionChunk, None]:
        """Return (K, 7) draws; the observation is not looked at."""
        del obs
        actions = rng.uniform(-1.0, 1.0, size=(self.card.chunk, ACTION_DIM)).astype(np.float32)
        return ActionChunk(actions), state


class HoldPolicy(Policy):
    """Commands no motion and an open gripper."""

    def __init__(self, chunk: int) -> None:
        """Fix the length K of a chunk."""
        self.card = PolicyCard(name="hold", weights="none", chunk=_chunk(chunk), config={"chunk": chunk})

    def act(self, obs: Observation, state: None, rng: np.random.Generator) -> tuple[ActionChunk, None]:
        """Return K times (0, 0, 0, 0, 0, 0, open)."""
        del obs, rng
        actions: NDArray[np.float32] = np.zeros((self.card.chunk, ACTION_DIM), np.float32)
        actions[:, -1] = GRIPPER_OPEN
        return ActionChunk(actions), state


def random_policy(*, chunk: int = 8) -> Policy:
    """Build the uniform random policy."""
    return RandomPolicy(chunk)


def hold(*, chunk: int = 8) -> Policy:
    """Build the policy that does not move."""
    return HoldPolicy(chunk)


def _chunk(chunk: int) -> int:
    if chunk < 1:
        raise UsageError(f"chunk must be at least 1, got {chunk}")
    return chunk
