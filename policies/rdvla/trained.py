"""The conventions of weights trained here; training itself reads its samples through them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.policies.rdvla.config import BackboneConfig
from rdvla_bench.policies.rdvla.interface import UntrainedInterface
from rdvla_bench.policies.rdvla.statistics import Statistics


class TrainedInterface(UntrainedInterface):
    """Prompt and image as for untrained weights; proprioception and actions in the data set's bounds."""

    def __init__(self, config: BackboneConfig, statistics: Statistics) -> None:
        """Take the sizes, and the bounds of the training data."""
        super().__init__(config)
        self.statistics = statistics

    def describe(self) -> dict[str, Any]:
        """Return plain data for the policy card: what the weights' digest does not cover."""
        return {"action": self.statistics.action.describe(), "proprio": self.statistics.proprio.describe()}

    def proprio(self, proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalise (..., P) and clip."""
        return self.statistics.proprio.normalise(proprio)

    def actions(self, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """Restore the units, cut the gripper to its sign (-1 open, +1 close), clip."""
        actions = self.statistics.action.restore(np.clip(chunk, -1.0, 1.0))
        actions[:, -1] = np.where(chunk[:, -1] > 0, 1.0, -1.0)
        return np.clip(actions, -1.0, 1.0)
