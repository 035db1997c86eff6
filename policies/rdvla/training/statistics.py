"""Measuring the bounds that a data set is normalised with, and writing them as the released format does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.policies.rdvla.statistics import EXTREMES, PERCENTILES, Bounds, Names, Statistics

KEY = "samples"
"""What our own files call their one data set."""


def measure(actions: NDArray[np.float32], proprio: NDArray[np.float32], names: Names = EXTREMES) -> Statistics:
    """Return the bounds of (n, A) actions and (m, P) proprioceptions: the extremes, or the 1st and 99th percentiles.

    What lies beyond is cut off, and a motion that few tasks need lies in the last percent: leaning the hand before a
    drawer takes -0.5 where the 1st percentile over LIBERO's 40 tasks is -0.16. The released files' percentiles are for
    noisy recordings. The last action is the gripper's, -1 or +1: it is not scaled.
    """
    not_gripper = np.arange(actions.shape[1]) < actions.shape[1] - 1
    every = np.ones(proprio.shape[1], np.bool_)
    return Statistics(KEY, _bounds(actions, not_gripper, names), _bounds(proprio, every, names))


def to_document(statistics: Statistics) -> dict[str, Any]:
    """Return what ``rdvla.statistics.parse`` reads."""
    return {statistics.key: {"action": statistics.action.describe(), "proprio": statistics.proprio.describe()}}


def _bounds(values: NDArray[np.float32], mask: NDArray[np.bool_], names: Names) -> Bounds:
    tail = 0.01 if names == PERCENTILES else 0.0
    low, high = np.quantile(values.astype(np.float64), (tail, 1 - tail), axis=0)
    return Bounds(low, high, mask, names)
