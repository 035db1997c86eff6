"""Hides links of the arm that a camera cannot see: TinyRenderer spends its time on their 100,000 triangles.

No pixel changes: a link is hidden only while a box around its mesh lies wholly beyond one side of the view.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.envs.calvin.bullet import pybullet
from rdvla_bench.envs.calvin.cameras import Matrix
from rdvla_bench.envs.calvin.visual import Colour

_HAND = 8

BOUNDS = {
    0: ((-0.056, -0.130, -0.192), (0.056, 0.056, 0.056)),
    1: ((-0.056, -0.194, -0.056), (0.056, 0.056, 0.130)),
    2: ((-0.056, -0.056, -0.121), (0.138, 0.112, 0.056)),
    3: ((-0.138, -0.055, -0.055), (0.055, 0.124, 0.112)),
    4: ((-0.056, -0.055, -0.259), (0.055, 0.130, 0.053)),
    5: ((-0.048, -0.052, -0.044), (0.133, 0.082, 0.057)),
    _HAND: ((-0.032, -0.104, -0.026), (0.032, 0.101, 0.066)),
}
"""Link -> lowest and highest corner of its mesh (m, link frame): link1 .. link6 and the hand, 7,000 to 22,000 triangles
each. Measured on pybullet_data/franka_panda/meshes/visual, outwards to the millimetre; a test measures again."""

_SLACK = 0.005  # m around each box
_LINKS = tuple(BOUNDS)
_CHOICES = np.array(np.meshgrid((0, 1), (0, 1), (0, 1))).reshape(3, 8).T  # the eight corners


def _corners() -> NDArray[np.float64]:
    """Return (L, 8, 3)."""
    boxes = np.array([BOUNDS[link] for link in _LINKS]) + np.array([[-_SLACK], [_SLACK]])
    return np.asarray(boxes[:, _CHOICES, np.arange(3)], np.float64)


_CORNERS = _corners()


def unseen(robot: int, view: Matrix, projection: Matrix, client: int) -> list[int]:
    """Return the links of ``BOUNDS`` that lie wholly beyond the left, right, lower, upper or near side of a view."""
    states = pybullet.getLinkStates(robot, _LINKS, physicsClientId=client)
    turns = np.array([pybullet.getMatrixFromQuaternion(state[5]) for state in states]).reshape(-1, 3, 3)
    places = np.array([state[4] for state in states])
    world = np.einsum("lij,lkj->lki", turns, _CORNERS) + places[:, None]
    clip = np.reshape(projection, (4, 4)).T @ np.reshape(view, (4, 4)).T  # given column by column
    x, y, z, w = np.moveaxis(world @ clip[:, :3].T + clip[:, 3], -1, 0)
    beyond = (x < -w, x > w, y < -w, y > w, z < -w)
    is_unseen = np.any([side.all(axis=1) for side in beyond], axis=0)
    return [link for link, hidden in zip(_LINKS, is_unseen, strict=True) if hidden]


def hideable(robot: int, client: int) -> dict[int, Colour]:
    """Return the links of ``BOUNDS`` that show the one mesh that was measured, with its colour."""
    shown: dict[int, list[tuple[str, Colour]]] = {}
    for shape in pybullet.getVisualShapeData(robot, physicsClientId=client):
        shown.setdefault(shape[1], []).append(("/".join(PurePath(shape[4].decode()).parts[-2:]), shape[7]))
    single = {link: shapes[0] for link, shapes in shown.items() if link in BOUNDS and len(shapes) == 1}
    return {link: colour for link, (mesh, colour) in single.items() if mesh == _mesh(link)}


def _mesh(link: int) -> str:
    return "visual/hand.obj" if link == _HAND else f"visual/link{link + 1}.obj"


@contextmanager
def hidden(robot: int, links: Mapping[int, Colour], client: int) -> Iterator[None]:
    """Leave links out of the pictures drawn inside the block; they get back the colours given here."""
    for link, (red, green, blue, _) in links.items():
        pybullet.changeVisualShape(robot, link, rgbaColor=(red, green, blue, 0), physicsClientId=client)
    try:
        yield
    finally:
        for link, colour in links.items():
            pybullet.changeVisualShape(robot, link, rgbaColor=colour, physicsClientId=client)
