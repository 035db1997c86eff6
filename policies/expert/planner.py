"""From goal predicates to the next program: which goal, and which skill serves it now."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rdvla_bench.policies.expert.articulated import DRAWER_OPEN, pull_open, push_closed, twist
from rdvla_bench.policies.expert.destination import destination
from rdvla_bench.policies.expert.geometry import HOME, View, rotation_vector
from rdvla_bench.policies.expert.microwave import pick_for_shelf, put_in, swing_shut
from rdvla_bench.policies.expert.move import OPEN, Move
from rdvla_bench.policies.expert.pick_place import Program, free_spin, pick, place
from rdvla_bench.policies.expert.reach import lean_at
from rdvla_bench.policies.expert.slide import slide

Goal = tuple[str, ...]
_FAR_ROUND = 1.9  # rad


def held_object(view: View) -> str:
    """Return the movable object between the fingers, or an empty string."""
    return next((name for name, thing in view["objects"].items() if thing["movable"] and thing["held"]), "")


def next_goal(view: View) -> Goal | None:
    """Return the goal to work on: what is in the hand first, closing last."""
    open_goals = [g for g, holds in zip(view["goal"], view["holds"], strict=True) if not holds]
    held = held_object(view)
    ranked = sorted(open_goals, key=lambda g: (g[1] != held, g[0] == "close"))
    return ranked[0] if ranked else None


def plan(view: View, attempt: int) -> Program:
    """Return the moves to make next; ``attempt`` counts programs already tried for this goal."""
    shoulder = view["shoulder"]
    program = [replace(m, mat=lean_at(shoulder, m.pos, m.mat) @ m.mat) for m in _skill(view, attempt)]
    before, turned = view["eef_mat"], []
    for move in program:
        if np.linalg.norm(rotation_vector(move.mat @ before.T)) > _FAR_ROUND:  # the short way may pass a joint limit
            turned.append(replace(move, mat=HOME, tol=0.05, tol_turn=0.5, until=None, name="turn"))
        turned.append(move)
        before = move.mat
    return tuple(turned)


def _skill(view: View, attempt: int) -> Program:
    goal = next_goal(view)
    if goal is None:
        return (stay(view),)
    return _serve(view, goal, attempt) or (stay(view),)


def _serve(view: View, goal: Goal, attempt: int) -> Program:
    """Return the moves of the skill that the goal needs first."""
    verb, name = goal[0], goal[1]
    if verb == "open":
        return pull_open(view, view["sites"][name]["joints"][0], attempt)
    if verb == "close" and name in view["sites"]:
        return push_closed(view, view["sites"][name]["joints"][0], attempt)
    if verb == "close":
        return swing_shut(view, next(j for j, joint in view["joints"].items() if joint["owner"] == name))
    if verb == "turnon":
        return twist(view, next(j for j, joint in view["joints"].items() if joint["owner"] == name), attempt)
    if verb not in ("on", "in"):
        return ()
    where = goal[2]
    drawers = view["sites"][where]["joints"] if where in view["sites"] else ()
    for joint in drawers:
        if view["joints"][joint]["value"] > DRAWER_OPEN + 0.03 and not view["objects"][name]["held"]:
            return pull_open(view, joint, attempt)
    if view["objects"][name]["kind"] == "plate":
        return slide(view, name, view["sites"][where]["pos"][:2])
    if "heating" in where:
        held = view["objects"][name]["held"]
        owner = view["sites"][where]["owner"]
        return put_in(view, name, where) if held else pick_for_shelf(view, name, owner, attempt)
    return carry(view, goal, attempt)


def stay(view: View) -> Move:
    """Return a move that waits where the hand is."""
    return Move(view["eef_pos"], view["eef_mat"], OPEN, dwell=10, limit=10, name="stay")


def carry(view: View, goal: Goal, attempt: int) -> Program:
    """Return the moves that pick the goal's object up, or put it down where the goal wants it."""
    _, name, where = goal
    if not view["objects"][name]["held"]:
        return pick(view, name, attempt)
    target, drop = destination(view, name, where)
    return place(view, name, target, drop=drop, spin=free_spin(view, name, target))
