"""Images as training data hold them and trained weights see them: resized, cropped, rounded to 8 bits.

Rows first, then columns, with rounding after each, as Pillow resizes. The matrices of ``images`` are rounded to
multiples of 2^-14, so that every product and sum is a whole number under 2^24, exact in float32 in whatever order it
is added up: a picture is shrunk to the same bytes on every machine, with every number of threads.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdvla_bench.policies.rdvla.images import centre_crop, lanczos3

_ONE = 1 << 14


@lru_cache(maxsize=8)
def _matrix(source: int, target: int) -> Tensor:
    """Return the (target, source) matrix of resize and crop in units of 1 / ``_ONE``; each row sums up to one."""
    matrix = np.rint(centre_crop(target) @ lanczos3(source, target) * _ONE)
    matrix[np.arange(target), matrix.argmax(axis=1)] += _ONE - matrix.sum(axis=1)
    return torch.from_numpy(matrix.astype(np.float32))


def _rounded(product: Tensor) -> Tensor:
    return product.add_(_ONE // 2).mul_(1 / _ONE).floor_().clamp_(0, 255)


def shrink(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Map a square (H, H, 3) image to (size, size, 3); one of that size already is returned as it is."""
    source = len(image)
    if source == size:
        return image
    matrix = _matrix(source, size)
    rows = _rounded(matrix @ torch.from_numpy(image.reshape(source, -1).astype(np.float32)))  # (S, H 3)
    turned = rows.view(size, source, 3).transpose(0, 1).reshape(source, -1)  # (H, S 3)
    columns = _rounded(matrix @ turned).view(size, size, 3).transpose(0, 1)
    shrunk: NDArray[np.uint8] = columns.to(torch.uint8).contiguous().numpy()
    return shrunk
