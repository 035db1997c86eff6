"""Rotations, and boxes sampled as points: the geometry that grasps and clearances are planned with.

Frames: every rotation is a (3, 3) matrix whose columns are the axes of the rotated frame in the world. The grip
frame sits between the finger tips; its z axis points out of the hand and the fingers open along its x axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
View = Mapping[str, Any]  # the dictionary described in rdvla_bench/envs/libero/privileged.py


def rotation_vector(mat: FloatArray) -> FloatArray:
    """Return axis times angle (3,) of a rotation; at half a turn, where the axis has two signs, either of them."""
    skew = np.array([mat[2, 1] - mat[1, 2], mat[0, 2] - mat[2, 0], mat[1, 0] - mat[0, 1]])
    sine, cosine = float(np.linalg.norm(skew)) / 2, (float(np.trace(mat)) - 1) / 2
    angle = float(np.arctan2(sine, cosine))
    if sine > 1e-6:
        return skew * (angle / (2 * sine))
    if cosine > 0:
        return skew / 2
    axis = np.sqrt(np.clip((np.diag(mat) + 1) / 2, 0, None))
    lead = int(np.argmax(axis))
    signs = np.where(mat[lead] + mat[:, lead] < 0, -1.0, 1.0)
    half_turn: FloatArray = np.pi * axis * signs
    return half_turn


def turn(axis: FloatArray, angle: float) -> FloatArray:
    """Return the rotation by ``angle`` about the unit vector ``axis`` (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    mat: FloatArray = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return mat


def yaw(angle: float) -> FloatArray:
    """Return the rotation by ``angle`` about the world's vertical."""
    return turn(np.array([0.0, 0.0, 1.0]), angle)


def grip_down(angle: float) -> FloatArray:
    """Return the grip frame that points straight down and opens along the horizontal direction ``angle``."""
    return grip_along(np.array([0.0, 0.0, -1.0]), np.array([np.cos(angle), np.sin(angle), 0.0]))


def grip_along(approach: FloatArray, opening: FloatArray) -> FloatArray:
    """Return the grip frame that points along ``approach`` and opens along the part of ``opening`` normal to it."""
    z = approach / np.linalg.norm(approach)
    x = opening - z * float(z @ opening)
    x = x / np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


HOME = grip_down(np.pi / 2)


def nearest_grip(mat: FloatArray, near: FloatArray | None = None) -> FloatArray:
    """Return ``mat`` or the same grasp with the fingers swapped, whichever is the smaller turn away from ``near``.

    ``near`` is by default the grip an episode starts with, from which a quarter turn either way stays inside the
    limits of the last joint.
    """
    near = HOME if near is None else near
    swapped = mat * np.array([-1.0, -1.0, 1.0])
    turns = [float(np.linalg.norm(rotation_vector(m @ near.T))) for m in (mat, swapped)]
    return mat if turns[0] <= turns[1] + 1e-9 else swapped


def sample_part(part: Mapping[str, Any], spacing: float) -> FloatArray:
    """Return points (N, 3), world frame, that fill the boxes of one part no further apart than ``spacing``."""
    clouds = [np.zeros((0, 3))]
    for center, mat, half in zip(part["centers"], part["mats"], part["halves"], strict=True):
        axes = [np.linspace(-h, h, max(2, int(np.ceil(2 * h / spacing)) + 1)) for h in half]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        clouds.append(grid @ mat.T + center)
    points: FloatArray = np.concatenate(clouds) @ part["mat"].T + part["pos"]
    return points


def sample_object(view: View, name: str, spacing: float) -> FloatArray:
    """Return points (N, 3) that fill the collision boxes of one object."""
    parts = [p for p in view["parts"].values() if p["owner"] == name]
    return np.concatenate([sample_part(p, spacing) for p in parts])


def sample_others(view: View, but: Iterable[str], spacing: float) -> FloatArray:
    """Return points (N, 3) that fill every object except those named."""
    skip = set(but)
    clouds = [sample_part(p, spacing) for p in view["parts"].values() if p["owner"] not in skip]
    return np.concatenate([np.zeros((0, 3)), *clouds])


def height_range(view: View, name: str) -> tuple[float, float]:
    """Return the lowest and highest z of an object's collision boxes."""
    low, high = np.inf, -np.inf
    for part in view["parts"].values():
        if part["owner"] == name and len(part["centers"]):
            middle = part["pos"][2] + part["centers"] @ part["mat"][2]
            reach = np.einsum("nk,nk->n", np.abs(np.einsum("j,njk->nk", part["mat"][2], part["mats"])), part["halves"])
            low, high = min(low, float(np.min(middle - reach))), max(high, float(np.max(middle + reach)))
    return low, high
