"""Blocks turned, pushed and carried on the table, pushed off it, and taken off one another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rdvla_bench.policies.expert.calvin.blocks import BACK, IN_DRAWER, RIGHT, SILL, footprint, grasp_yaws, is_on, others
from rdvla_bench.policies.expert.calvin.move import CLOSED, OPEN, Move, View
from rdvla_bench.policies.expert.calvin.places import BUTTON_RING, TABLE_EDGE, TABLE_SIDES, TABLE_TOP, drawer_room
from rdvla_bench.policies.expert.calvin.put import is_spot, place_in_drawer, put_away, set_down
from rdvla_bench.policies.expert.calvin.reach import EASE, YAWS, yaw_of
from rdvla_bench.policies.expert.calvin.take import lift, take
from rdvla_bench.policies.expert.calvin.travel import Program, as_is, at, come
from rdvla_bench.policies.expert.geometry import FloatArray

_BRAKE = 0.045  # m before the end of a push at which the hand turns back: the block slides on, free of the fingers
_COAST = 0.02  # m that it slides at most beyond where it was to go
_STRAY = 0.08  # m from its place beyond which a block is brought back before it is turned; 0.1 void the task
_DROP = 0.008  # m that a carried block falls, so that it is free when it lies down
_PRESS = 0.006  # m by which a hand that drags or turns a block is sent below where it takes one
_LAG = 0.03  # m that a dragged block falls behind in the hand at most
_LOW = 0.468  # m, height of the tool point while the fingers push
_ACROSS, _ALONG = 0.0105, 0.027  # m, half the closed fingers' thickness, and half their width along the opening
_NO_ROOM = -0.075  # m, y beyond which the hand cannot turn across the push: the door's handle is near


def rotate(view: View, name: str, angle: float, attempt: int, home: FloatArray) -> Program:
    """Return the moves that turn block ``name`` on the table by ``angle`` rad more, near ``home`` (2,) where it was."""
    if float(np.linalg.norm(view["blocks"][name]["pos"][:2] - home)) > _STRAY:
        return _bring_home(view, name, angle, attempt, home)
    reachable = [yaw for yaw in grasp_yaws(view, name) if YAWS[0] <= yaw + angle <= YAWS[1]]
    if view["blocks"][name]["held"] and YAWS[0] <= yaw_of(view["target_euler"][2]) + angle <= YAWS[1]:
        taken: Program = ()
        pos, yaw = view["tcp_pos"], yaw_of(view["target_euler"][2])
    else:
        yaw = reachable[attempt % min(2, len(reachable))] if reachable else EASE
        taken = _pressed(take(view, name, attempt, yaw=yaw, pitch=0.0))
        pos = taken[-1].pos
    turned = at(view, pos, CLOSED, yaw=yaw + angle, tol=0.01, tol_turn=0.05, limit=60, keep=name, name="turn")
    return (
        *taken,
        turned,
        Move(pos, turned.euler, OPEN, dwell=8, limit=10, tol=0.02, name="let go"),
        Move(pos + np.array([0.0, 0.0, 0.1]), turned.euler, OPEN, tol=0.03, limit=25, name="leave"),
    )


def _bring_home(view: View, name: str, angle: float, attempt: int, home: FloatArray) -> Program:
    """Return the moves that take block ``name`` up, or set the held one down at ``home``, turned if the wrist can."""
    if not view["blocks"][name]["held"]:
        return lift(view, name, attempt)
    goal = np.array([*home, TABLE_TOP + footprint(view, name).height + _DROP])
    can_turn = YAWS[0] <= yaw_of(view["target_euler"][2]) + angle <= YAWS[1]
    return set_down(view, name, goal, angle if can_turn else 0.0)


def push(view: View, name: str, way: float, attempt: int) -> Program:
    """Return the moves that bring block ``name`` ``way`` m along x: dragged over the table, carried, or pushed.

    Dragging comes first although pushing is quicker: half of the blocks have no room beside them for the hand. It looks
    the same from its first step to its last, so that who sees only the present can learn it; of a carried block nobody
    can see whether it is on its way up or down, or how far it has come.
    """
    block = footprint(view, name)
    dragged = _drag(view, name, way)
    if view["blocks"][name]["held"]:
        return dragged if dragged and attempt % 2 == 0 else carry(view, name, way, attempt)
    if block.pos[2] < IN_DRAWER:
        return lift(view, name, attempt)
    if dragged and attempt % 3 == 0:
        taken = _pressed(take(view, name, attempt, pitch=0.0))
        return (*taken, *(replace(move, euler=taken[-1].euler) for move in dragged))
    side = 1.0 if way > 0 else -1.0
    reach = block.reach(RIGHT)
    yaw = EASE if block.pos[1] > _NO_ROOM else min((0.0, np.pi), key=lambda y: abs(y - yaw_of(view["target_euler"][2])))
    thick = _ACROSS if yaw != EASE else _ALONG
    begin = np.array([block.pos[0] - side * (reach + thick + 0.02), block.pos[1], _LOW])
    end = np.array([block.pos[0] + way - side * (reach + thick), block.pos[1], _LOW])
    if attempt % 3 < 2 or not _is_free(
        view, name, begin, block.pos + np.array([way + side * (reach + _COAST), 0.0, 0.0])
    ):
        return carry(view, name, way, attempt)
    approach = (
        *come(view, begin, CLOSED, yaw=yaw),
        at(view, begin + np.array([0.0, 0.0, 0.05]), CLOSED, yaw=yaw, tol=0.015, limit=40, name="above"),
        at(view, begin, CLOSED, yaw=yaw, tol=0.008, limit=30, name="beside"),
    )
    return (
        *(replace(move, watch=(name, block.pos)) for move in approach),
        at(view, end, CLOSED, yaw=yaw, tol=_BRAKE, limit=40, name="push"),
        at(view, end - np.array([0.05 * side, 0.0, 0.0]), CLOSED, yaw=yaw, tol=0.01, limit=12, name="off"),
    )


def _drag(view: View, name: str, way: float) -> Program:
    """Return the moves of block ``name``, in the hand, ``way`` m along x over the table; none where it has no room."""
    block, far = footprint(view, name), way + np.copysign(_LAG, way)
    if not is_on(view, name, "table"):
        return ()
    ahead = way + np.copysign(block.reach(RIGHT), way)
    for aside in sorted(np.arange(-0.06, 0.061, 0.02), key=abs):
        y = block.pos[1] + aside
        on_table = y - block.reach(BACK) > TABLE_EDGE + 0.005 and y < max(_NO_ROOM, block.pos[1] + 0.001)
        if on_table and _is_free(view, name, block.pos, block.pos + np.array([ahead, aside, 0.0])):
            end = block.pos + np.array([far, aside, -_PRESS])
            drag = Move(end, as_is(view), CLOSED, tol=0.01, limit=30, keep=name, name="drag")
            return drag, replace(drag, pos=end - np.array([0.0, 0.0, 2 * _PRESS]), dwell=5, limit=8, name="press")
    return ()


def _pressed(taken: Program) -> Program:
    """Return the moves with the hand closing lower, so that the block is not lifted: off the table nothing counts."""
    return (*taken[:-1], replace(taken[-1], pos=taken[-1].pos - np.array([0.0, 0.0, _PRESS])))


def _is_free(view: View, name: str, begin: FloatArray, end: FloatArray) -> bool:
    """Return whether nothing but block ``name`` stands on the strip from the pusher's start to the block's end."""
    if max(abs(begin[0]), abs(end[0])) > TABLE_SIDES:
        return False
    line = np.linspace(begin[:2], end[:2], 12)
    wide = np.concatenate([line + np.array([0.0, dy]) for dy in (-0.025, 0.0, 0.025)])
    if any(o.distance(wide).min() < 0.008 for o in others(view, name) if o.pos[2] < 0.53 and o.pos[1] < SILL):
        return False
    button = view["table"]["button"][:2]
    return bool(np.linalg.norm(wide - button, axis=1).min() > BUTTON_RING)


def carry(view: View, name: str, way: float, attempt: int) -> Program:
    """Return the moves that take block ``name``, carry it ``way`` m along x to a free spot and set it down."""
    if not view["blocks"][name]["held"]:
        return take(view, name, attempt, pitch=0.0)
    block = footprint(view, name)
    x, y = float(block.pos[0]) + way, float(block.pos[1])
    spots = [(x + far * way, at_y) for far in np.arange(0.0, 1.6, 0.1) for at_y in np.arange(-0.14, 0.0, 0.01)]
    free = [(a, float(b)) for a, b in spots if is_spot(view, name, a, float(b))]
    x, y = min(free, key=lambda s: 1.5 * abs(s[0] - x) + abs(s[1] - y), default=(x, y))
    return set_down(view, name, np.array([x, y, TABLE_TOP + block.height + _DROP]), 0.0)


def push_off(view: View, attempt: int) -> Program:
    """Return the moves that bring a block over the table's edge into the open drawer: carried first, as in ``push``."""
    on_table = [n for n in view["blocks"] if is_on(view, n, "table") or view["blocks"][n]["held"]]
    name = min(on_table or list(view["blocks"]), key=lambda n: view["blocks"][n]["pos"][1])
    if view["blocks"][name]["held"]:
        return place_in_drawer(view, name)
    block = footprint(view, name)
    (left, right), _ = drawer_room(view)
    reach = block.reach(BACK)
    wide = block.reach(RIGHT)
    fits = left + wide < block.pos[0] < right - wide and block.pos[1] + reach < -0.02
    if attempt % 2 == 0 or not fits:
        return take(view, name, attempt)
    begin = np.array([block.pos[0], block.pos[1] + reach + 0.03, _LOW])
    end = np.array([block.pos[0], TABLE_EDGE - 0.01, _LOW])
    approach = (
        *come(view, begin, CLOSED),
        at(view, begin + np.array([0.0, 0.0, 0.05]), CLOSED, tol=0.015, limit=40, name="above"),
        at(view, begin, CLOSED, tol=0.01, limit=30, name="behind"),
    )
    return (
        *(replace(move, watch=(name, block.pos)) for move in approach),
        at(view, end, CLOSED, speed=0.45, tol=0.01, limit=50, name="push"),
        at(view, end + np.array([0.0, 0.0, 0.05]), CLOSED, tol=0.02, dwell=5, limit=20, name="off"),
    )


def unstack(view: View, attempt: int) -> Program:
    """Return the moves that take the upper of two blocks and put it beside."""
    name = max(
        view["blocks"],
        key=lambda n: (any(o in view["blocks"] for o in view["blocks"][n]["on"]), view["blocks"][n]["pos"][2]),
    )
    if view["blocks"][name]["held"]:
        return put_away(view, name)
    return lift(view, name, attempt)
