"""How far the arm stretches, and the lean of the hand that keeps it from stretching straight.

A straight Panda arm is singular: the controller can push along it as hard as it likes and nothing moves. Leaning
the hand outwards brings the wrist nearer. Lengths are the Panda's (Franka's Denavit-Hartenberg table, a4 0.0825,
d3 0.316, d5 0.384, a7 0.088, flange 0.107) and robosuite's grip site (0.097 beyond the hand's origin).
"""

from __future__ import annotations

import numpy as np

from rdvla_bench.policies.expert.geometry import FloatArray, turn

_HAND = 0.107 + 0.097  # m from the last wrist axis to the grip point, along the hand
_WRIST = 0.088  # m between the last two wrist axes, across the hand
_LONGEST = 0.665  # m from shoulder to wrist; 0.70 is straight
_RIGHT, _LEFT = -1.75, 2.6  # rad of the hand's turn from where an episode starts; about 0.4 rad are the first joint's
_STEP, _MOST = np.deg2rad(4.0), np.deg2rad(32.0)


def stretch(shoulder: FloatArray, pos: FloatArray, mat: FloatArray) -> float:
    """Return the distance in m from shoulder to wrist at a grip pose."""
    outward = _outward(shoulder, pos)
    across = outward - mat[:, 2] * float(outward @ mat[:, 2])
    wrist = pos - _HAND * mat[:, 2] - _WRIST * across / max(float(np.linalg.norm(across)), 1e-6)
    return float(np.linalg.norm(wrist - shoulder))


def lean_at(shoulder: FloatArray, pos: FloatArray, mat: FloatArray) -> FloatArray:
    """Return the smallest outward rotation (3, 3) to apply to ``mat`` so that the arm stays bent."""
    outward = _outward(shoulder, pos)
    axis = np.array([outward[1], -outward[0], 0.0])
    for angle in np.arange(0.0, _MOST + 1e-9, _STEP):
        lean = turn(axis, float(angle))
        if stretch(shoulder, pos, lean @ mat) <= _LONGEST:
            return lean
    return turn(axis, float(_MOST))


def wrist_allows(mat: FloatArray) -> bool:
    """Return whether the last joint can turn to a grip frame that points more or less down.

    It starts at 0.785 rad and ends at 2.9 either way (Panda), so there is more room to the left than to the right.
    """
    angle = float(np.arctan2(mat[1, 0], mat[0, 0])) - np.pi / 2
    return _RIGHT < float(np.arctan2(np.sin(angle), np.cos(angle))) < _LEFT


def _outward(shoulder: FloatArray, pos: FloatArray) -> FloatArray:
    """Return the horizontal unit vector from the shoulder to a position."""
    flat = np.array([pos[0] - shoulder[0], pos[1] - shoulder[1], 0.0])
    return flat / max(float(np.linalg.norm(flat)), 1e-6)
