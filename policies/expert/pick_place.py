"""Pick an object up, and put the object in the hand down somewhere."""

from __future__ import annotations

import numpy as np

from rdvla_bench.policies.expert.geometry import FloatArray, View, height_range, sample_others, yaw
from rdvla_bench.policies.expert.grasp import Grasp, grasps
from rdvla_bench.policies.expert.hand import collides
from rdvla_bench.policies.expert.move import CLOSED, OPEN, Move
from rdvla_bench.policies.expert.reach import wrist_allows

Program = tuple[Move, ...]
_AIR = 0.03  # m under the hand or its load while it travels
_BESIDE = 0.13  # m: what stands further from the path than this is not passed over
_FINGERS = 0.015  # m that the empty hand reaches below the grip point


def travel_height(view: View, to: FloatArray, *, held: str = "", ignore: tuple[str, ...] = ()) -> float:
    """Return a height of the grip point at which the hand and its load pass over all on the way to ``to``."""
    start = view["eef_pos"]
    points = sample_others(view, [held, *ignore], 0.02)
    leg = to[:2] - start[:2]
    along = np.clip((points[:, :2] - start[:2]) @ leg / max(float(leg @ leg), 1e-9), 0, 1)
    beside = np.linalg.norm(points[:, :2] - start[:2] - along[:, None] * leg, axis=1)
    below = _FINGERS
    if held:
        below = max(below, float(start[2]) - height_range(view, held)[0])
    near = points[beside < _BESIDE]
    top = float(near[:, 2].max()) if len(near) else float(to[2]) - _AIR
    return top + below + _AIR


def pick(view: View, name: str, attempt: int) -> Program:
    """Return the moves that end with ``name`` in the hand, lifted; an empty tuple where no grasp is feasible."""
    options = grasps(view, name)
    if not options:
        return ()
    grasp = options[min(_spread(options, attempt), len(options) - 1)]
    return approach(view, grasp.pos, grasp.mat) + close_and_lift(view, name, grasp)


def _spread(options: list[Grasp], attempt: int) -> int:
    """Return which option the given attempt takes: the best first, then ones that differ from it."""
    if attempt == 0:
        return 0
    chosen = [0]
    for i, option in enumerate(options):
        if all(
            np.linalg.norm(option.pos - options[c].pos) > 0.01 or abs(option.mat[:, 0] @ options[c].mat[:, 0]) < 0.9
            for c in chosen
        ):
            chosen.append(i)
        if len(chosen) > attempt:
            break
    return chosen[attempt % len(chosen)]


def approach(view: View, pos: FloatArray, mat: FloatArray) -> Program:
    """Return the moves of the open hand over the scene and down to a grip pose."""
    back = _back(mat)
    aim = pos - back * mat[:, 2]
    height = max(travel_height(view, aim), aim[2] + 0.02)
    here = view["eef_pos"]
    moves = []
    if here[2] < height - 0.02 and np.linalg.norm(here[:2] - aim[:2]) > 0.02:
        moves.append(Move(np.array([*here[:2], height]), view["eef_mat"], OPEN, tol=0.03, name="rise"))
    above = np.array([aim[0], aim[1], height])
    moves.append(Move(above, mat, OPEN, tol=0.025, tol_turn=0.2, limit=80, name="over"))
    moves.append(Move(aim, mat, OPEN, tol=0.008, tol_turn=0.06, limit=60, name="aim"))
    moves.append(Move(pos, mat, OPEN, tol=0.005, tol_turn=0.08, limit=35, speed=0.6, name="descend"))
    return tuple(moves)


def _back(mat: FloatArray) -> float:
    """Return how far before its grasp the hand lines up, in m: further out where it comes in from the side."""
    return 0.04 if mat[2, 2] < -0.92 else 0.10


def close_and_lift(view: View, name: str, grasp: Grasp) -> Program:
    """Return the moves that close the hand and take the object up."""
    off = grasp.pos - 0.03 * grasp.mat[:, 2]
    up = grasp.pos - 2 * _back(grasp.mat) * grasp.mat[:, 2]
    return (
        Move(grasp.pos, grasp.mat, CLOSED, tol=0.03, tol_turn=0.3, dwell=9, limit=14, hold=name, name="close"),
        Move(off, grasp.mat, CLOSED, tol=0.01, limit=14, keep=name, speed=0.3, name="take"),
        Move(up, grasp.mat, CLOSED, tol=0.02, limit=30, keep=name, speed=0.6, name="lift"),
    )


def place(view: View, name: str, target: FloatArray, *, drop: float = 0.0, spin: float = 0.0) -> Program:
    """Return the moves that bring the held object's origin to ``target``, open the hand and leave.

    Args:
        view: the privileged state, ``name`` in the hand.
        name: the held object.
        target: where its origin goes, (3,) m.
        drop: how far above ``target`` the hand opens, in m.
        spin: the turn about the vertical on the way, in rad.
    """
    thing = view["objects"][name]
    grip = view["eef_mat"]
    turned = yaw(spin) @ grip
    offset = yaw(spin) @ (view["eef_pos"] - thing["pos"])
    goal = target + offset + np.array([0.0, 0.0, drop])
    height = max(travel_height(view, goal, held=name), goal[2] + 0.03)
    here = view["eef_pos"]
    return (
        Move(np.array([here[0], here[1], height]), grip, CLOSED, tol=0.03, limit=50, keep=name, name="raise"),
        Move(np.array([*goal[:2], height]), turned, CLOSED, tol=0.02, tol_turn=0.2, limit=90, keep=name, name="carry"),
        Move(goal, turned, CLOSED, tol=0.008, limit=35, keep=name, speed=0.7, name="lower"),
        *release(goal, turned),
    )


def release(pos: FloatArray, mat: FloatArray) -> Program:
    """Return the moves that open the hand and back out of it."""
    return (
        Move(pos, mat, OPEN, dwell=7, limit=7, name="open"),
        Move(pos - 0.08 * mat[:, 2], mat, OPEN, tol=0.03, limit=20, name="leave"),
    )


def free_spin(view: View, name: str, target: FloatArray) -> float:
    """Return the smallest turn about the vertical with which hand and load meet nothing at ``target``."""
    others = sample_others(view, [name], 0.01)
    others = others[np.linalg.norm(others[:, :2] - target[:2], axis=1) < 0.35]
    best, fewest = 0.0, 10**9
    for degrees in (0, 15, -15, 30, -30, 45, -45, 60, -60, 75, -75, 90, -90, 105, -105, 120, -120):
        turned = yaw(np.deg2rad(degrees))
        if not wrist_allows(turned @ view["eef_mat"]):
            continue
        pos = target + turned @ (view["eef_pos"] - view["objects"][name]["pos"])
        hits = collides(others, pos, turned @ view["eef_mat"], 0.005)
        if hits < fewest:
            best, fewest = float(np.deg2rad(degrees)), hits
        if hits == 0:
            break
    return best
