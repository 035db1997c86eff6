"""Blocks taken by the hand and lifted, from table, shelf and drawer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rdvla_bench.policies.expert.calvin.blocks import SILL, footprint, grasp_yaws, is_on
from rdvla_bench.policies.expert.calvin.mechanisms import move_door
from rdvla_bench.policies.expert.calvin.move import CLOSED, OPEN, Move, View, error
from rdvla_bench.policies.expert.calvin.places import openings
from rdvla_bench.policies.expert.calvin.reach import EASE
from rdvla_bench.policies.expert.calvin.travel import FRONT, Program, as_is, at, come
from rdvla_bench.policies.expert.geometry import FloatArray

_PITCH, _PITCH_SHELF = 0.6, 0.75  # rad: the hand leans back, out of the cupboard
_SKEW = 0.2  # rad by which the hand turns in the cupboard at most; closing, it squares the block
_OUTER = 0.012  # m before the middle of a block in the cupboard at which it is taken: the hand stays outside
_NARROW = 0.11  # m from a bound of the opening within which the hand meets it
_BARED = 0.1  # m from the door's edge at which a block can be taken
_OVER = 0.05  # m above a grasp
_PAD = 0.004  # m of the tool point above the block's middle
_WIDE = 0.07  # m between the fingers of an open hand; they open 0.08
_ALIGNED = 0.01  # m sideways within which the hand comes straight down


def take(view: View, name: str, attempt: int, *, yaw: float | None = None, pitch: float = _PITCH) -> Program:
    """Return the moves that come to block ``name`` and close the hand around it."""
    block = footprint(view, name)
    yaws = grasp_yaws(view, name)
    if yaw is None:
        yaw = yaws[attempt % min(2, len(yaws))] if yaws else EASE
    pos = block.pos + np.array([0.0, 0.0, _PAD - 0.002 * (attempt % 3)])
    above = pos + np.array([0.0, 0.0, _OVER])
    entry: Program = ()
    if pos[1] > SILL:
        yaw, pitch = _shelf_yaw(view, pos, yaw), _PITCH_SHELF
        pos = pos - np.array([0.0, _OUTER, 0.0])
        above = pos + np.array([0.0, -0.02, 0.06])
        front = np.array([pos[0], FRONT, 0.55])
        entry = (at(view, front, OPEN, yaw=yaw, pitch=pitch, tol=0.015, limit=40, name="front"),)
    over = (
        *come(view, above, OPEN, yaw=yaw, pitch=pitch),
        *entry,
        at(view, above, OPEN, yaw=yaw, pitch=pitch, tol=0.01, limit=40, name="above"),
    )
    if not entry:
        *coming, last = over
        over = (
            *(replace(move, late=True, tol_turn=np.pi) for move in coming),
            replace(last, late=True, funnel=True),
        )
    down = at(view, pos, OPEN, yaw=yaw, pitch=pitch, speed=0.7, tol=0.008, limit=30, name="down")
    approach = (down,) if not entry and _is_around(view, down) else (*over, down)
    return (
        *(replace(move, watch=(name, block.pos)) for move in approach),
        at(view, pos, CLOSED, yaw=yaw, pitch=pitch, tol=0.02, dwell=6, limit=16, hold=name, name="close"),
    )


def _is_around(view: View, down: Move) -> bool:
    """Return whether the open hand is where ``down`` passes already, over its end and turned as it asks."""
    shift, spin = error(view, down)
    return bool(
        view["width"] > _WIDE
        and np.linalg.norm(shift[:2]) < _ALIGNED
        and -_OVER < shift[2] < _PAD
        and np.max(np.abs(spin)) < down.tol_turn
    )


def _shelf_yaw(view: View, pos: FloatArray, yaw: float) -> float:
    """Return the yaw nearest to ``yaw`` at which the hand keeps clear of what bounds the opening."""
    low, high = openings(view)[0 if pos[0] < np.mean([openings(view)[0][1], openings(view)[1][0]]) else 1]
    most = 0.0 if high - pos[0] < _NARROW else _SKEW  # the end of the hand that meets the bound stays in front
    least = 0.0 if pos[0] - low < _NARROW else _SKEW
    return EASE + float(np.clip(yaw - EASE, -least, most))


def lift(view: View, name: str, attempt: int) -> Program:
    """Return the moves that lift block ``name``; the door is moved first where it is in the way."""
    block = view["blocks"][name]
    if block["held"]:
        up = view["tcp_pos"] + np.array([0.0, 0.0, 0.08])
        return (Move(up, as_is(view), CLOSED, speed=0.6, keep=name, name="lift"),)
    if is_on(view, name, "shelf") or block["pos"][1] > SILL:
        uncovered = _uncover(view, name, attempt)
        if uncovered:
            return uncovered
    taken = take(view, name, attempt)
    last = taken[-1]
    up = last.pos + np.array([0.0, -0.005, 0.085])
    return (*taken, Move(up, last.euler, CLOSED, speed=0.6, tol=0.01, limit=30, keep=name, name="lift"))


def _uncover(view: View, name: str, attempt: int) -> Program:
    """Return the moves that push the door off the block, none where it is not in the way."""
    block = footprint(view, name)
    x, room = float(block.pos[0]), _BARED
    left, right = openings(view)
    if left[0] < x < left[1] - room or right[0] + room < x < right[1]:
        return ()
    slide = view["joints"]["slide"]
    low, high = left[0], right[1]
    to = slide["lo"] if x - low < high - x else slide["hi"]
    if abs(slide["value"] - to) < 0.01:
        return ()
    return move_door(view, to, attempt)
