"""A policy of somebody else: one file, one entry point, and ``--policy hover`` works everywhere."""

from __future__ import annotations

import numpy as np

from rdvla_bench import ActionChunk, Compute, Episode, Observation, Policy, PolicyCard

METRES_PER_UNIT = 0.05  # LIBERO's actions: 1.0 moves the end effector by 5 cm


class Hover(Policy):
    """Rises or sinks to a height and stays there, swaying a little; it solves nothing."""

    def __init__(self, height: float, chunk: int) -> None:
        """Keep the settings, and put everything the result depends on onto the card."""
        self._height, self._chunk = height, chunk
        self.card = PolicyCard(
            name="hover",
            weights="none",
            cameras=("wrist",),  # only these are rendered
            chunk=chunk,
            config={"height": height, "chunk": chunk},
        )

    def initial_state(self, episode: Episode) -> int:
        """Count the queries of an episode."""
        return 0

    def act(self, obs: Observation, state: int, rng: np.random.Generator) -> tuple[ActionChunk, int]:
        """Return ``chunk`` actions of 7 values; every random draw comes from ``rng``."""
        error = self._height - float(obs["proprio"][2])  # proprio: eef xyz, axis-angle, two finger joints
        actions = np.zeros((self._chunk, 7), np.float32)
        actions[:, 2] = np.clip(error / METRES_PER_UNIT / self._chunk, -1, 1)
        actions[:, :2] = rng.uniform(-0.1, 0.1, 2)
        actions[:, 6] = -1  # gripper open
        return ActionChunk(actions, Compute(depth=1)), state + 1


def hover(*, height: float = 1.1, chunk: int = 8) -> Policy:
    """Hover at a height, in metres of the world frame."""
    return Hover(height, chunk)
