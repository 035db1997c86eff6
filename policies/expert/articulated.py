"""Drawers pulled and pushed, knobs twisted: skills on the joints of a fixture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rdvla_bench.policies.expert.geometry import FloatArray, View, grip_along, grip_down, nearest_grip, yaw
from rdvla_bench.policies.expert.move import CLOSED, OPEN, Move
from rdvla_bench.policies.expert.pick_place import Program, travel_height

_DOWN = np.array([0.0, 0.0, -1.0])
_BAR = 0.03  # m: half the least length of the box that is a drawer's handle
DRAWER_OPEN = -0.148  # m; LIBERO's cabinets count as open below -0.14 (articulated_objects.py)
_STOVE_ON = 0.62  # rad; LIBERO's stove counts as on from 0.5
_CLEAR_OF_HANDLE = 0.07  # m in front of it
_BESIDE_HANDLE = 0.12  # m across the way it opens
_BEYOND = 0.03  # m that a pull or push aims past its end, so that the controller keeps pressing


def opening_direction(joint: Mapping[str, Any]) -> FloatArray:
    """Return the world direction (3,) in which a slide opens."""
    direction: FloatArray = joint["axis"] * (1.0 if abs(joint["hi"]) > abs(joint["lo"]) else -1.0)
    return direction


def handle(view: View, joint: Mapping[str, Any]) -> FloatArray:
    """Return the middle of a drawer's handle: of its long boxes, the one that stands out furthest."""
    part = view["parts"][joint["part"]]
    centers: FloatArray = part["centers"] @ part["mat"].T + part["pos"]
    bars = [i for i, half in enumerate(part["halves"]) if np.max(half) > _BAR]
    outermost: FloatArray = centers[max(bars, key=lambda i: float(centers[i] @ opening_direction(joint)))]
    return outermost


def facing(out: FloatArray, degrees: float, *, flat: bool = False) -> FloatArray:
    """Return the grip frame that points against ``out``, ``degrees`` up from straight down.

    It opens up and down, or sideways where ``flat``.
    """
    tilt = np.deg2rad(degrees)
    approach = -out * np.sin(tilt) + _DOWN * np.cos(tilt)
    opening = np.array([-out[1], out[0], 0.0]) if flat else out * np.cos(tilt) + _DOWN * np.sin(tilt)
    return nearest_grip(grip_along(approach, opening))


def pull_open(view: View, name: str, attempt: int) -> Program:
    """Return the moves that take a drawer by its handle, pull it open and let go."""
    joint = view["joints"][name]
    out, bar = opening_direction(joint), handle(view, joint)
    mat = facing(out, (70.0, 60.0, 50.0)[attempt % 3])
    before = bar - 0.07 * mat[:, 2]
    way = float(joint["value"]) - DRAWER_OPEN + _BEYOND
    end = bar + out * way
    return (
        *come(view, before, mat, OPEN, leave=_off(view, bar, out)),
        Move(bar, mat, OPEN, tol=0.01, limit=30, speed=0.6, name="reach"),
        Move(bar, mat, CLOSED, dwell=15, limit=20, hold=joint["owner"], tol=0.03, name="grip"),
        Move(end, mat, CLOSED, limit=60, speed=0.8, until=(name, -1.0, DRAWER_OPEN), keep=joint["owner"], name="pull"),
        Move(end - out * _BEYOND, mat, OPEN, dwell=6, limit=6, name="let go"),
        Move(end + out * 0.04 - 0.10 * mat[:, 2], mat, OPEN, tol=0.03, limit=25, name="back out"),
    )


def _off(view: View, bar: FloatArray, out: FloatArray) -> FloatArray:
    """Return the way (3,) outwards from beside a missed handle: straight up, the hand would catch on what is above."""
    gap = view["eef_pos"] - bar
    along = float(gap @ out)
    is_beside = along < _CLEAR_OF_HANDLE and float(np.linalg.norm(gap - along * out)) < _BESIDE_HANDLE
    return out * (_CLEAR_OF_HANDLE - along) if is_beside else np.zeros(3)


def push_closed(view: View, name: str, attempt: int) -> Program:
    """Return the moves that push a drawer home with closed fingers."""
    joint = view["joints"][name]
    out, bar = opening_direction(joint), handle(view, joint)
    mat = facing(out, (35.0, 50.0, 20.0)[attempt % 3], flat=True)
    before = bar + out * 0.06
    end = bar + out * (float(joint["value"]) - 0.01) - out * _BEYOND
    return (
        *come(view, before, mat, CLOSED),
        Move(end, mat, CLOSED, limit=70, speed=0.8, until=(name, 0.001, 1.0), name="push"),
        Move(before + np.array([0.0, 0.0, 0.1]), mat, CLOSED, tol=0.03, limit=25, name="back out"),
    )


def twist(view: View, name: str, attempt: int) -> Program:
    """Return the moves that take a knob by its ridge from above and turn it on."""
    joint = view["joints"][name]
    part = view["parts"][joint["part"]]
    tallest = int(np.argmax(part["centers"][:, 2]))
    ridge = part["pos"] + part["mat"] @ part["centers"][tallest]
    pos = np.array([joint["anchor"][0], joint["anchor"][1], float(ridge[2]) + 0.008])
    across = part["mat"][:, 0]
    mat = nearest_grip(grip_down(float(np.arctan2(across[1], across[0]))))
    start = yaw(-0.25) @ mat
    del attempt
    turned = [yaw(angle) @ mat for angle in (0.3, 0.6, 0.9, 1.2)]
    return (
        *come(view, pos + np.array([0.0, 0.0, 0.06]), start, OPEN),
        Move(pos, start, OPEN, tol=0.006, limit=35, speed=0.5, name="reach"),
        Move(pos, start, CLOSED, dwell=8, limit=8, name="grip"),
        *(Move(pos, m, CLOSED, tol_turn=0.2, limit=15, until=(name, _STOVE_ON, 9.0), name="twist") for m in turned),
        Move(pos, turned[-1], OPEN, dwell=6, limit=6, name="let go"),
        Move(pos + np.array([0.0, 0.0, 0.1]), turned[-1], OPEN, tol=0.03, limit=25, name="leave"),
    )


def come(view: View, pos: FloatArray, mat: FloatArray, grip: float, leave: FloatArray | None = None) -> Program:
    """Return the moves over the scene to a pose, coming down from above it; first, if any, ``leave`` (3,) from here."""
    way = np.zeros(3) if leave is None else leave
    here = view["eef_pos"] + way
    height = max(travel_height(view, pos), float(pos[2]) + 0.03)
    above = np.array([pos[0], pos[1], height])
    off = Move(here, view["eef_mat"], grip, tol=0.02, limit=20, name="back off")
    rise = Move(np.array([here[0], here[1], height]), view["eef_mat"], grip, tol=0.03, name="rise")
    return (
        *((off,) if way.any() else ()),
        *((rise,) if here[2] < height - 0.02 else ()),
        Move(above, mat, grip, tol=0.02, tol_turn=0.15, limit=80, name="over"),
        Move(pos, mat, grip, tol=0.012, tol_turn=0.1, limit=60, name="before"),
    )
