"""Away from where the tool is, over the table, down to where it is needed."""

from __future__ import annotations

import numpy as np

from rdvla_bench.policies.expert.calvin.blocks import held_block
from rdvla_bench.policies.expert.calvin.move import OPEN, Move, View
from rdvla_bench.policies.expert.calvin.reach import EASE, euler_of, rotation, tool, yaw_of
from rdvla_bench.policies.expert.geometry import FloatArray, turn

Program = tuple[Move, ...]
CLEAR = 0.575  # m, height of the tool over two blocks on each other
LADEN = 0.62  # m, the same with a block in the hand
FRONT = -0.09  # m, y at which the hand passes before the door's handle
_BESIDE = 0.045  # m between tool and a block's middle within which the open fingers stand around the block
INSIDE = -0.045  # m, y beyond which the hand is among handle, lever and cupboard
_NEAR = 0.05  # m sideways within which the hand does not rise to pass over the table
_LOWEST = 0.515  # m, height of the tool at which the fingers pass over one block


def pose(view: View, pos: FloatArray, yaw: float = EASE, pitch: float = 0.0) -> FloatArray:
    """Return the tool's Euler angles at a position, leaning as its distance asks."""
    return tool(view["table"]["base"], pos, yaw, pitch)


def at(view: View, pos: FloatArray, grip: float, *, yaw: float = EASE, pitch: float = 0.0, **ends: object) -> Move:
    """Return the move to a position with the tool down."""
    return Move(pos, pose(view, pos, yaw, pitch), grip, lean=(yaw, pitch), **ends)  # type: ignore[arg-type]


def as_is(view: View) -> FloatArray:
    """Return the tool's present Euler angles (3,), the yaw in the wrist's window."""
    return np.array([*view["tcp_euler"][:2], yaw_of(view["target_euler"][2])])


def leave(view: View, grip: float, height: float = CLEAR) -> Program:
    """Return the moves that back the tool out of where it is, and up; a block in the hand stays where it is."""
    here, euler = view["tcp_pos"].copy(), as_is(view)
    moves: list[Move] = []
    if any(np.linalg.norm(block["pos"] - here) < _BESIDE for block in view["blocks"].values()):
        grip = OPEN  # closing here would take the block along
    if held_block(view):
        moves.append(Move(here, euler, OPEN, dwell=5, limit=7, tol=0.03, name="let go"))
    if here[1] > INSIDE:
        if here[2] < 0.55 and here[1] > 0.035:
            here = here + np.array([0.0, -0.02, 0.55 - here[2]])
            moves.append(Move(here, euler, grip, tol=0.025, limit=20, name="up inside"))
        here = np.array([here[0], FRONT, max(here[2], 0.52)])
        moves.append(Move(here, euler, grip, tol=0.03, limit=25, name="back out"))
    elif here[2] < 0.44:
        here = np.array([here[0], here[1] - (0.01 if here[1] > -0.25 else 0.0), 0.52])
        moves.append(Move(here, euler, grip, tol=0.03, limit=25, name="up and out"))
    if here[2] < height - 0.02:
        here = np.array([here[0], here[1], height])
        moves.append(Move(here, euler, grip, tol=0.03, limit=25, name="rise"))
    return tuple(moves)


def come(
    view: View, pos: FloatArray, grip: float, *, yaw: float = EASE, pitch: float = 0.0, height: float = CLEAR
) -> Program:
    """Return the moves from wherever the tool is to above ``pos``, in front of the door where that lies behind it.

    A tool that is nearly there already stays low: what hovers over its goal is shown the way down, not up and back.
    """
    if pos[1] <= INSIDE and np.linalg.norm(view["tcp_pos"][:2] - pos[:2]) < _NEAR:
        height = _LOWEST
    over = np.array([pos[0], min(float(pos[1]), FRONT) if pos[1] > INSIDE else pos[1], max(height, float(pos[2]))])
    return (*leave(view, grip, height), at(view, over, grip, yaw=yaw, pitch=pitch, tol=0.02, limit=70, name="over"))


def upright(view: View, name: str, goal: FloatArray, by: float) -> tuple[FloatArray, FloatArray]:
    """Return position (3,) and Euler angles (3,) of the tool that set the held block upright at ``goal``.

    ``by`` is the angle by which the block is turned about the vertical.
    """
    mat, now = view["blocks"][name]["mat"], rotation(view["tcp_euler"])
    axis = int(np.argmax(np.abs(mat[2])))
    up = mat[:, axis] * np.sign(mat[2, axis])
    spin = turn(np.array([0.0, 0.0, 1.0]), by) @ _align(up)
    yaw = yaw_of(view["target_euler"][2]) + by
    offset = spin @ (view["tcp_pos"] - view["blocks"][name]["pos"])
    return goal + offset, euler_of(spin @ now, yaw)


def _align(up: FloatArray) -> FloatArray:
    """Return the smallest rotation that takes the unit vector ``up`` to the vertical."""
    axis = np.cross(up, [0.0, 0.0, 1.0])
    sine = float(np.linalg.norm(axis))
    if sine < 1e-6:
        return np.eye(3)
    return turn(axis / sine, float(np.arctan2(sine, up[2])))
