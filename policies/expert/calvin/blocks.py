"""Blocks as upright boxes: their footprint, who stands near, and how the hand can take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rdvla_bench.policies.expert.calvin.move import UNSEEN, View
from rdvla_bench.policies.expert.calvin.places import DRAWER_FRONT, TABLE_EDGE, handle, openings
from rdvla_bench.policies.expert.calvin.reach import EASE, YAWS, yaw_of
from rdvla_bench.policies.expert.geometry import FloatArray

SPAN = 0.066  # m, the widest side that the hand closes around with room to spare; it opens 0.08
FINGER = (0.054, 0.016, 0.012)  # m: from the tool point to an open finger's middle, half its thickness, half its width
SILL = 0.03  # m, y beyond which a block stands on the shelf
IN_DRAWER = 0.42  # m, height below which a block lies in the drawer
RIGHT, BACK = np.array([1.0, 0.0]), np.array([0.0, 1.0])  # of someone who faces the table
_AS_GOOD = 0.9  # cost by which another grasp may be worse and still be tried
PALM = 0.09  # m from the tool point to the side of the hand, along the opening


@dataclass(frozen=True, eq=False)
class Footprint:
    """A block from above."""

    pos: FloatArray  # (3,) m, the block's middle
    along: FloatArray  # (2,) unit vector of its first horizontal axis
    half: FloatArray  # (2,) half lengths along that axis and across it
    height: float  # m, half

    def reach(self, direction: FloatArray) -> float:
        """Return how far the block extends from its middle in a horizontal direction (2,)."""
        across = np.array([-self.along[1], self.along[0]])
        return float(abs(self.along @ direction) * self.half[0] + abs(across @ direction) * self.half[1])

    def distance(self, points: FloatArray) -> FloatArray:
        """Return how far points (N, 2) are outside the block, 0 inside."""
        across = np.array([-self.along[1], self.along[0]])
        local = np.abs((points - self.pos[:2]) @ np.stack([self.along, across], axis=1)) - self.half
        gaps: FloatArray = np.linalg.norm(np.maximum(local, 0.0), axis=1)
        return gaps


def footprint(view: View, name: str) -> Footprint:
    """Return block ``name`` from above, whichever of its sides it lies on."""
    block = view["blocks"][name]
    up = int(np.argmax(np.abs(block["mat"][2])))
    first, second = (i for i in range(3) if i != up)
    along = block["mat"][:2, first]
    return Footprint(
        pos=block["pos"],
        along=along / max(float(np.linalg.norm(along)), 1e-6),
        half=block["half"][[first, second]],
        height=float(np.abs(block["mat"][2]) @ block["half"]),
    )


def others(view: View, *names: str) -> list[Footprint]:
    """Return all blocks but ``names`` from above."""
    return [footprint(view, other) for other in view["blocks"] if other not in names]


def held_block(view: View) -> str:
    """Return the block in the hand, or an empty string."""
    return next((name for name, block in view["blocks"].items() if block["held"]), "")


def is_on(view: View, name: str, place: str) -> bool:
    """Return whether a block touches a part of the table ("table", "shelf", "drawer") or another block."""
    return place in view["blocks"][name]["on"]


def grasp_yaws(view: View, name: str) -> list[float]:
    """Return the yaws at which the hand can take block ``name`` from above, best first.

    The hand's own yaw counts near the block alone: from afar it comes with its yaw at ease, however it began.
    """
    outline, now = footprint(view, name), yaw_of(view["target_euler"][2])
    if float(np.linalg.norm(outline.pos[:2] - view["tcp_pos"][:2])) > UNSEEN:
        now = EASE
    angle = float(np.arctan2(outline.along[1], outline.along[0]))
    found: list[tuple[float, float]] = []
    for across, half in ((angle, outline.half[1]), (angle + np.pi / 2, outline.half[0])):
        if 2 * half > SPAN:
            continue
        for yaw in (across + k * np.pi for k in range(-3, 4)):
            if YAWS[0] <= yaw <= YAWS[1]:
                cost = 0.3 * abs(yaw - now) + 0.2 * abs(yaw - EASE) + 20.0 * max(half - 0.02, 0.0)
                found.append((cost + _obstruction(view, name, outline, yaw), yaw))
    best = min((cost for cost, _ in found), default=0.0)
    return [yaw for cost, yaw in sorted(found) if cost < best + _AS_GOOD]


def fingers(pos: FloatArray, yaw: float, open_to: float = FINGER[0]) -> FloatArray:
    """Return points (N, 2) around both fingers of a hand at ``pos``."""
    opening, side = np.array([np.sin(yaw), -np.cos(yaw)]), np.array([np.cos(yaw), np.sin(yaw)])
    return np.array(
        [
            pos[:2] + opening * (sign * open_to + a * FINGER[1]) + side * b * FINGER[2]
            for sign in (-1, 1)
            for a in (-1, 0, 1)
            for b in (-1, 0, 1)
        ]
    )


def _obstruction(view: View, name: str, outline: Footprint, yaw: float) -> float:
    """Return the cost of what a hand at ``yaw`` around the block would meet."""
    points = fingers(outline.pos, yaw)
    cost = 0.0
    for other in others(view, name):
        if abs(other.pos[2] - outline.pos[2]) < 0.035:
            cost += 200.0 * max(0.0, 0.004 - float(other.distance(points).min()))
    ends = outline.pos[:2] + PALM * np.outer([-1.0, 1.0], [np.sin(yaw), -np.cos(yaw)])
    if outline.pos[2] < IN_DRAWER:  # in the drawer: the table's edge and the drawer's front
        front = DRAWER_FRONT - float(view["joints"]["drawer"]["value"])
        cost += 60.0 * max(0.0, float(points[:, 1].max()) - TABLE_EDGE + 0.01)
        return cost + 60.0 * max(0.0, front - float(points[:, 1].min()))
    if outline.pos[1] > SILL:  # on the shelf: walls left and right of the opening, and behind
        left, right = openings(view)
        low, high = left if outline.pos[0] < (left[1] + right[0]) / 2 else right
        cost += 30.0 * max(0.0, low - float(points[:, 0].min())) + 30.0 * max(0.0, float(points[:, 0].max()) - high)
        return cost + 200.0 * max(0.0, float(points[:, 1].max()) - 0.145)
    near = np.abs(ends[:, 0] - handle(view)[0]) < 0.06
    cost += 20.0 * max(0.0, float(ends[:, 1].max()) - 0.03)
    return float(cost + 10.0 * np.sum(np.maximum(ends[near, 1] + 0.02, 0.0)))
