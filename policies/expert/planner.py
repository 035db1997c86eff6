"""From goal predicates to the next program: which goal, and which skill serves it now."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rdvla_bench.policies.expert.articulated import DRAWER_OPEN, opening_direction, pull_open, push_closed, twist
from rdvla_bench.policies.expert.geometry import HOME, FloatArray, View, height_range, rotation_vector, sample_object
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
    target, drop, ignore = destination(view, name, where)
    return place(view, name, target, drop=drop, spin=free_spin(view, name, target, ignore), ignore=ignore)


def destination(view: View, name: str, where: str) -> tuple[FloatArray, float, tuple[str, ...]]:
    """Return where the object's origin goes, how far above it to let go, and what the load may pass close to."""
    thing = view["objects"][name]
    under = float(thing["pos"][2]) - height_range(view, name)[0]
    if where in view["objects"]:
        base = view["objects"][where]
        rest = float(base["pos"][2]) + 0.012
        return np.array([*base["pos"][:2], rest + under]), 0.012, ()
    site = view["sites"][where]
    owner = site["owner"]
    if not owner:
        return np.array([*site["pos"][:2], float(site["pos"][2]) + under]), 0.01, ()
    if view["objects"][owner]["kind"] == "basket":
        return _into_basket(view, name, where, under)
    low = float(np.abs(site["mat"][2]) @ site["size"]) if site["joints"] or "contain" in where else 0.0
    if site["joints"] or "contain" in where:
        low = float(site["pos"][2]) - float(np.abs(site["mat"][2]) @ site["size"])
        if not site["joints"]:
            return np.array([*site["pos"][:2], low + under]), 0.012, ()
        out = opening_direction(view["joints"][site["joints"][0]])  # away from the fixture's face, which the hand nears
        return np.array([*(site["pos"][:2] + 0.018 * out[:2]), low + under]), 0.02, ()
    spot = site["pos"][:2] + _share(view, name, where)
    surface = sample_object(view, owner, 0.01)
    beneath = surface[np.linalg.norm(surface[:, :2] - spot, axis=1) < 0.04]
    rest = float(beneath[:, 2].max()) if len(beneath) else float(site["pos"][2])
    return np.array([*spot, rest + under]), 0.008, ()


def _share(view: View, name: str, where: str) -> FloatArray:
    """Return the offset (2,) from a region's middle that leaves room for the other objects that belong there."""
    others = [g[1] for g in view["goal"] if len(g) == 3 and g[2] == where and g[1] != name]
    if not others:
        return np.zeros(2)
    site = view["sites"][where]
    cloud = sample_object(view, name, 0.01)
    narrow = int(np.argmin(np.ptp(cloud[:, :2], axis=0)))
    step = np.eye(2)[narrow] * 0.62 * float(site["size"][narrow])
    taken = [view["objects"][o]["pos"][:2] - site["pos"][:2] for o in others]
    return max((step, -step), key=lambda s: min(float(np.linalg.norm(s - t)) for t in taken))


def _into_basket(view: View, name: str, where: str, under: float) -> tuple[FloatArray, float, tuple[str, ...]]:
    """Return a free spot of the basket, above which the object is dropped from the rim."""
    site = view["sites"][where]
    owner = site["owner"]
    floor, rim = height_range(view, owner)
    inside = [
        thing["pos"][:2]
        for other, thing in view["objects"].items()
        if other != name and thing["movable"] and other != owner
        and np.all(np.abs(thing["pos"][:2] - site["pos"][:2]) < 0.08) and thing["pos"][2] < rim
    ]
    spot = site["pos"][:2]
    if inside:
        steps = [np.array([x, y]) for x in (-0.035, 0.0, 0.035) for y in (-0.035, 0.0, 0.035)]
        spot = max((spot + s for s in steps), key=lambda p: min(float(np.linalg.norm(p - q)) for q in inside))
    grip_over_thing = float(view["eef_pos"][2] - view["objects"][name]["pos"][2])
    height = max(floor + 0.02 + under, rim + 0.015 - grip_over_thing)
    return np.array([spot[0], spot[1], height]), 0.0, ()
