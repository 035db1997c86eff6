"""The conventions of the released evaluation script, from image to gripper sign, step by step.

image      JPEG (quality 95, 4:2:0) and back; Lanczos-3 to the towers' size, rounded to 8 bits; centre crop of 90 % of
           the area, stretched back bilinearly, cut down to 8 bits
proprio    BOUNDS_Q99, clipped
actions    BOUNDS_Q99 back; gripper 2x - 1, its sign, on LIBERO times -1; clipped to the env's limits, as its controller
           does

Non-obvious: the script converts to 8 bits by rounding after the resize, and by flooring 255.5 x after the crop. Its
JPEG decoder (TensorFlow's, fast integer DCT) differs from Pillow's by a level or two in some pixels.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from rdvla_bench.policies.rdvla.conventions import Convention
from rdvla_bench.policies.rdvla.images import centre_crop, lanczos3
from rdvla_bench.policies.rdvla.statistics import Statistics
from rdvla_bench.policies.rdvla.tokens import prompt

_JPEG = {"quality": 95, "subsampling": 2}  # defaults of tf.image.encode_jpeg


@lru_cache(maxsize=8)
def _matrices(source: int, target: int) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(lanczos3(source, target)), torch.from_numpy(centre_crop(target))


def jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Encode and decode."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", **_JPEG)
    return np.array(Image.open(file))


def transform(image: NDArray[np.uint8], size: int) -> Tensor:
    """Map a square (H, H, 3) image to the 8-bit (3, size, size) one that the towers' normalisation gets."""
    resizing, cropping = _matrices(len(image), size)
    if len(image) == size:  # the script leaves an image alone that has the size already
        pixels = torch.tensor(np.ascontiguousarray(image)).permute(2, 0, 1)
    else:
        wide = torch.from_numpy(jpeg(image)).permute(2, 0, 1).double()
        pixels = (resizing @ wide @ resizing.T).round().clamp(0, 255)
    cropped = (cropping @ (pixels.double() / 255.0) @ cropping.T).clamp(0.0, 1.0)
    return (cropped * 255.5).clamp(max=255.0).to(torch.uint8)


def gripper_to_env(value: NDArray[np.float32], opens: float) -> NDArray[np.float32]:
    """Map the data set's 0 (close) .. 1 (open) to the env's -``opens`` (close), ``opens``; 0 exactly between."""
    moved: NDArray[np.float32] = np.float32(opens) * np.sign(2.0 * value - 1.0)
    return moved


@dataclass(frozen=True, eq=False)
class ReleasedInterface:
    """What the released weights expect."""

    statistics: Statistics
    tokenizer: Tokenizer
    tokenizer_sha256: str
    image_size: int
    convention: Convention

    def describe(self) -> dict[str, Any]:
        """Return plain data for the policy card: what the weights' digest does not cover."""
        return {
            "image": "released evaluation script: JPEG, Lanczos-3, centre crop 0.9",
            "tokenizer_sha256": self.tokenizer_sha256,
            "action": self.statistics.action.describe(),
            "proprio": self.statistics.proprio.describe(),
        }

    def tokens(self, instruction: str) -> Sequence[int]:
        """Return Qwen2.5's byte-pair tokens of the released prompt."""
        ids: list[int] = self.tokenizer.encode(prompt(instruction)).ids
        return ids

    def image(self, image: NDArray[np.uint8]) -> Tensor:
        """Return the script's 8-bit image as (3, S, S) in [0, 1]."""
        return transform(image, self.image_size).float() / 255.0

    def proprio(self, proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the released eight values, normalise and clip."""
        return self.statistics.proprio.normalise(proprio[..., list(self.convention.reads)])

    def actions(self, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """Restore the units, give the gripper the env's convention, clip."""
        actions = self.statistics.action.restore(chunk)
        actions[:, -1] = gripper_to_env(actions[:, -1], self.convention.opens)
        return np.clip(actions, -1.0, 1.0)
