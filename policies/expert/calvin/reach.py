"""How far the arm stretches, and the lean of the tool that keeps it from stretching straight.

A straight Panda arm is singular, and CALVIN's inverse kinematics then stop short of the target. Leaning the tool
outwards brings the wrist nearer. Lengths are the Panda's (Franka's Denavit-Hartenberg table) and CALVIN's tool.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rdvla_bench.policies.expert.geometry import FloatArray, turn

_HAND = 0.107 + 0.14  # m from the last wrist axis to the tool point: flange, and panda_longer_finger.urdf tcp
_WRIST = 0.088  # m between the last two wrist axes, across the tool
_SHOULDER = 0.333  # m of the second joint above the base
_LONGEST = 0.675  # m from shoulder to wrist; 0.70 is straight
_SHORTEST = 0.2  # m; nearer, elbow and wrist run into their limits
_MOST = np.deg2rad(36.0)  # of the lean
_HALVINGS = 12  # of an interval of angles: to 0.01 degrees
EASE = np.pi / 2  # rad: the tool's yaw at which the wrist has room on both sides
YAWS = (-0.1, 4.3)  # rad that the wrist reaches all over the table


def yaw_of(yaw: float) -> float:
    """Return a yaw as -pi/2 to 3 pi/2, half a turn either way from ``EASE``."""
    return float((yaw + np.pi / 2) % (2 * np.pi) - np.pi / 2)


def rotation(euler: FloatArray) -> FloatArray:
    """Return the rotation (3, 3) of extrinsic xyz Euler angles."""
    axes = np.eye(3)
    return turn(axes[2], euler[2]) @ turn(axes[1], euler[1]) @ turn(axes[0], euler[0])


def euler_of(mat: FloatArray, near: float) -> FloatArray:
    """Return extrinsic xyz Euler angles (3,) of a rotation, the yaw within half a turn of ``near``."""
    roll, pitch = np.arctan2(mat[2, 1], mat[2, 2]), np.arcsin(np.clip(-mat[2, 0], -1.0, 1.0))
    yaw = np.arctan2(mat[1, 0], mat[0, 0])
    yaw += 2 * np.pi * np.round((near - yaw) / (2 * np.pi))
    return np.array([roll, pitch, yaw])


def stretch(base: FloatArray, pos: FloatArray, mat: FloatArray) -> float:
    """Return the distance in m from shoulder to wrist at a tool pose."""
    outward = _outward(base, pos)
    across = outward - mat[:, 2] * float(outward @ mat[:, 2])
    wrist = pos - _HAND * mat[:, 2] - _WRIST * across / max(float(np.linalg.norm(across)), 1e-6)
    return float(np.linalg.norm(wrist - base - np.array([0.0, 0.0, _SHOULDER])))


def tool(base: FloatArray, pos: FloatArray, yaw: float, pitch: float = 0.0) -> FloatArray:
    """Return the Euler angles (3,) of a tool that points down with ``yaw``, leaning out as far as the reach asks.

    ``pitch`` first tips it in the plane of its fingers, which stay upright: the finger tips towards +y, away from
    the robot, the hand back, as far as the robot is not too near for that. A small step changes the angles a little.
    """
    side = np.array([np.cos(yaw), np.sin(yaw), 0.0]) * (1.0 if np.sin(yaw) >= 0 else -1.0)
    tip = np.array([-side[1], side[0], 0.0])
    outward = _outward(base, pos)
    axis = np.array([-outward[1], outward[0], 0.0])

    def tipped(less: float) -> FloatArray:
        return turn(tip, less - pitch) @ _down(yaw)

    upright = tipped(_least(lambda less: stretch(base, pos, tipped(less)) >= _SHORTEST, pitch) if pitch > 0 else 0.0)

    def leaning(angle: float) -> FloatArray:
        return turn(axis, -angle) @ upright

    return euler_of(leaning(_least(lambda angle: stretch(base, pos, leaning(angle)) <= _LONGEST, _MOST)), yaw)


def _least(holds: Callable[[float], bool], most: float) -> float:
    """Return the least angle in rad from 0 to ``most`` from which on something holds, ``most`` where it never does."""
    if holds(0.0):
        return 0.0
    low, high = 0.0, most
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return float(high)


def _outward(base: FloatArray, pos: FloatArray) -> FloatArray:
    """Return the horizontal unit vector (3,) from the base to a position."""
    flat = np.array([pos[0] - base[0], pos[1] - base[1], 0.0])
    unit: FloatArray = flat / max(float(np.linalg.norm(flat)), 1e-6)
    return unit


def _down(yaw: float) -> FloatArray:
    """Return the rotation (3, 3) of a tool that points straight down; the fingers open across ``yaw``."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]])
