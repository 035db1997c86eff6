"""The same policy in other bounds: what weights trained on one data set are, where another one's extremes are -1 and 1.

Between the extremes of both data sets the network answers what it answered before, in physical units. Weights that are
trained on without this begin with every motion stretched by the ratio of the bounds, and have to unlearn it first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdvla_bench.policies.rdvla.config import RdvlaConfig
from rdvla_bench.policies.rdvla.conventions import read_proprio
from rdvla_bench.policies.rdvla.model import RdvlaModel
from rdvla_bench.policies.rdvla.statistics import Bounds, Statistics


class _Affine(NamedTuple):
    """``after = gain * before + offset``, value by value."""

    gain: NDArray[np.float64]
    offset: NDArray[np.float64]


@torch.no_grad()
def rescale(model: RdvlaModel, before: Statistics, after: Statistics, *, is_head_given: bool) -> None:
    """Change ``model``, whose weights were trained in the bounds ``before``, for the bounds ``after``.

    A head that was drawn anew (``is_head_given`` False) writes in the new bounds already.
    """
    if not _same(before.proprio, after.proprio):
        gain, offset = map(_tensor, _read(_change(after.proprio, before.proprio), model.config))
        reader = model.proprio.fc1
        reader.bias.add_(reader.weight @ offset)
        reader.weight.mul_(gain)
    if is_head_given and not _same(before.action, after.action):
        gain, offset = map(_tensor, _change(before.action, after.action))
        writer = model.head.output_proj
        writer.weight.mul_(gain[:, None])
        writer.bias.mul_(gain).add_(offset)


def _same(a: Bounds, b: Bounds) -> bool:
    return all(np.array_equal(x, y) for x, y in ((a.low, b.low), (a.high, b.high), (a.mask, b.mask)))


def _change(before: Bounds, after: Bounds) -> _Affine:
    """Return what normalised values change by; a dimension that one of both does not scale stays as it is."""
    old, new = before.high - before.low, after.high - after.low
    moves = before.mask & after.mask & (old > 0) & (new > 0)
    width = np.where(moves, new, 1.0)
    gain = np.where(moves, old / width, 1.0)
    offset = np.where(moves, (before.low + before.high - after.low - after.high) / width, 0.0)
    return _Affine(gain, offset)


def _read(change: _Affine, config: RdvlaConfig) -> _Affine:
    """Return the change of the values that the network reads; a rotation's matrix and an empty hand have no bounds."""
    still = np.zeros(config.convention.n_proprio, np.float32)

    def pick(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return read_proprio(
            config.convention, config.rotation, still, values.astype(np.float32), gripper=config.gripper
        ).astype(np.float64)

    is_scaled = np.isnan(pick(np.full_like(change.gain, np.nan)))  # only what is scaled comes out as given
    return _Affine(
        np.where(is_scaled, pick(change.gain), 1.0),
        np.where(is_scaled, pick(change.offset), 0.0),
    )


def _tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
