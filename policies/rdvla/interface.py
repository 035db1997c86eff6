"""What stands between an observation and the network, and between the network and the env."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rdvla_bench.policies.rdvla.config import RdvlaConfig
from rdvla_bench.policies.rdvla.conventions import read_proprio
from rdvla_bench.policies.rdvla.images import resize
from rdvla_bench.policies.rdvla.tokens import words_of


class Interface(Protocol):
    """The conventions that a set of weights was trained in."""

    def tokens(self, instruction: str) -> Sequence[int]:
        """Return the prompt's token ids."""

    def image(self, image: NDArray[np.uint8]) -> Tensor:
        """Map a square (H, W, 3) image to what the towers see, (3, S, S) float32 in [0, 1]."""

    def proprio(self, proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (P,) of the env to what the network reads."""

    def actions(self, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (K, A) of the network to the env's [-1, 1]."""


class UntrainedInterface:
    """Conventions that need no file: hashed words, one matrix a side, no statistics."""

    def __init__(self, config: RdvlaConfig) -> None:
        """Take vocabulary, image size and the benchmark's conventions from ``config``."""
        self._sizes = config
        self._config = config.backbone

    def tokens(self, instruction: str) -> Sequence[int]:
        """Return hashed words."""
        return words_of(instruction, self._config.tokenizer, self._config.vocab)

    def image(self, image: NDArray[np.uint8]) -> Tensor:
        """Resize and crop, without rounding."""
        return resize(image, self._config.image_size)

    def proprio(self, proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return it unscaled: without a checkpoint there are no statistics to normalise with."""
        return read_proprio(self._sizes.convention, self._sizes.rotation, proprio, proprio, gripper=self._sizes.gripper)

    def actions(self, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """Clip: without statistics the normalised action is the action.

        The gripper value keeps its size where a trained policy's would be cut to its sign.
        """
        return np.clip(chunk, -1.0, 1.0)
