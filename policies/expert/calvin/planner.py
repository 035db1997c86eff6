"""From a subtask's name to the program that serves it now."""

from __future__ import annotations

import numpy as np

from rdvla_bench.policies.expert.calvin.blocks import held_block
from rdvla_bench.policies.expert.calvin.handling import (
    lift,
    place_in_drawer,
    place_on_shelf,
    push,
    push_off,
    put_away,
    rotate,
    stack,
    unstack,
)
from rdvla_bench.policies.expert.calvin.mechanisms import (
    close_drawer,
    move_door,
    open_drawer,
    press_button,
    switch_off,
    switch_on,
)
from rdvla_bench.policies.expert.calvin.move import CLOSED, OPEN, Move, View
from rdvla_bench.policies.expert.calvin.travel import Program
from rdvla_bench.policies.expert.geometry import FloatArray

_TURN = np.deg2rad(68.0)  # 60 degrees count: conf/tasks/new_playtable_tasks.yaml
_WAY = 0.118  # m; 0.1 count


def plan(view: View, start: FloatArray, attempt: int) -> Program:
    """Return the moves to make next.

    ``start``: x, y, z and yaw (3, 4) of the blocks when the subtask began, in the view's order; ``attempt`` counts
    programs already tried.
    """
    task = view["task"]
    words = task.split("_")
    held = held_block(view)
    if task.startswith(("rotate", "push")) and task != "push_into_drawer":
        name, side = words[1], 1.0 if words[-1] == "left" else -1.0
        before = start[list(view["blocks"]).index(name)]
        if held and held != name and not view["blocks"][held]["on"]:
            return put_away(view, held)
        if words[0] == "rotate":
            done = (view["blocks"][name]["yaw"] - before[3] + np.pi) % (2 * np.pi) - np.pi
            return rotate(view, name, side * _TURN - done, attempt)
        return push(view, name, -side * _WAY - float(view["blocks"][name]["pos"][0] - before[0]), attempt)
    if words[0] == "lift":
        return (
            put_away(view, held)
            if held and held != words[1] and not view["blocks"][held]["on"]
            else lift(view, words[1], attempt)
        )
    if task in ("place_in_slider", "place_in_drawer", "stack_block"):
        if not held:
            return (*_regrasp(view, attempt),)
        return {"place_in_slider": place_on_shelf, "place_in_drawer": place_in_drawer, "stack_block": stack}[task](
            view, held
        )
    if task == "unstack_block":
        return unstack(view, attempt)
    if task == "push_into_drawer":
        return push_off(view, attempt)
    if held and not view["blocks"][held]["on"]:
        return put_away(view, held)
    slide = view["joints"]["slide"]
    if task == "move_slider_left":
        return move_door(view, slide["hi"], attempt)
    if task == "move_slider_right":
        return move_door(view, slide["lo"], attempt)
    single = {
        "open_drawer": open_drawer,
        "close_drawer": close_drawer,
        "turn_on_lightbulb": switch_on,
        "turn_off_lightbulb": switch_off,
        "turn_on_led": press_button,
        "turn_off_led": press_button,
    }
    return single[task](view, attempt) if task in single else (stay(view),)


def _regrasp(view: View, attempt: int) -> Program:
    """Return the moves that take up the block nearest to the hand."""
    name = min(view["blocks"], key=lambda n: float(np.linalg.norm(view["blocks"][n]["pos"] - view["tcp_pos"])))
    return lift(view, name, attempt)


def stay(view: View) -> Move:
    """Return a move that waits where the tool is."""
    grip = CLOSED if held_block(view) else OPEN
    return Move(view["target_pos"], view["target_euler"], grip, dwell=10, limit=10, name="stay")
