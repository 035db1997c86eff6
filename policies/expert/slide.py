"""A flat dish pushed over the table from behind, with the tips of the open hand."""

from __future__ import annotations

import numpy as np

from rdvla_bench.policies.expert.geometry import (
    FloatArray,
    View,
    grip_along,
    height_range,
    nearest_grip,
    sample_object,
    sample_others,
)
from rdvla_bench.policies.expert.hand import TIP
from rdvla_bench.policies.expert.move import OPEN, Move
from rdvla_bench.policies.expert.pick_place import Program, travel_height

_OVER_TABLE = 0.005  # m between finger tips and table
_HALF_SPAN = 0.046  # m from the grip point to the middle of either finger when open
_THICK = 0.011  # m: half a finger, along the push
_LEAN = np.deg2rad(22.0)  # keeps the hand clear of what stands behind it
_ROOM = 0.008  # m between fingers and dish before the push


def slide(view: View, name: str, target: FloatArray) -> Program:
    """Return the moves that push dish ``name`` until its middle is at ``target`` (2,), around what is in the way."""
    cloud = sample_object(view, name, 0.01)
    at = view["objects"][name]["pos"][:2]
    radius = float(np.max(np.linalg.norm(cloud[:, :2] - at, axis=1)))
    behind = float(np.sqrt(max(radius**2 - _HALF_SPAN**2, 0.0))) + _THICK
    low = height_range(view, name)[0] + TIP + _OVER_TABLE
    moves: list[Move] = []
    back = np.zeros(2)
    for corner in _way(view, name, at, target):
        leg = corner - at
        length = float(np.linalg.norm(leg))
        if length < 0.015:
            continue
        along = leg / length
        mat = _pushing(along)
        start = np.array([*(at - along * (behind + _ROOM)), low])
        height = travel_height(view, start) if not moves else low + 0.09
        if moves:
            clear = moves[-1].pos - np.array([*(back * 0.035), 0.0])
            moves.append(Move(clear, moves[-1].mat, OPEN, tol=0.012, limit=20, name="back off"))
            moves.append(Move(clear + np.array([0.0, 0.0, 0.09]), moves[-1].mat, OPEN, tol=0.02, name="up"))
        above = np.array([*start[:2], height])
        moves.append(Move(above, mat, OPEN, tol=0.015, tol_turn=0.15, limit=80, name="over"))
        moves.append(Move(start, mat, OPEN, tol=0.006, limit=50, name="set down"))
        end = np.array([*(corner - along * behind), low])
        moves.append(Move(end, mat, OPEN, tol=0.008, limit=90, speed=0.6, name="push"))
        at, back = corner, along
    return tuple(moves)


def _pushing(along: FloatArray) -> FloatArray:
    """Return the grip frame whose fingers stand side by side behind the push, the hand leaning over the dish."""
    approach = np.array([*(-along * np.sin(_LEAN)), -np.cos(_LEAN)])
    return nearest_grip(grip_along(approach, np.array([-along[1], along[0], 0.0])))


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
