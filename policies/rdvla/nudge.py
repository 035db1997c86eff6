"""A hand that stands still is told that it is elsewhere, so that it does not stand there for good.

A policy without memory answers the same to the same view. Where its answer is to stay, beside a block that it did not
grasp, nothing will ever change: most failures of the weights trained here end so (docs/weights-history.md). Told a
place some centimetres away it moves on, and comes back from another side. No such rule is in the paper or in the
released code; released weights are played without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.policies.rdvla.conventions import Convention, turn_matrix

PLACE = 0.004  # m along an axis, less than which between two queries is standing still
TURN = 0.1  # of an element of the rotation matrix
Proprio = NDArray[np.float32]


@dataclass(frozen=True)
class Nudge:
    """Where a hand that has stood still since the last query is told to be."""

    convention: Convention
    reach: float  # m, the largest error along x and y; half of it along z; 0: told the truth

    def __call__(self, proprio: Proprio, last: Proprio | None, rng: np.random.Generator) -> Proprio:
        """Return what the network is told of ``proprio`` (P,), ``last`` being that of the query before, if any.

        Draws from ``rng`` only where the hand stood still.
        """
        if not self.reach or last is None or not self._is_still(proprio, last):
            return proprio
        told = proprio.copy()
        told[:3] += rng.uniform(-1.0, 1.0, 3) * (self.reach, self.reach, self.reach / 2)
        return told

    def _is_still(self, now: Proprio, last: Proprio) -> bool:
        if np.abs(now[:3] - last[:3]).max() >= PLACE:
            return False
        turned = turn_matrix(self.convention, now[3:6]) - turn_matrix(self.convention, last[3:6])
        return bool(np.abs(turned).max() < TURN)
