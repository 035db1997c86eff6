"""Random changes of training images and of the tool's place.

They are a function of (seed, step, place in the batch), so that a resumed run sees the same ones, and are made at the
size that the vision towers see, each camera on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdvla_bench.policies.rdvla.training.recipe import Augmentation
from rdvla_bench.seeding import generator

_PATCHES = 3  # rectangles in a picture that is covered, of a sixth to a half of its sides
_AROUND = 0.08  # of the picture's side: what stays to be seen around the goal and the tool
_NOWHERE = np.empty((0, 2))
GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601, what saturation moves away from


@dataclass(frozen=True)
class Augmenter:
    """The changes of one step."""

    strength: Augmentation
    seed: int
    step: int

    def slide(self, place: int) -> tuple[int, int]:
        """Return by how many pixels down and to the right the fixed camera's picture and the world slide."""
        if not self.strength.slide:
            return 0, 0
        rng = generator("rdvla-train-slide", self.seed, self.step, place)
        down, right = (int(n) for n in rng.integers(-self.strength.slide, self.strength.slide + 1, 2))
        return down, right

    def offset(self, place: int) -> NDArray[np.float64]:
        """Return (3,) by how many metres the tool's place is told wrongly."""
        if not self.strength.offset:
            return np.zeros(3)
        rng = generator("rdvla-train-offset", self.seed, self.step, place)
        return rng.uniform(-self.strength.offset, self.strength.offset, 3)

    def __call__(
        self,
        pixels: Tensor,
        place: int,
        keep: NDArray[np.float64] = _NOWHERE,
        batch: Sequence[Tensor] = (),
        alike: Sequence[Tensor] = (),
    ) -> Tensor:
        """Return the changed (cameras, 3, S, S) in [0, 1] of the sample at ``place`` in the batch.

        ``keep`` is pixels (n, 2) of the fixed camera's picture, down and right, that are not covered; ``batch`` is the
        pixels of all samples, of which one may be pasted in; ``alike`` those of the samples whose other cameras may
        stand in for this one's.
        """
        if not self.strength.is_on:
            return pixels
        rng = generator("rdvla-train-augment", self.seed, self.step, place)
        far, *others = pixels
        slid = shift(far, *self.slide(place))
        fixed, *others = (_change(image, self.strength, rng) for image in (slid, *others))
        if self.strength.erase and rng.random() < self.strength.erase:
            fixed = _covered(fixed, keep, rng)
        if self.strength.paste and len(batch) > 1 and rng.random() < self.strength.paste:
            other = (place + int(rng.integers(1, len(batch)))) % len(batch)
            fixed = _covered(fixed, keep, rng, batch[other][0])
        if self.strength.blind and alike and rng.random() < self.strength.blind:
            others = list(alike[int(rng.integers(len(alike)))][1:])
        return torch.stack([fixed, *others])


UNCHANGED = Augmenter(Augmentation(), 0, 0)


def _change(image: Tensor, strength: Augmentation, rng: np.random.Generator) -> Tensor:
    down, right = (int(n) for n in rng.integers(-strength.shift, strength.shift + 1, 2))
    brightness, contrast, saturation = (
        float(rng.uniform(-most, most)) for most in (strength.brightness, strength.contrast, strength.saturation)
    )
    image = shift(image, down, right) + brightness
    mean = image.mean()
    image = mean + (image - mean) * (1.0 + contrast)
    grey = torch.einsum("chw,c->hw", image, torch.tensor(GREY))
    return (grey + (image - grey) * (1.0 + saturation)).clamp(0.0, 1.0)


def _covered(image: Tensor, keep: NDArray[np.float64], rng: np.random.Generator, other: Tensor | None = None) -> Tensor:
    """Cover up to ``_PATCHES`` rectangles, but for those that come near a point of ``keep`` (n, 2).

    Each with what ``other`` shows there, or where that is None with one colour.
    """
    size = image.shape[-1]
    image = image.clone()
    for _ in range(_PATCHES):
        high, wide = (int(n) for n in rng.integers(size // 6, size // 2 + 1, 2))
        top, left = int(rng.integers(0, size - high + 1)), int(rng.integers(0, size - wide + 1))
        paint = torch.from_numpy(rng.random((3, 1, 1), np.float32)).expand_as(image) if other is None else other
        if not any(_covers((top, left), (high, wide), point, _AROUND * size) for point in keep):
            image[:, top : top + high, left : left + wide] = paint[:, top : top + high, left : left + wide]
    return image


def _covers(corner: tuple[int, int], sides: tuple[int, int], point: NDArray[np.float64], margin: float) -> bool:
    """Return whether a rectangle comes within ``margin`` pixels of a point."""
    return all(a - margin <= p <= a + side + margin for a, side, p in zip(corner, sides, point, strict=True))


def shift(image: Tensor, down: int, right: int) -> Tensor:
    """Move (3, H, W) by whole pixels; the border's pixels fill what becomes free."""
    for by, side in ((down, -2), (right, -1)):
        if by:
            size = image.shape[side]
            image = image.index_select(side, (torch.arange(size) - by).clamp(0, size - 1))
    return image
