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

BAND = 8  # rows: a Lanczos row reads some 30 of 256 rows of pixels, 8 neighbours together some 60
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


@lru_cache(maxsize=8)
def bands(source: int, target: int) -> tuple[tuple[slice, slice, Tensor], ...]:
    """Cut the matrix into bands of 8 rows without the zeros at their sides: (rows, columns, what stands there)."""
    matrix = _transform(source, target)
    cut = []
    for top in range(0, target, BAND):
        made = slice(top, min(top + BAND, target))
        used = matrix[made].any(dim=0).nonzero()
        seen = slice(int(used.min()), int(used.max()) + 1)
        cut.append((made, seen, matrix[made, seen].contiguous()))
    return tuple(cut)


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
    source = len(image)
    pixels = torch.from_numpy(image.reshape(source, -1).astype(np.float32))  # (H, W 3)
    rows = torch.empty((size, 3 * source))
    for made, seen, weights in bands(source, size):
        torch.mm(weights, pixels[seen], out=rows[made])
    matrix = _transform(source, size)  # the same for columns, where cutting it up gains nothing
    by_channel = rows.view(size, source, 3).permute(2, 0, 1).reshape(-1, source)  # (3 S, W)
    return (by_channel @ matrix.T).view(3, size, size).mul_(1 / 255).clamp_(0.0, 1.0)


def normalise(pixels: Tensor, statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    """Subtract the mean and divide by the std of each channel of (..., 3, H, W)."""
    mean, std = (torch.tensor(s, dtype=pixels.dtype, device=pixels.device).view(3, 1, 1) for s in statistics)
    return (pixels - mean) / std
