"""Where to close the hand on an object: candidates found on the object's own collision boxes.

A candidate is a grip frame that points down, or leans out from under what overhangs the object. The slice of the
object between the pads must be thinner than the hand opens, both fingers must come in through free space, and nothing
else may touch the hand. Bowls and mugs are thus taken by their wall, cans across, boxes across their short side,
without a rule for each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rdvla_bench.policies.expert import hand
from rdvla_bench.policies.expert.geometry import (
    FloatArray,
    View,
    grip_down,
    nearest_grip,
    sample_object,
    sample_others,
    turn,
)
from rdvla_bench.policies.expert.reach import lean_at

_SPACING = 0.004  # m between sample points of the object; finer than half a pad
_UPRIGHT, _ROLLED, _LYING = (0.0,), (0.45, -0.45), (0.75, -0.75)  # rad about the opening axis
_PREFERENCES = (  # which rolls, and the clearance in m to keep; the first that leaves a grasp is taken
    (_UPRIGHT, 0.008),
    (_UPRIGHT, 0.004),
    (_ROLLED, 0.008),
    (_LYING, 0.008),
    (_ROLLED, 0.004),
    (_UPRIGHT, -0.001),
    (_UPRIGHT, -0.006),
)
_MAX_WIDTH = 0.068  # m; the hand opens 0.076
_ANGLES = np.deg2rad(np.arange(0, 180, 10))


@dataclass(frozen=True, eq=False)
class Grasp:
    """A grip pose, with the cost it was ranked by and how wide the object is between the pads."""

    pos: FloatArray
    mat: FloatArray
    cost: float
    width: float


def _spans(values: FloatArray, gap: float) -> list[tuple[float, float]]:
    """Return the intervals that sorted values cover when holes up to ``gap`` are bridged."""
    cuts = np.flatnonzero(np.diff(values) > gap)
    starts, ends = np.concatenate([[0], cuts + 1]), np.concatenate([cuts, [len(values) - 1]])
    return [(float(values[a]), float(values[b])) for a, b in zip(starts, ends, strict=True)]


def _slice(cloud: FloatArray, depth: float, across: float) -> list[tuple[float, float]]:
    """Return the solid spans along x of what lies between the pads, for ``cloud`` in a grip-aligned frame."""
    x, y, z = cloud.T
    near = (np.abs(y - across) < hand.PAD_HALF_WIDTH) & (z > depth + hand.PAD_BACK) & (z < depth + hand.PAD_TIP)
    found = np.sort(x[near])
    return _spans(found, 2 * _SPACING) if len(found) >= 4 else []


def grasps(view: View, name: str) -> list[Grasp]:
    """Return the feasible grasps of one object, cheapest first: from above, else rolled, else brushing the walls."""
    for rolls, clearance in _PREFERENCES:
        found = [g for roll in rolls for g in candidates(view, name, clearance=clearance, roll=roll)]
        if found:
            return sorted(found, key=lambda g: g.cost)
    return []


def candidates(
    view: View, name: str, *, deepest: float = 0.004, clearance: float = 0.004, roll: float = 0.0
) -> list[Grasp]:
    """Return the grasps of one object that keep ``clearance`` from all else, cheapest first.

    Args:
        view: the privileged state.
        name: the object to grasp.
        deepest: how far above the object's lowest point the finger tips must stay, in m.
        clearance: between the hand and what it does not grasp, in m; below 0 it may touch.
        roll: how far the hand turns about its opening axis from pointing down, in rad.
    """
    cloud = sample_object(view, name, _SPACING)
    others = sample_others(view, [name], 0.01)
    others = others[np.linalg.norm(others[:, :2] - cloud[:, :2].mean(0), axis=1) < 0.35]
    center = (cloud.min(0) + cloud.max(0)) / 2
    lean = lean_at(view["shoulder"], center, grip_down(0.0))
    rolled = turn(np.array([1.0, 0.0, 0.0]), roll)
    found: list[Grasp] = []
    for angle in _ANGLES:
        mat = lean @ nearest_grip(grip_down(float(angle))) @ rolled
        local = (cloud - center) @ mat
        clutter = (others - center) @ mat
        lowest, top = float(local[:, 2].max()), float(local[:, 2].min())
        deep = min(lowest - deepest - hand.TIP, top + hand.PALM)
        depths = deep - np.arange(0.0, max(min(0.02, deep - top - 0.008), 0.001), 0.004)
        reach = float(np.abs(local[:, 1]).max())
        for shallow, depth in enumerate(depths):
            for across in np.arange(0.0, reach, 0.010):
                for offset in {float(across), -float(across)}:
                    for a, b in _slice(local, float(depth), offset):
                        fits = _check(view, mat, center, local, clutter, (a, b), offset, float(depth), clearance)
                        found += [replace(g, cost=g.cost + 0.004 * shallow) for g in fits]
    return sorted(found, key=lambda g: g.cost)


def _check(
    view: View,
    mat: FloatArray,
    center: FloatArray,
    local: FloatArray,
    clutter: FloatArray,
    span: tuple[float, float],
    across: float,
    depth: float,
    clearance: float,
) -> list[Grasp]:
    """Return the grasp of one slice if the hand fits around it, as a list of none or one."""
    width = span[1] - span[0]
    if width > _MAX_WIDTH:
        return []
    middle = np.array([(span[0] + span[1]) / 2, across, depth])
    x, y, z = (local - middle).T
    if np.any(hand.inside(x, y, z, max(clearance, 0.0))):
        return []
    x, y, z = (clutter - middle).T
    if np.any(hand.inside(x, y, z, clearance, swept=True)):
        return []
    tight = int(np.sum(hand.inside(x, y, z, 0.02)))  # how much clutter is within 2 cm
    swing = float(np.arccos(np.clip(mat[:, 0] @ view["eef_mat"][:, 0], -1, 1)))
    cost = float(np.hypot(middle[0], middle[1])) + 0.2 * max(0.0, width - 0.06)
    cost += 0.3 * abs(across) + 0.01 * swing + 0.02 * min(tight, 20) / 20
    return [Grasp(center + mat @ middle, mat, cost, width)]
