"""Where an object goes to satisfy a goal: on an object, on a zone or a fixture, into a basket, drawer or caddy."""

from __future__ import annotations

import numpy as np

from rdvla_bench.policies.expert.articulated import opening_direction
from rdvla_bench.policies.expert.geometry import FloatArray, View, height_range, sample_object

_DISH = 0.012  # m that the inside of a plate or bowl lies above its origin
_OFF_FACE = 0.018  # m from a drawer's middle away from the fixture, whose face the hand would meet
_FOOT = 0.04  # m around a spot in which a fixture's highest point carries the object


def destination(view: View, name: str, where: str) -> tuple[FloatArray, float]:
    """Return where the origin of the held object goes, (3,) m, and how far above that to let go."""
    thing = view["objects"][name]
    under = float(thing["pos"][2]) - height_range(view, name)[0]
    if where in view["objects"]:
        base = view["objects"][where]["pos"]
        return np.array([*base[:2], float(base[2]) + _DISH + under]), 0.012
    site = view["sites"][where]
    owner, middle = site["owner"], site["pos"]
    if not owner:
        return np.array([*middle[:2], float(middle[2]) + under]), 0.01
    if view["objects"][owner]["kind"] == "basket":
        return _into_basket(view, name, where, under), 0.0
    floor = float(middle[2]) - float(np.abs(site["mat"][2]) @ site["size"])
    if site["joints"]:
        out = opening_direction(view["joints"][site["joints"][0]])
        return np.array([*(middle[:2] + _OFF_FACE * out[:2]), floor + under]), 0.02
    if "contain" in where:
        return np.array([*middle[:2], floor + under]), 0.012
    spot = middle[:2] + _share(view, name, where)
    surface = sample_object(view, owner, 0.01)
    beneath = surface[np.linalg.norm(surface[:, :2] - spot, axis=1) < _FOOT]
    rest = float(beneath[:, 2].max()) if len(beneath) else float(middle[2])
    return np.array([*spot, rest + under]), 0.008


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


def _into_basket(view: View, name: str, where: str, under: float) -> FloatArray:
    """Return where the object is dropped from: above a free spot of the basket, the hand at the rim."""
    site = view["sites"][where]
    owner = site["owner"]
    floor, rim = height_range(view, owner)
    inside = [
        thing["pos"][:2]
        for other, thing in view["objects"].items()
        if other != name
        and thing["movable"]
        and other != owner
        and np.all(np.abs(thing["pos"][:2] - site["pos"][:2]) < 0.08)
        and thing["pos"][2] < rim
    ]
    spot = site["pos"][:2]
    if inside:
        steps = [np.array([x, y]) for x in (-0.035, 0.0, 0.035) for y in (-0.035, 0.0, 0.035)]
        spot = max((spot + s for s in steps), key=lambda p: min(float(np.linalg.norm(p - q)) for q in inside))
    grip_over_thing = float(view["eef_pos"][2] - view["objects"][name]["pos"][2])
    height = max(floor + 0.02 + under, rim + 0.015 - grip_over_thing)
    return np.array([spot[0], spot[1], height])
