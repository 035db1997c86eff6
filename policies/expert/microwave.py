"""A mug set into a microwave from the front, and the door swung shut, which pushes the mug the rest of the way.

LIBERO's microwave faces its own -y; its door hinges on the left and stands open at about a right angle.
"""

from __future__ import annotations

import numpy as np

from rdvla_bench.policies.expert.articulated import come
from rdvla_bench.policies.expert.geometry import FloatArray, View, grip_down, height_range, nearest_grip, yaw
from rdvla_bench.policies.expert.grasp import Grasp, candidates
from rdvla_bench.policies.expert.move import CLOSED, OPEN, Move
from rdvla_bench.policies.expert.pick_place import Program, approach, close_and_lift, travel_height

_FLOOR = 0.024  # m above the microwave's origin (assets/articulated_objects/microwave.xml)
_INSIDE = 0.012  # m behind the region's front at which the mug's middle is let go
_STANDOFF = 0.10  # m in front of that, where the mug comes down
_ON_DOOR, _FACE, _OVER = 0.17, 0.028, 0.082  # m from the hinge along the door, off its face, above its middle


def front(view: View, fixture: str) -> FloatArray:
    """Return the horizontal direction (3,) that the microwave faces."""
    direction: FloatArray = -view["objects"][fixture]["mat"][:, 1]
    return direction


def pick_for_shelf(view: View, name: str, fixture: str, attempt: int) -> Program:
    """Return the moves that take a mug by its near side, the hand leaning out of the way of the shelf above."""
    out = front(view, fixture)
    middle = view["objects"][name]["pos"]
    found: list[Grasp] = []
    for roll in (0.55, -0.55):
        for grasp in candidates(view, name, roll=roll):
            leans_out = float(grasp.mat[:, 2] @ out) < -0.35
            if leans_out and float((grasp.pos - middle) @ out) > 0.012:
                found.append(grasp)
    if not found:
        return ()
    found.sort(key=lambda g: g.cost)
    grasp = found[min(attempt * 3, len(found) - 1)]
    return approach(view, grasp.pos, grasp.mat) + close_and_lift(view, name, grasp)


def put_in(view: View, name: str, where: str) -> Program:
    """Return the moves that bring the held mug in front of the opening, into it, and leave it there."""
    site = view["sites"][where]
    fixture = site["owner"]
    out, grip = front(view, fixture), view["eef_mat"]
    base = view["objects"][fixture]
    thing = view["objects"][name]
    under = float(thing["pos"][2]) - height_range(view, name)[0]
    depth = float(np.abs(out @ site["mat"]) @ site["size"]) - _INSIDE
    spot = site["pos"] + out * depth
    spot = spot - base["mat"][:, 0] * 0.035  # the cavity's middle is left of the region's
    target = np.array([spot[0], spot[1], float(base["pos"][2]) + _FLOOR + under + 0.006])
    offset = view["eef_pos"] - thing["pos"]
    inside, before = target + offset, target + offset + out * _STANDOFF + np.array([0.0, 0.0, 0.006])
    height = max(travel_height(view, before, held=name, ignore=(fixture,)), float(before[2]) + 0.02)
    here = view["eef_pos"]
    return (
        Move(np.array([here[0], here[1], height]), grip, CLOSED, tol=0.03, limit=50, keep=name, name="raise"),
        Move(np.array([*before[:2], height]), grip, CLOSED, tol=0.02, limit=90, keep=name, name="carry"),
        Move(before, grip, CLOSED, tol=0.01, limit=45, keep=name, speed=0.7, name="lower"),
        Move(inside, grip, CLOSED, tol=0.008, limit=45, keep=name, speed=0.5, name="insert"),
        Move(inside, grip, OPEN, dwell=8, limit=8, name="open"),
        Move(inside - 0.06 * grip[:, 2] + out * 0.03, grip, OPEN, tol=0.02, limit=25, name="leave"),
        Move(inside - 0.12 * grip[:, 2] + out * 0.12, grip, OPEN, tol=0.03, limit=25, name="leave"),
    )


def swing_shut(view: View, name: str) -> Program:
    """Return the moves that follow the door round from outside with closed fingers until it is shut."""
    joint = view["joints"][name]
    hinge, now = joint["anchor"], float(joint["value"])
    frame = yaw(-now) @ view["parts"][joint["part"]]["mat"]  # of the shut door
    height = float(hinge[2]) + _OVER

    def beside(angle: float, off: float, before: FloatArray) -> tuple[FloatArray, FloatArray]:
        turned = yaw(angle) @ frame
        pos = hinge + turned @ np.array([_ON_DOOR, -off, 0.0])
        along = turned[:, 0]
        mat = nearest_grip(grip_down(float(np.arctan2(along[1], along[0]))), before)
        return np.array([pos[0], pos[1], height]), mat

    start, mat = beside(now, _FACE + 0.06, view["eef_mat"])
    sweep: list[tuple[FloatArray, FloatArray]] = []
    for angle in (*np.arange(now, 0.0, 0.25)[1:], 0.06, 0.15):
        sweep.append(beside(float(angle), _FACE + 0.004, sweep[-1][1] if sweep else mat))
    return (
        *come(view, start, mat, CLOSED),
        *(
            Move(p, m, CLOSED, tol=0.03, tol_turn=0.5, limit=25, until=(name, -0.004, 1.0), name="swing")
            for p, m in sweep
        ),
        Move(sweep[-1][0] + front(view, joint["owner"]) * 0.08, sweep[-1][1], CLOSED, tol=0.03, limit=20, name="leave"),
    )
