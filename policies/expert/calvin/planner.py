"""From a subtask's name to the program that serves it now."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rdvla_bench.policies.expert.calvin.blocks import held_block
from rdvla_bench.policies.expert.calvin.mechanisms import (
    close_drawer,
    move_door,
    open_drawer,
    press_button,
    switch_off,
    switch_on,
)
from rdvla_bench.policies.expert.calvin.move import CLOSED, OPEN, Move, View, wrap
from rdvla_bench.policies.expert.calvin.put import place_in_drawer, place_on_shelf, put_away, stack
from rdvla_bench.policies.expert.calvin.shift import push, push_off, rotate, unstack
from rdvla_bench.policies.expert.calvin.take import lift
from rdvla_bench.policies.expert.calvin.travel import Program
from rdvla_bench.policies.expert.geometry import FloatArray

_PLACED: dict[str, Callable[[View, str], Program]] = {
    "place_in_slider": place_on_shelf,
    "place_in_drawer": place_in_drawer,
    "stack_block": stack,
}
_LOOSE: dict[str, Callable[[View, int], Program]] = {"unstack_block": unstack, "push_into_drawer": push_off}
_FIXED: dict[str, Callable[[View, int], Program]] = {
    "open_drawer": open_drawer,
    "close_drawer": close_drawer,
    "turn_on_lightbulb": switch_on,
    "turn_off_lightbulb": switch_off,
    "turn_on_led": press_button,
    "turn_off_led": press_button,
}
_TURN = np.deg2rad(68.0)  # 60 degrees count: conf/tasks/new_playtable_tasks.yaml
_WAY = 0.118  # m; 0.1 count


def plan(view: View, start: FloatArray, attempt: int) -> Program:
    """Return the moves to make next.

    ``start``: x, y, z and yaw (3, 4) of the blocks when the subtask began, in the view's order; ``attempt`` counts
    programs already tried.
    """
    task, held = view["task"], held_block(view)
    if task in _PLACED:
        return _PLACED[task](view, held) if held else _take_up(view, attempt)
    if task in _LOOSE:
        return _LOOSE[task](view, attempt)
    verb, name, *_, last = task.split("_") if "block" in task else (task, "", "")
    if held and held != name and not view["blocks"][held]["on"]:
        return put_away(view, held)
    if verb == "lift":
        return lift(view, name, attempt)
    if verb in ("rotate", "push"):
        before = start[list(view["blocks"]).index(name)]
        side, block = 1.0 if last == "left" else -1.0, view["blocks"][name]
        if verb == "rotate":
            return rotate(view, name, side * _TURN - float(wrap(block["yaw"] - before[3])), attempt, before[:2])
        return push(view, name, -side * _WAY - float(block["pos"][0] - before[0]), attempt)
    slide = view["joints"]["slide"]
    if verb == "move_slider_left":
        return move_door(view, slide["hi"], attempt)
    if verb == "move_slider_right":
        return move_door(view, slide["lo"], attempt)
    return _FIXED[task](view, attempt) if task in _FIXED else (stay(view),)


def _take_up(view: View, attempt: int) -> Program:
    """Return the moves that take up the block nearest to the hand."""
    name = min(view["blocks"], key=lambda n: float(np.linalg.norm(view["blocks"][n]["pos"] - view["tcp_pos"])))
    return lift(view, name, attempt)


def stay(view: View) -> Move:
    """Return a move that waits where the tool is."""
    grip = CLOSED if held_block(view) else OPEN
    return Move(view["target_pos"], view["target_euler"], grip, dwell=10, limit=10, name="stay")
