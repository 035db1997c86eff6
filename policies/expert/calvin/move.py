"""One straight move of the tool, and the servo that turns what is left of it into a relative action.

CALVIN's actions move a target pose on which they build up, 0.02 m and 0.05 rad a unit, the Euler angles one by one
(mees/calvin_env@797142c calvin_env/robot/robot.py); the arm follows the target by inverse kinematics that stop a few
millimetres short. So the servo steers the target, and a bounded bias makes up for what the arm leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.policies.expert.calvin.reach import EASE, tool, yaw_of
from rdvla_bench.policies.expert.geometry import FloatArray

View = Mapping[str, Any]  # the dictionary described in rdvla_bench/envs/calvin/privileged.py

OPEN, CLOSED = 1.0, -1.0
_METRES, _RADIANS = 0.02, 0.05  # of one action unit
_INTEGRAL = 0.15  # of the error, a control step
_MOST_BIAS = np.array([0.025, 0.025, 0.025, 0.1, 0.1, 0.1])  # m and rad
_NEAR = 0.03  # m that the target may be from its end while the bias builds up
_MOVED = 0.012  # m that a block may move before a program planned for it is void
_LEAD = 0.09  # m that the target may run ahead of the arm
UNSEEN, _SEEN = 0.1, 0.05  # m sideways from a place: beyond, within which the gripper's camera shows how it lies
_FUNNEL, _RIM = 0.06, 0.09  # m per rad that the tool stays above a place for what it has left to turn; m at most


@dataclass(frozen=True, eq=False)
class Move:
    """Bring the tool to a pose; ended by arrival, by ``until``, or by ``limit``."""

    pos: FloatArray  # (3,) m, world frame
    euler: FloatArray  # (3,) rad, extrinsic xyz, at ``pos``; straight down is (pi, 0, yaw)
    grip: float  # OPEN or CLOSED
    tol: float = 0.008  # m
    tol_turn: float = 0.08  # rad
    dwell: int = 0  # control steps to stay at least
    limit: int = 60  # control steps after which the move counts as done, arrived or not
    speed: float = 1.0  # greatest length of the translation, in action units
    keep: str = ""  # the block that must stay in the hand; losing it abandons the program
    hold: str = ""  # the block to wait for between the fingers, until ``limit``
    until: tuple[str, float, float] | None = None  # (joint, low, high): also done once its value is in there
    watch: tuple[str, FloatArray] | None = None  # (block, where it lay): once it lies elsewhere the program is void
    lean: tuple[float, float] | None = None  # yaw and pitch of a tool that on its way leans as each place asks
    late: bool = False  # the yaw is taken up near ``pos`` alone, where the gripper's camera shows what asks for it
    funnel: bool = False  # the tool comes down as it turns, instead of waiting for its turn
    name: str = ""


def wrap(angle: FloatArray) -> FloatArray:
    """Return angles as -pi to pi."""
    wrapped: FloatArray = (angle + np.pi) % (2 * np.pi) - np.pi
    return wrapped


def error(view: View, move: Move) -> tuple[FloatArray, FloatArray]:
    """Return the translation (3,) in m and the change of Euler angles (3,) in rad that are left to the arm."""
    return move.pos - view["tcp_pos"], wrap(move.euler - view["tcp_euler"])


def has_arrived(view: View, move: Move) -> bool:
    """Return whether the tool is within the move's tolerances."""
    shift, spin = error(view, move)
    return bool(np.linalg.norm(shift) <= move.tol and np.max(np.abs(spin)) <= move.tol_turn)


def is_over(view: View, move: Move, ticks: int) -> bool:
    """Return whether the move, begun ``ticks`` control steps ago, has ended."""
    if move.until is not None:
        joint, low, high = move.until
        if low <= view["joints"][joint]["value"] <= high:
            return True
    if ticks >= move.limit:
        return True
    if move.hold and not view["blocks"][move.hold]["held"]:
        return False
    return ticks >= move.dwell and has_arrived(view, move)


def is_void(view: View, move: Move) -> bool:
    """Return whether the block that the move was planned for has moved since."""
    if move.watch is None:
        return False
    name, lay = move.watch
    return bool(np.linalg.norm(view["blocks"][name]["pos"] - lay) > _MOVED)


def correct(view: View, move: Move, bias: FloatArray) -> FloatArray:
    """Return the bias (6,) after one more control step: the sum of small errors that the arm leaves."""
    aim = _aim(view, move)
    left = float(np.linalg.norm(aim + bias[:3] - view["target_pos"]))
    if left > _NEAR:
        faded: FloatArray = 0.9 * bias
        return faded
    lacks = np.concatenate([aim - view["tcp_pos"], error(view, move)[1]])
    return np.clip(bias + _INTEGRAL * lacks, -_MOST_BIAS, _MOST_BIAS)


def action(view: View, move: Move, bias: FloatArray) -> NDArray[np.float32]:
    """Return the action (7,) float32 that takes the target towards the move's pose, ``bias`` (6,) further."""
    ahead = view["target_pos"] - view["tcp_pos"]
    wanted = _aim(view, move) + bias[:3] - view["target_pos"]
    shift = wanted / _METRES
    length = float(np.linalg.norm(shift))
    if length > move.speed:
        shift = shift * (move.speed / length)
    if np.linalg.norm(ahead + shift * _METRES) > max(_LEAD, float(np.linalg.norm(ahead))):
        shift = shift * 0.0
    euler = _turned(view, move)
    turn = euler + bias[3:] - view["target_euler"]
    turn[:2] = wrap(turn[:2])
    turn[2] = euler[2] + bias[5] - yaw_of(view["target_euler"][2])
    return np.concatenate([shift, np.clip(turn / _RADIANS, -1.0, 1.0), [move.grip]]).astype(np.float32)


def _aim(view: View, move: Move) -> FloatArray:
    """Return the position (3,) to make for.

    A tool that stood still until it is turned would teach standing still: who does not see how much is left to turn,
    and which way, finds no motion that most demonstrations agree on, and stays.
    """
    if not move.funnel:
        return move.pos
    left = abs(float(wrap(move.euler[2] - view["tcp_euler"][2])))
    aim: FloatArray = move.pos + np.array([0.0, 0.0, min(_FUNNEL * left, _RIM)])
    return aim


def _turned(view: View, move: Move) -> FloatArray:
    """Return the Euler angles (3,) to make for.

    A tool that leans does so by where it is, not by where it goes: what is shown of a demonstration then tells the
    angles, which would else be turned at once when a move begins. The same holds for a yaw that is taken up late.
    """
    if move.lean is None:
        return move.euler
    yaw, pitch = move.lean
    if move.late:
        far = float(np.linalg.norm(move.pos[:2] - view["tcp_pos"][:2]))
        yaw = EASE + (yaw - EASE) * float(np.clip((UNSEEN - far) / (UNSEEN - _SEEN), 0.0, 1.0))
    return tool(view["table"]["base"], view["tcp_pos"], yaw, pitch)
