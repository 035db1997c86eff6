"""Door, drawer, switch and button: pushed with closed fingers, the drawer pulled by hooking its bar."""

from __future__ import annotations

import numpy as np

from rdvla_bench.policies.expert.calvin.move import CLOSED, OPEN, View
from rdvla_bench.policies.expert.calvin.places import HANDLE_HALF, LEVER_WAY, drawer_bar, handle, lever
from rdvla_bench.policies.expert.calvin.travel import FRONT, Program, at, come

_SIDE = 0.027  # m, half the width of the closed fingers along their opening
_THICK = 0.0105  # m, half their thickness
_CALM = 0.5  # of an action unit: down and forward in one chunk would be learnt as a slant, over the switch's bar
_TIP = 0.0148  # m from the tool point to the finger tips: panda_longer_finger.urdf


def press_button(view: View, attempt: int) -> Program:
    """Return the moves that press the button until its light changes."""
    x, y = view["table"]["button"][:2] + 0.006 * np.array([(0, 0), (1, 1), (-1, 1), (1, -1)][attempt % 4])
    above, down = np.array([x, y, 0.52]), np.array([x, y, 0.452])
    return (
        *come(view, above, CLOSED),
        at(view, above, CLOSED, tol=0.015, limit=25, name="above"),
        at(view, down, CLOSED, speed=0.6, tol=0.004, dwell=10, limit=25, name="press"),
        at(view, above, CLOSED, tol=0.02, limit=25, name="release"),
    )


def move_door(view: View, to: float, attempt: int, grip: float = CLOSED, enough: float | None = None) -> Program:
    """Return the moves that push the sliding door by its handle until its joint has the value ``to``."""
    now = view["joints"]["slide"]["value"]
    left = 1.0 if to > now else -1.0
    side = HANDLE_HALF + _SIDE
    start, end = handle(view), handle(view) - np.array([to - now, 0.0, 0.0])
    lift = (0.0, -0.02, 0.02)[attempt % 3]
    begin = start + np.array([left * (side + 0.02), 0.5 * lift, lift])
    finish = end + np.array([left * (side - 0.02), 0.5 * lift, lift])
    before = np.array([begin[0], FRONT, begin[2]])
    until = None if enough is None else ("slide", *sorted((enough, enough + left)))
    return (
        *come(view, before, grip),
        at(view, before, grip, tol=0.02, limit=30, name="before"),
        at(view, begin, grip, tol=0.01, limit=30, name="beside the handle"),
        at(view, finish, grip, tol=0.01, limit=60, speed=0.7, until=until, name="push"),  # type: ignore[arg-type]
        *((at(view, np.array([finish[0] + 0.03 * left, FRONT, finish[2]]), grip, tol=0.03, name="off"),)),
    )


def open_drawer(view: View, attempt: int) -> Program:
    """Return the moves that hook the drawer's bar from behind and pull."""
    bar = drawer_bar(view)
    behind = bar + np.array([0.0, 0.033 - 0.006 * (attempt % 3), 0.0])
    way = view["joints"]["drawer"]["hi"] - view["joints"]["drawer"]["value"]
    end = bar + np.array([0.0, 0.012 - way, 0.0])
    above = np.array([behind[0], behind[1] - 0.02, 0.5])
    return (
        *come(view, above, OPEN),
        at(view, above, OPEN, tol=0.015, limit=25, name="above"),
        at(view, behind, OPEN, tol=0.01, limit=30, name="hook"),
        at(view, end, OPEN, speed=0.7, tol=0.015, limit=50, name="pull"),
        at(view, end + np.array([0.0, 0.015, 0.0]), OPEN, tol=0.01, limit=10, name="unhook"),
        at(view, end + np.array([0.0, 0.015, 0.14]), OPEN, tol=0.03, limit=25, name="up"),
    )


def close_drawer(view: View, attempt: int) -> Program:
    """Return the moves that push the drawer shut by its bar."""
    bar = drawer_bar(view)
    before = bar + np.array([0.03 * (attempt % 2), -0.055, -0.005])
    end = before + np.array([0.0, 0.045 + view["joints"]["drawer"]["value"], 0.0])
    above = np.array([before[0], before[1], 0.47])
    return (
        *come(view, above, CLOSED),
        at(view, above, CLOSED, tol=0.02, limit=25, name="above"),
        at(view, before, CLOSED, tol=0.015, limit=30, name="before"),
        at(view, end, CLOSED, speed=0.8, tol=0.012, limit=50, name="push"),
        at(view, end - np.array([0.0, 0.03, 0.0]), CLOSED, tol=0.02, limit=10, name="off"),
    )


def switch_on(view: View, attempt: int) -> Program:
    """Return the moves that lift the switch's bar from below with tilted fingers."""
    pitch = (0.7, 0.9, 0.55)[attempt % 3]
    normal = np.array([0.0, np.cos(pitch), np.sin(pitch)])
    bar = lever(view)
    begin = bar - 0.034 * normal + np.array([0.0, -0.004, 0.003])
    way = view["joints"]["switch"]["hi"] - view["joints"]["switch"]["value"] + 0.01
    before = begin + np.array([0.0, -0.07, -0.01])
    return (
        *come(view, before, CLOSED, pitch=pitch),
        at(view, before, CLOSED, pitch=pitch, speed=_CALM, tol=0.012, limit=40, name="before"),
        at(view, begin, CLOSED, pitch=pitch, speed=_CALM, tol=0.008, limit=30, name="under"),
        at(view, begin + LEVER_WAY * way, CLOSED, pitch=pitch, speed=0.6, tol=0.01, limit=40, name="lift"),
    )


def switch_off(view: View, attempt: int) -> Program:
    """Return the moves that press the switch's bar down from above."""
    bar = lever(view)
    top = bar + LEVER_WAY * (0.017 + _TIP) + np.array([0.0, (0.0, -0.008, 0.008)[attempt % 3], 0.0])
    way = view["joints"]["switch"]["value"] + 0.012
    above = top + np.array([0.0, -0.005, 0.03])
    before = np.array([above[0], FRONT, above[2]])
    return (
        *come(view, before, CLOSED, height=float(above[2])),
        at(view, above, CLOSED, tol=0.01, limit=40, name="above"),
        at(view, top - LEVER_WAY * way, CLOSED, speed=0.6, tol=0.006, limit=45, name="press"),
    )
