"""The Panda hand as a set of boxes in the grip frame, and whether they run into points.

Extents measured on robosuite 1.4.0's collision geoms with the gripper open; z points out of the hand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.policies.expert.geometry import FloatArray

PAD_HALF_WIDTH = 0.008  # m, along the grip frame's y
PAD_BACK, PAD_TIP = -0.012, 0.004  # m, along z: the soft pads
TIP = 0.012  # m, along z: the end of the fingers
PALM = 0.028  # m above the grip point: what sticks up further touches the palm

_FINGER_X = (0.036, 0.068)
_TIP_X, _TIP_Z = 0.055, -0.018  # the finger is thinner towards its end
_FINGER_Y = 0.0115
_FINGER_Z = (-0.049, TIP)
_HAND = (0.106, 0.034)  # half extents along x and y
_HAND_Z = (-0.124, -0.026)
_FAR = -0.35  # m: where a sweep begins
_WRIST = ((-0.067, 0.051), (-0.151, 0.06), (-0.294, -0.13))  # link 6 at the usual arm posture


def collides(points: FloatArray, pos: FloatArray, mat: FloatArray, margin: float = 0.0) -> int:
    """Return how many world points (N, 3) lie inside the open hand at grip pose (pos, mat), grown by ``margin``."""
    near = points[np.sum((points - pos) ** 2, axis=1) < 0.32**2]
    x, y, z = ((near - pos) @ mat).T
    return int(np.sum(inside(x, y, z, margin)))


def inside(
    x: FloatArray, y: FloatArray, z: FloatArray, margin: float = 0.0, *, swept: bool = False
) -> NDArray[np.bool_]:
    """Return which points, given by coordinates in the grip frame, lie inside the open hand grown by ``margin``.

    With ``swept``, also those that the hand meets on its straight way there.
    """
    wide, side = np.abs(x), np.abs(y)
    thick = np.where(z > _TIP_Z, _TIP_X, _FINGER_X[1])
    fingers = (wide > _FINGER_X[0]) & (wide < thick + margin) & (side < _FINGER_Y + margin)
    fingers &= (z > (_FAR if swept else _FINGER_Z[0])) & (z < _FINGER_Z[1])
    hand = (wide < _HAND[0] + margin) & (side < _HAND[1] + margin)
    hand &= (z > (_FAR if swept else _HAND_Z[0])) & (z < _HAND_Z[1] + margin / 2)
    (x0, x1), (y0, y1), (z0, z1) = _WRIST
    wrist = (x > x0) & (x < x1) & (y > y0) & (y < y1) & (z > z0) & (z < z1)
    return fingers | hand | wrist
