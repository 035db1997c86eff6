"""The block in the hand put down: on the table, on another block, on the shelf, into the drawer."""

from __future__ import annotations

import numpy as np

from rdvla_bench.policies.expert.calvin.blocks import BACK, IN_DRAWER, RIGHT, SILL, fingers, footprint, is_on, others
from rdvla_bench.policies.expert.calvin.move import CLOSED, OPEN, Move, View
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
from rdvla_bench.policies.expert.calvin.travel import FRONT, INSIDE, LADEN, Program, as_is, upright
from rdvla_bench.policies.expert.geometry import FloatArray


def set_down(view: View, name: str, goal: FloatArray, by: float, rise: float = 0.06) -> Program:
    """Return the moves that take the held block over and down to ``goal`` (3,), turned by ``by`` rad, and let go."""
    pos, euler = upright(view, name, goal, by)
    high = max(float(view["tcp_pos"][2]), float(pos[2]) + rise)
    here = view["tcp_pos"]
    far = float(np.linalg.norm(pos[:2] - here[:2])) > 0.2
    if far:
        high = max(high, LADEN if pos[2] < 0.56 else float(pos[2]) + rise)
    above = np.array([pos[0], pos[1], high])
    return (
        *_raise(view, name, high),
        Move(above, euler, CLOSED, tol=0.012, tol_turn=0.06, limit=80, keep=name, name="carry"),
        Move(pos, euler, CLOSED, speed=0.5, tol=0.007, limit=35, keep=name, name="lower"),
        Move(pos, euler, OPEN, dwell=8, limit=10, tol=0.02, name="let go"),
        Move(pos + np.array([0.0, 0.0, 0.08]), euler, OPEN, tol=0.03, limit=25, name="leave"),
    )


def _raise(view: View, name: str, height: float) -> Program:
    """Return the moves that take the held block out of the cupboard, where it is in there, and up to ``height``."""
    here, moves = view["tcp_pos"], []
    if here[1] > INSIDE:
        here = np.array([here[0], FRONT, max(float(here[2]), 0.54)])
        moves.append(Move(here, as_is(view), CLOSED, tol=0.03, limit=30, keep=name, name="back out"))
    if height > here[2] + 0.02:
        up = np.array([here[0], here[1], height])
        moves.append(Move(up, as_is(view), CLOSED, tol=0.03, limit=30, keep=name, name="raise"))
    return tuple(moves)


def put_away(view: View, name: str) -> Program:
    """Return the moves that put the held block on a free spot of the table."""
    here = view["blocks"][name]["pos"]
    block = footprint(view, name)
    spots = [
        (x, y) for x in np.arange(-0.3, 0.36, 0.02) for y in (-0.12, -0.09, -0.06) if is_spot(view, name, float(x), y)
    ]
    x, y = min(spots, key=lambda s: np.hypot(s[0] - here[0], s[1] - here[1])) if spots else here[:2]
    return set_down(view, name, np.array([x, y, TABLE_TOP + block.height]), 0.0)


def is_spot(view: View, name: str, x: float, y: float) -> bool:
    """Return whether the table has room for the held block and the fingers around it."""
    block = footprint(view, name)
    spot = np.array([x, y])
    wide, deep = block.reach(RIGHT), block.reach(BACK)
    below = np.array([[a * wide, b * deep] for a in (-1, -0.5, 0, 0.5, 1) for b in (-1, 0, 1)])
    area = np.concatenate([fingers(spot, yaw_of(view["target_euler"][2])), spot + below])
    edge = y - deep > TABLE_EDGE + 0.005 and abs(x) < TABLE_SIDES - 0.03
    near = any(o.distance(area).min() < 0.006 for o in others(view, name) if o.pos[1] < SILL and o.pos[2] > IN_DRAWER)
    return edge and not near and float(np.linalg.norm(area - view["table"]["button"][:2], axis=1).min()) > BUTTON_RING


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


def place_in_drawer(view: View, name: str) -> Program:
    """Return the moves that put the held block into the open drawer."""
    (left, right), (front, back) = drawer_room(view)
    block = footprint(view, name)
    inside = [o for o in others(view, name) if o.pos[2] < IN_DRAWER]
    y = max((front + back) / 2 - 0.005, back - 0.12)

    def room(x: float) -> float:
        hand = fingers(np.array([x, y]), EASE)
        return min([float(o.distance(hand).min()) for o in inside], default=0.1) - 0.1 * abs(x - (left + right) / 2)

    x = max((float(v) for v in np.linspace(left + 0.09, right - 0.09, 19)), key=room)
    return set_down(view, name, np.array([x, y, DRAWER_FLOOR + block.height + 0.01]), _square(view, name), rise=0.2)


def place_on_shelf(view: View, name: str) -> Program:
    """Return the moves that put the held block on the shelf, in the wider opening, away from other blocks."""
    block, by = footprint(view, name), _square(view, name)
    low, high = max(openings(view), key=lambda span: span[1] - span[0])
    inside = [o for o in others(view, name) if o.pos[1] > SILL]

    def room(x: float) -> float:
        hand = fingers(np.array([x, 0.085]), EASE)
        gap = min([float(o.distance(hand).min()) for o in inside], default=0.1)
        body = min([abs(float(o.pos[0]) - x) - o.reach(RIGHT) - 0.022 for o in inside], default=0.1)
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
    return (
        *_raise(view, name, LADEN),
        Move(front, euler, CLOSED, tol=0.02, tol_turn=0.2, limit=80, keep=name, name="front"),
        Move(mouth, euler, CLOSED, tol=0.012, limit=40, keep=name, name="mouth"),
        Move(pos, euler, CLOSED, speed=0.5, tol=0.004, limit=30, keep=name, name="lower"),
        Move(pos, euler, OPEN, dwell=8, limit=10, tol=0.02, name="let go"),
        Move(mouth, euler, OPEN, tol=0.02, limit=25, name="leave"),
    )


def _square(view: View, name: str) -> float:
    """Return the turn in rad that sets the block's sides along x and y while the tool comes near its ease."""
    yaw = yaw_of(view["target_euler"][2])
    block = footprint(view, name)
    angle = float(np.arctan2(block.along[1], block.along[0]))
    turns = [np.pi / 2 * k - angle for k in range(-4, 5)]
    return min(turns, key=lambda t: abs(yaw + t - EASE))
