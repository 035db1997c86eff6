"""Blocks taken from table, shelf and drawer, turned, pushed, carried and put down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rdvla_bench.policies.expert.calvin.blocks import fingers, footprint, grasp_yaws, is_on, others
from rdvla_bench.policies.expert.calvin.mechanisms import move_door
from rdvla_bench.policies.expert.calvin.move import CLOSED, OPEN, FloatArray, Move, View
from rdvla_bench.policies.expert.calvin.places import (
    BUTTON_RING,
    DRAWER_FLOOR,
    SHELF_TOP,
    TABLE_EDGE,
    TABLE_SIDES,
    TABLE_TOP,
    drawer_room,
    openings,
)
from rdvla_bench.policies.expert.calvin.reach import EASE, YAWS, yaw_of
from rdvla_bench.policies.expert.calvin.travel import FRONT, LADEN, Program, at, come, upright

_PITCH, _PITCH_SHELF = 0.6, 0.75  # rad: the hand leans back, out of the cupboard
_SKEW = 0.2  # rad by which the hand turns in the cupboard at most; closing, it squares the block
_OUTER = 0.012  # m before the middle of a block in the cupboard at which it is taken: the hand stays outside
_NARROW = 0.11  # m from a bound of the opening within which the hand meets it
_OVER = 0.05  # m above a grasp
_BRAKE = 0.045  # m before the end of a push at which the hand turns back: the block slides on, free of the fingers
_COAST = 0.02  # m that it slides at most beyond where it was to go
_DROP = 0.008  # m that a turned block falls, so that it is free when it lies down
_PAD = 0.004  # m of the tool point above the block's middle


def take(view: View, name: str, attempt: int, *, yaw: float | None = None, pitch: float = _PITCH) -> Program:
    """Return the moves that come to block ``name`` and close the hand around it."""
    block = footprint(view, name)
    yaws = grasp_yaws(view, name)
    if yaw is None:
        yaw = yaws[attempt % min(2, len(yaws))] if yaws else EASE
    pos = block.pos + np.array([0.0, 0.0, _PAD - 0.002 * (attempt % 3)])
    above = pos + np.array([0.0, 0.0, _OVER])
    entry: Program = ()
    if pos[1] > 0.03:
        yaw, pitch = _shelf_yaw(view, pos, yaw), _PITCH_SHELF
        pos = pos - np.array([0.0, _OUTER, 0.0])
        above = pos + np.array([0.0, -0.02, 0.06])
        front = np.array([pos[0], FRONT, 0.55])
        entry = (at(view, front, OPEN, yaw=yaw, pitch=pitch, tol=0.015, limit=40, name="front"),)
    approach = (
        *come(view, above, OPEN, yaw=yaw, pitch=pitch),
        *entry,
        at(view, above, OPEN, yaw=yaw, pitch=pitch, tol=0.01, limit=40, name="above"),
        at(view, pos, OPEN, yaw=yaw, pitch=pitch, speed=0.7, tol=0.005, limit=30, name="down"),
    )
    return (
        *(replace(move, watch=(name, block.pos)) for move in approach),
        at(view, pos, CLOSED, yaw=yaw, pitch=pitch, tol=0.02, dwell=6, limit=16, hold=name, name="close"),
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
        return (Move(up, _as_is(view), CLOSED, speed=0.6, keep=name, name="lift"),)
    if is_on(view, name, "shelf") or block["pos"][1] > 0.03:
        uncovered = _uncover(view, name, attempt)
        if uncovered:
            return uncovered
    taken = take(view, name, attempt)
    last = taken[-1]
    up = last.pos + np.array([0.0, -0.005, 0.085])
    return (*taken, Move(up, last.euler, CLOSED, speed=0.6, tol=0.01, limit=30, keep=name, name="lift"))


def _as_is(view: View) -> FloatArray:
    """Return the tool's present Euler angles (3,), the yaw in the wrist's window."""
    return np.array([*view["tcp_euler"][:2], yaw_of(view["target_euler"][2])])


def _uncover(view: View, name: str, attempt: int) -> Program:
    """Return the moves that push the door off the block, none where it is not in the way."""
    block = footprint(view, name)
    x, room = float(block.pos[0]), 0.1
    left, right = openings(view)
    if left[0] < x < left[1] - room or right[0] + room < x < right[1]:
        return ()
    slide = view["joints"]["slide"]
    low, high = left[0], right[1]
    to = slide["lo"] if x - low < high - x else slide["hi"]
    if abs(slide["value"] - to) < 0.01:
        return ()
    return move_door(view, to, attempt)


def rotate(view: View, name: str, angle: float, attempt: int) -> Program:
    """Return the moves that turn block ``name`` on the table by ``angle`` rad more."""
    reachable = [yaw for yaw in grasp_yaws(view, name) if YAWS[0] <= yaw + angle <= YAWS[1]]
    if view["blocks"][name]["held"] and YAWS[0] <= yaw_of(view["target_euler"][2]) + angle <= YAWS[1]:
        taken: Program = ()
        pos, euler, yaw = view["tcp_pos"], _as_is(view), yaw_of(view["target_euler"][2])
    else:
        yaw = reachable[attempt % min(2, len(reachable))] if reachable else EASE
        taken = take(view, name, attempt, yaw=yaw, pitch=0.0)
        pos, euler = taken[-1].pos, taken[-1].euler
    del euler
    raised = pos + np.array([0.0, 0.0, _DROP])
    turned = at(view, raised, CLOSED, yaw=yaw + angle, tol=0.01, tol_turn=0.05, limit=60, keep=name, name="turn")
    return (
        *taken,
        turned,
        Move(raised, turned.euler, OPEN, dwell=8, limit=10, tol=0.02, name="let go"),
        Move(pos + np.array([0.0, 0.0, 0.1]), turned.euler, OPEN, tol=0.03, limit=25, name="leave"),
    )


def push(view: View, name: str, way: float, attempt: int) -> Program:
    """Return the moves that push block ``name`` by ``way`` m along x, or carry it where something is in between."""
    if view["blocks"][name]["held"]:
        return carry(view, name, way, attempt)
    block = footprint(view, name)
    side = 1.0 if way > 0 else -1.0
    reach = block.reach(np.array([1.0, 0.0]))
    yaw = EASE if block.pos[1] > -0.075 else min((0.0, np.pi), key=lambda y: abs(y - yaw_of(view["target_euler"][2])))
    thick = 0.0105 if yaw != EASE else 0.027
    begin = np.array([block.pos[0] - side * (reach + thick + 0.02), block.pos[1], 0.468])
    end = np.array([block.pos[0] + way - side * (reach + thick), block.pos[1], 0.468])
    if attempt % 2 == 1 or not _is_free(
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


def _is_free(view: View, name: str, begin: FloatArray, end: FloatArray) -> bool:
    """Return whether nothing but block ``name`` stands on the strip from the pusher's start to the block's end."""
    if max(abs(begin[0]), abs(end[0])) > TABLE_SIDES:
        return False
    line = np.linspace(begin[:2], end[:2], 12)
    wide = np.concatenate([line + np.array([0.0, dy]) for dy in (-0.025, 0.0, 0.025)])
    if any(o.distance(wide).min() < 0.008 for o in others(view, name) if o.pos[2] < 0.53 and o.pos[1] < 0.03):
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
    free = [(a, float(b)) for a, b in spots if _is_spot(view, name, a, float(b))]
    x, y = min(free, key=lambda s: 1.5 * abs(s[0] - x) + abs(s[1] - y), default=(x, y))
    return set_down(view, name, np.array([x, y, TABLE_TOP + block.height + _DROP]), 0.0)


def _is_spot(view: View, name: str, x: float, y: float) -> bool:
    """Return whether the table has room for the held block and the fingers around it."""
    block = footprint(view, name)
    spot = np.array([x, y])
    wide, deep = block.reach(np.array([1.0, 0.0])), block.reach(np.array([0.0, 1.0]))
    below = np.array([[a * wide, b * deep] for a in (-1, -0.5, 0, 0.5, 1) for b in (-1, 0, 1)])
    area = np.concatenate([fingers(spot, yaw_of(view["target_euler"][2])), spot + below])
    edge = y - deep > TABLE_EDGE + 0.005 and abs(x) < TABLE_SIDES - 0.03
    near = any(o.distance(area).min() < 0.006 for o in others(view, name) if o.pos[1] < 0.03 and o.pos[2] > 0.42)
    return edge and not near and float(np.linalg.norm(area - view["table"]["button"][:2], axis=1).min()) > BUTTON_RING


def set_down(view: View, name: str, goal: FloatArray, by: float, rise: float = 0.06) -> Program:
    """Return the moves that take the held block over and down to ``goal`` (3,), turned by ``by`` rad, and let go."""
    pos, euler = upright(view, name, goal, by)
    high = max(float(view["tcp_pos"][2]), float(pos[2]) + rise)
    here = view["tcp_pos"]
    far = float(np.linalg.norm(pos[:2] - here[:2])) > 0.2
    if far:
        high = max(high, LADEN if pos[2] < 0.56 else float(pos[2]) + rise)
    moves: list[Move] = []
    if here[1] > -0.045:
        back = np.array([here[0], FRONT, max(float(here[2]), 0.54)])
        moves.append(Move(back, _as_is(view), CLOSED, tol=0.03, limit=30, keep=name, name="back out"))
        here = back
    if high > here[2] + 0.02:
        up = np.array([here[0], here[1], high])
        moves.append(Move(up, _as_is(view), CLOSED, tol=0.03, limit=30, keep=name, name="raise"))
    above = np.array([pos[0], pos[1], high])
    return (
        *moves,
        Move(above, euler, CLOSED, tol=0.012, tol_turn=0.06, limit=80, keep=name, name="carry"),
        Move(pos, euler, CLOSED, speed=0.5, tol=0.004, limit=35, keep=name, name="lower"),
        Move(pos, euler, OPEN, dwell=8, limit=10, tol=0.02, name="let go"),
        Move(pos + np.array([0.0, 0.0, 0.08]), euler, OPEN, tol=0.03, limit=25, name="leave"),
    )


def _square(view: View, name: str) -> float:
    """Return the turn in rad that sets the block's sides along x and y while the tool comes near its ease."""
    yaw = yaw_of(view["target_euler"][2])
    block = footprint(view, name)
    angle = float(np.arctan2(block.along[1], block.along[0]))
    turns = [np.pi / 2 * k - angle for k in range(-4, 5)]
    return min((t for t in turns), key=lambda t: abs(yaw + t - EASE))


def place_on_shelf(view: View, name: str) -> Program:
    """Return the moves that put the held block on the shelf, in the wider opening, away from other blocks."""
    block, by = footprint(view, name), _square(view, name)
    low, high = max(openings(view), key=lambda span: span[1] - span[0])
    inside = [o for o in others(view, name) if o.pos[1] > 0.03]

    def room(x: float) -> float:
        hand = fingers(np.array([x, 0.085]), EASE)
        gap = min([float(o.distance(hand).min()) for o in inside], default=0.1)
        body = min([abs(float(o.pos[0]) - x) - o.reach(np.array([1.0, 0.0])) - 0.022 for o in inside], default=0.1)
        return (
            min(gap, 0.02)
            + 3 * min(body, 0.01)
            + min(x - low - 0.07, high - 0.06 - x, 0.0)
            - 0.05 * abs(x - (low + high) / 2)
        )

    x = max((float(v) for v in np.linspace(low + 0.03, high - 0.03, 41)), key=room)
    goal = np.array([x, 0.08, SHELF_TOP + block.height + 0.003])
    pos, euler = upright(view, name, goal, by)
    front, mouth = np.array([x, FRONT, 0.60]), pos + np.array([0.0, -0.03, 0.05])
    here, moves = view["tcp_pos"], []
    if here[1] > -0.045:
        back = np.array([here[0], FRONT, max(float(here[2]), 0.54)])
        moves.append(Move(back, _as_is(view), CLOSED, tol=0.03, limit=30, keep=name, name="back out"))
        here = back
    moves.append(
        Move(np.array([here[0], here[1], LADEN]), _as_is(view), CLOSED, tol=0.03, limit=30, keep=name, name="raise")
    )
    return (
        *moves,
        Move(front, euler, CLOSED, tol=0.02, limit=80, keep=name, name="front"),
        Move(mouth, euler, CLOSED, tol=0.012, limit=40, keep=name, name="mouth"),
        Move(pos, euler, CLOSED, speed=0.5, tol=0.004, limit=30, keep=name, name="lower"),
        Move(pos, euler, OPEN, dwell=8, limit=10, tol=0.02, name="let go"),
        Move(mouth, euler, OPEN, tol=0.02, limit=25, name="leave"),
    )


def place_in_drawer(view: View, name: str) -> Program:
    """Return the moves that put the held block into the open drawer."""
    (left, right), (front, back) = drawer_room(view)
    block = footprint(view, name)
    inside = [o for o in others(view, name) if o.pos[2] < 0.42]
    y = max((front + back) / 2 - 0.005, back - 0.12)

    def room(x: float) -> float:
        hand = fingers(np.array([x, y]), EASE)
        return min([float(o.distance(hand).min()) for o in inside], default=0.1) - 0.1 * abs(x - (left + right) / 2)

    x = max((float(v) for v in np.linspace(left + 0.09, right - 0.09, 19)), key=room)
    return set_down(view, name, np.array([x, y, DRAWER_FLOOR + block.height + 0.01]), _square(view, name), rise=0.2)


def stack(view: View, name: str) -> Program:
    """Return the moves that set the held block on another one."""
    lower = min(
        (o for o in view["blocks"] if o != name),
        key=lambda o: (not is_on(view, o, "table"), abs(view["blocks"][o]["pos"][0] - view["tcp_pos"][0])),
    )
    base, block = footprint(view, lower), footprint(view, name)
    angle = float(np.arctan2(base.along[1], base.along[0]) - np.arctan2(block.along[1], block.along[0]))
    yaw = yaw_of(view["target_euler"][2])
    turns = [angle + k * np.pi / 2 for k in range(-5, 6)]
    by = min(
        turns, key=lambda t: abs(t) + 0.3 * abs(yaw + t - EASE) + (9.0 if not YAWS[0] < yaw + t < YAWS[1] else 0.0)
    )
    goal = base.pos + np.array([0.0, 0.0, base.height + block.height + 0.003])
    return set_down(view, name, goal, by)


def unstack(view: View, attempt: int) -> Program:
    """Return the moves that take the upper of two blocks and put it beside."""
    name = max(
        view["blocks"],
        key=lambda n: (any(o in view["blocks"] for o in view["blocks"][n]["on"]), view["blocks"][n]["pos"][2]),
    )
    if view["blocks"][name]["held"]:
        return put_away(view, name)
    return lift(view, name, attempt)


def put_away(view: View, name: str) -> Program:
    """Return the moves that put the held block on a free spot of the table."""
    here = view["blocks"][name]["pos"]
    block = footprint(view, name)
    spots = [
        (x, y) for x in np.arange(-0.3, 0.36, 0.02) for y in (-0.12, -0.09, -0.06) if _is_spot(view, name, float(x), y)
    ]
    x, y = min(spots, key=lambda s: np.hypot(s[0] - here[0], s[1] - here[1])) if spots else here[:2]
    return set_down(view, name, np.array([x, y, TABLE_TOP + block.height]), 0.0)


def push_off(view: View, attempt: int) -> Program:
    """Return the moves that push a block over the table's edge into the open drawer, or carry it there."""
    on_table = [n for n in view["blocks"] if is_on(view, n, "table") or view["blocks"][n]["held"]]
    name = min(on_table or list(view["blocks"]), key=lambda n: view["blocks"][n]["pos"][1])
    if view["blocks"][name]["held"]:
        return place_in_drawer(view, name)
    block = footprint(view, name)
    (left, right), _ = drawer_room(view)
    reach = block.reach(np.array([0.0, 1.0]))
    wide = block.reach(np.array([1.0, 0.0]))
    fits = left + wide < block.pos[0] < right - wide and block.pos[1] + reach < -0.02
    if attempt % 2 == 1 or not fits:
        return take(view, name, attempt)
    begin = np.array([block.pos[0], block.pos[1] + reach + 0.03, 0.468])
    end = np.array([block.pos[0], TABLE_EDGE - 0.01, 0.468])
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
