"""From a rendered camera image to what the vision towers see, as one matrix product a side.

The released evaluation script resizes 256 -> 224 with an antialiased Lanczos-3 filter, crops the centre 90 % of the
area and stretches it back with a bilinear filter. Both steps are linear and separable, so they are one matrix here.
Left out: its JPEG round trip and its rounding to 8 bits between the steps, which ``policies.rdvla.released`` has.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdvla_bench.errors import PolicyFault

CROP_AREA = 0.9  # released evaluation script, center_crop
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std of DINOv2's training images
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # SigLIP: [0, 1] -> [-1, 1]


def lanczos3(source: int, target: int) -> NDArray[np.float64]:
    """Return the (target, source) resizing matrix; the filter widens when it shrinks."""
    shrink = max(1.0, source / target)
    centres = (np.arange(target) + 0.5) * source / target - 0.5
    x = (np.arange(source) - centres[:, None]) / shrink
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    matrix: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return matrix


def centre_crop(size: int) -> NDArray[np.float64]:
    """Return the (size, size) matrix that stretches the centre crop over the whole side, corners on corners."""
    side = CROP_AREA**0.5
    positions = np.linspace((1 - side) / 2, (1 + side) / 2, size) * (size - 1)
    matrix: NDArray[np.float64] = np.maximum(0.0, 1.0 - np.abs(np.arange(size) - positions[:, None]))
    return matrix


@lru_cache(maxsize=8)
def _transform(source: int, target: int) -> Tensor:
    """Return the (target, source) matrix of resize and crop together."""
    return torch.from_numpy((centre_crop(target) @ lanczos3(source, target)).astype(np.float32))


def check_image(camera: str, image: NDArray[np.uint8]) -> None:
    """Refuse what is not a square (H, W, 3) uint8 image.

    Raises:
        PolicyFault: saying what was given.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape[0] != image.shape[1]:
        raise PolicyFault(
            f"camera '{camera}': expected a square (H, W, 3) uint8 image, got {image.shape} {image.dtype}"
        )


def resize(image: NDArray[np.uint8], size: int) -> Tensor:
    """Map an (H, W, 3) image to (3, size, size) float32 in [0, 1]."""
    pixels = torch.tensor(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255.0
    matrix = _transform(image.shape[0], size)
    return (matrix @ pixels @ matrix.T).clamp(0.0, 1.0)


def normalise(pixels: Tensor, statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    """Subtract the mean and divide by the std of each channel of (..., 3, H, W)."""
    mean, std = (torch.tensor(s, dtype=pixels.dtype, device=pixels.device).view(3, 1, 1) for s in statistics)
    return (pixels - mean) / std
