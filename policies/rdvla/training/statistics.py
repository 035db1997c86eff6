"""Measuring the bounds that a data set is normalised with, and writing them as the released format does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.policies.rdvla.statistics import Bounds, Statistics

KEY = "samples"
"""What our own files call their one data set."""


def measure(actions: NDArray[np.float32], proprio: NDArray[np.float32]) -> Statistics:
    """Return the 1st and 99th percentiles of (n, A) actions and (m, P) proprioceptions.

    The last action is the gripper's, -1 or +1: it is not scaled.
    """
    not_gripper = np.arange(actions.shape[1]) < actions.shape[1] - 1
    return Statistics(KEY, _bounds(actions, not_gripper), _bounds(proprio, np.ones(proprio.shape[1], np.bool_)))


def to_document(statistics: Statistics) -> dict[str, Any]:
    """Return what ``rdvla.statistics.parse`` reads."""
    return {statistics.key: {"action": statistics.action.describe(), "proprio": statistics.proprio.describe()}}


def _bounds(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> Bounds:
    low, high = np.quantile(values.astype(np.float64), (0.01, 0.99), axis=0)
    return Bounds(low, high, mask)
