"""The conventions of weights trained here; training itself reads its samples through them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from rdvla_bench.policies.rdvla.config import RdvlaConfig
from rdvla_bench.policies.rdvla.conventions import FarCamera, read_proprio
from rdvla_bench.policies.rdvla.images import CROP_AREA
from rdvla_bench.policies.rdvla.interface import UntrainedInterface
from rdvla_bench.policies.rdvla.statistics import Statistics
from rdvla_bench.policies.rdvla.stored_images import shrink
from rdvla_bench.policies.rdvla.tokens import prompt


class TrainedInterface(UntrainedInterface):
    """Prompt as for untrained weights; images of 8 bits; proprioception and actions in the data set's bounds."""

    def __init__(self, config: RdvlaConfig, statistics: Statistics, vocabulary: str = "") -> None:
        """Take the sizes, the bounds of the training data, and the tokenizer.json of weights that began as released."""
        super().__init__(config)
        self.cameras = config.backbone.cameras
        self.statistics = statistics
        self._vocabulary = vocabulary
        self._tokenizer = Tokenizer.from_str(vocabulary) if vocabulary else None
        if self._tokenizer is not None:  # a saved tokenizer keeps the settings of its last call
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()

    def tokens(self, instruction: str) -> Sequence[int]:
        """Return the vocabulary's tokens, hashed words without one."""
        if self._tokenizer is None:
            return super().tokens(instruction)
        ids: list[int] = self._tokenizer.encode(prompt(instruction)).ids
        return ids

    def image(self, image: NDArray[np.uint8]) -> Tensor:
        """Resize, crop and round to 8 bits as in stored demonstrations; the network's own size stays as it is."""
        stored = shrink(image, self._config.image_size)
        return torch.from_numpy(np.array(stored)).permute(2, 0, 1).float() / 255.0

    def describe(self) -> dict[str, Any]:
        """Return plain data for the policy card: what the weights' digest does not cover."""
        bounds = {"action": self.statistics.action.describe(), "proprio": self.statistics.proprio.describe()}
        if not self._vocabulary:
            return bounds
        return {**bounds, "tokenizer_sha256": hashlib.sha256(self._vocabulary.encode()).hexdigest()}

    def proprio(self, proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalise (..., P), clip, and take what the network reads."""
        scaled = self.statistics.proprio.normalise(proprio)
        sizes = self._sizes
        return read_proprio(sizes.convention, sizes.rotation, proprio, scaled, gripper=sizes.gripper)

    def moved(self, slides: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what proprioception changes by, (B, P), if the far camera's picture slides by (B, 2) pixels.

        Pixels are those of the network's pictures, down and right; the tool's position comes first in proprioception.
        """
        convention = self._sizes.convention
        offsets = np.zeros((len(slides), convention.n_proprio), np.float32)
        if camera := convention.far_camera:
            offsets[:, :3] = slides / self._config.image_size @ _sides(camera)
        return offsets

    def seen_at(self, points: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """Return the pixels (B, 2), down and right, at which the far camera's picture shows points (B, 3) in m.

        None where the benchmark's camera is not far away.
        """
        camera = self._sizes.convention.far_camera
        if camera is None:
            return None
        sides = _sides(camera)
        shares: NDArray[np.float64] = (points - np.array(camera.centre)) @ sides.T / np.sum(sides**2, axis=1)
        return (shares + 0.5) * self._config.image_size

    def actions(self, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """Restore the units, cut the gripper to its sign, clip."""
        actions = self.statistics.action.restore(np.clip(chunk, -1.0, 1.0))
        actions[:, -1] = np.where(chunk[:, -1] > 0, 1.0, -1.0)
        return np.clip(actions, -1.0, 1.0)


def _sides(camera: FarCamera) -> NDArray[np.float64]:
    """Return the height and the width (2, 3) in m of what the network sees, a centre crop of the camera's picture."""
    sides: NDArray[np.float64] = np.array([camera.down, camera.across]) * CROP_AREA**0.5
    return sides
