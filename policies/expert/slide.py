"""A flat dish pushed over the table from inside, with closed fingers against its rim."""

from __future__ import annotations

import numpy as np

from rdvla_bench.policies.expert.geometry import FloatArray, View, height_range, nearest_grip, grip_down, sample_others
from rdvla_bench.policies.expert.hand import TIP
from rdvla_bench.policies.expert.move import CLOSED, Move
from rdvla_bench.policies.expert.pick_place import Program, travel_height

_RIM = 0.045  # m from a plate's middle to where the finger tips meet its rising inside


def slide(view: View, name: str, target: FloatArray) -> Program:
    """Return the moves that push dish ``name`` until its middle is at ``target`` (2,), around what is in the way."""
    thing = view["objects"][name]
    floor = height_range(view, name)[0] + 0.006
    mat = nearest_grip(grip_down(np.pi / 2), view["eef_mat"])
    at = thing["pos"][:2]
    moves: list[Move] = []
    for corner in _way(view, name, at, target):
        leg = corner - at
        length = float(np.linalg.norm(leg))
        if length < 0.01:
            continue
        along = leg / length
        low = floor + TIP
        start = np.array([*(at + along * 0.015), low])
        if not moves:
            height = travel_height(view, start)
            moves.append(Move(np.array([*start[:2], height]), mat, CLOSED, tol=0.02, limit=80, name="over"))
        moves.append(Move(start, mat, CLOSED, tol=0.008, limit=40, speed=0.6, name="set down"))
        moves.append(Move(np.array([*(corner + along * _RIM), low]), mat, CLOSED, tol=0.008, limit=90, speed=0.45, name="push"))
        at = corner
    end = moves[-1].pos + np.array([0.0, 0.0, 0.1])
    return (*moves, Move(end, mat, CLOSED, tol=0.03, limit=20, name="leave"))


def _way(view: View, name: str, start: FloatArray, target: FloatArray) -> list[FloatArray]:
    """Return the corners of the straight or two-legged path that passes furthest from other things."""
    others = sample_others(view, [name], 0.01)
    others = others[others[:, 2] < height_range(view, name)[1] + 0.08][:, :2]
    paths = [[target], [np.array([target[0], start[1]]), target], [np.array([start[0], target[1]]), target]]

    def room(path: list[FloatArray]) -> float:
        ends = [start, *path]
        line = np.concatenate([np.linspace(a, b, 25) for a, b in zip(ends, path, strict=False)])
        gaps = np.linalg.norm(others[:, None] - line[None], axis=2)
        return min(float(gaps.min()), 0.085)

    return max(paths, key=room)
