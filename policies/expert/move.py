"""One straight move of the hand, and the controller that turns the present error into an action.

The action is LIBERO's: OSC_POSE deltas in the world frame, 0.05 m and 0.5 rad a unit (robosuite 1.4.0,
controllers/config/osc_pose.json), gripper -1 open and +1 close.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.policies.expert.geometry import FloatArray, View, rotation_vector

OPEN, CLOSED = -1.0, 1.0
_METRES, _RADIANS = 0.05, 0.5  # of one action unit
_GAIN = 2.0  # asked for, of what is left to go: OSC_POSE comes about half as far in a control step, less near its goal


@dataclass(frozen=True, eq=False)
class Move:
    """Bring the grip frame to a pose; ended by arrival, by ``until``, or by ``limit``."""

    pos: FloatArray  # (3,) m, world frame
    mat: FloatArray  # (3, 3)
    grip: float  # OPEN or CLOSED
    tol: float = 0.012  # m
    tol_turn: float = 0.12  # rad
    dwell: int = 0  # control steps to stay at least
    limit: int = 60  # control steps after which the move counts as done, arrived or not
    speed: float = 1.0  # greatest length of the translation, in action units
    keep: str = ""  # the object that must stay in the hand; losing it abandons the program
    hold: str = ""  # the object to wait for between the fingers, until ``limit``
    until: tuple[str, float, float] | None = None  # (joint, low, high): also done once its value is in there
    name: str = ""


def error(view: View, move: Move) -> tuple[FloatArray, FloatArray]:
    """Return the translation (3,) in m and the rotation vector (3,) in rad that are left to go."""
    return move.pos - view["eef_pos"], rotation_vector(move.mat @ view["eef_mat"].T)


def has_arrived(view: View, move: Move) -> bool:
    """Return whether the hand is within the move's tolerances."""
    shift, spin = error(view, move)
    return bool(np.linalg.norm(shift) <= move.tol and np.linalg.norm(spin) <= move.tol_turn)


def is_over(view: View, move: Move, ticks: int) -> bool:
    """Return whether the move, begun ``ticks`` control steps ago, has ended."""
    if move.until is not None:
        joint, low, high = move.until
        if low <= view["joints"][joint]["value"] <= high:
            return True
    if ticks >= move.limit:
        return True
    if move.hold and not view["objects"][move.hold]["held"]:
        return False
    return ticks >= move.dwell and has_arrived(view, move)


def action(view: View, move: Move) -> NDArray[np.float32]:
    """Return the action (7,) float32 that takes the hand towards the move's pose: of the present view alone."""
    shift, spin = error(view, move)
    shift, spin = _GAIN * shift / _METRES, _GAIN * spin / _RADIANS
    length, angle = float(np.linalg.norm(shift)), float(np.linalg.norm(spin))
    if length > move.speed:
        shift = shift * (move.speed / length)
    if angle > 0.5:
        spin = spin * (0.5 / angle)
    return np.concatenate([shift, spin, [move.grip]]).astype(np.float32)
