"""What the procedural look draws: solids of the table, the fingers and the floor, each with the picture on it.

Lengths are those of mees/calvin_env@797142c data/calvin_table_D/meshes after the scale of 0.8; what collides (`table`,
`robot`) was measured on the original's coarser convex parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rdvla_bench.envs.calvin.scenes import SceneSpec
from rdvla_bench.envs.calvin.solids import Patch, Solid, box, obj, prism, turned
from rdvla_bench.envs.calvin.table import BASE, Box, Cylinder, Prism, Shape, Sphere, shapes
from rdvla_bench.envs.calvin.textures import BIRCH, CHERRY, OAK, WALNUT, Pixels, Wood, checkerboard, wood

Woods = tuple[Wood, Wood]  # of the table; of door and drawer

WOODS: Mapping[str, Woods] = {  # data/calvin_table_*/meshes/*.mtl
    "A": (WALNUT, WALNUT),
    "B": (BIRCH, BIRCH),
    "C": (CHERRY, WALNUT),
    "D": (OAK, OAK),
}
_PICTURE_M = (0.72, 0.48)  # what one picture of wood covers
_LEVER: tuple[Shape, ...] = (
    Box((-0.06, 0.06), (0.044, 0.064), (-0.024, 0.008)),
    Box((0.04, 0.06), (0.0, 0.044), (-0.024, 0.008)),
    Box((-0.06, -0.04), (0.0, 0.044), (-0.024, 0.008)),
)
_DOOR: tuple[Shape, ...] = (Box((0.0, 0.28), (-0.11, 0.11), (0.0, 0.02)),)
_DOOR_HANDLE: tuple[Shape, ...] = (
    Box((0.12, 0.16), (-0.08, -0.056), (0.02, 0.056)),
    Box((0.12, 0.16), (0.056, 0.08), (0.02, 0.056)),
    Box((0.12, 0.16), (-0.08, 0.08), (0.056, 0.08)),
)
_DRAWER: tuple[Shape, ...] = (
    Box((-0.22, 0.22), (-0.02, 0.08), (0.16, 0.18)),
    Box((-0.2, 0.2), (0.0, 0.08), (-0.06, -0.04)),
    Box((0.18, 0.2), (0.0, 0.08), (-0.04, 0.16)),
    Box((-0.2, -0.18), (0.0, 0.08), (-0.04, 0.16)),
    Box((-0.18, 0.18), (0.0, 0.02), (-0.04, 0.16)),
)
_DRAWER_HANDLE: tuple[Shape, ...] = (
    Box((0.096, 0.12), (0.02, 0.06), (0.18, 0.24)),
    Box((-0.12, -0.096), (0.02, 0.06), (0.18, 0.24)),
    Box((-0.12, 0.12), (0.02, 0.06), (0.24, 0.26)),
)
"""What is seen of the moving parts (m, link frame): the boxes of collision stand for parts up to 1.2 mm larger."""
_WOODEN, _GREY = (0.0, 0.0, 0.88, 1.0), (0.92, 0.2, 0.97, 0.8)  # of door and drawer: parts of their picture
_HANDLE_GREY = 102  # of 255
_BULB_Y, _BULB_HEIGHT, _BULB_RADIUS = 0.16, 0.0216, 0.028  # m, world and link frame
_FINGER_X = (-0.009, 0.0105)
_FINGER = (
    # z, nearest and farthest y: a foot, a shaft that bends in, a tip that narrows
    (0.0002, 0.0027, 0.0285),
    (0.0048, 0.0028, 0.0262),
    (0.0052, 0.0125, 0.0267),
    (0.0175, 0.0126, 0.0267),
    (0.0345, 0.0098, 0.0173),
    (0.0370, 0.0035, 0.0160),
    (0.0500, 0.0035, 0.0147),
    (0.0540, 0.0035, 0.0117),
    (0.0964, 0.0035, 0.0042),
)
"""What is seen of a finger (m, finger frame), joined into a tube; what touches is the hull in `robot`."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """A mesh and the picture on it."""

    name: str  # of its files
    mesh: str  # OBJ; it names <name>.mtl where there is a picture
    pixels: Pixels | None = None


def part(scene: SceneSpec, link: str, woods: Woods | None = None) -> Drawing:
    """Draw one link of a table, in other ``woods`` than its scene's if they are given."""
    table_wood, door_wood = woods or WOODS[scene.name]
    nominal = shapes(scene, link)
    if link in (BASE, "plank_link"):
        return Drawing(link, _wooden(link, map(_solid, nominal)), _board(table_wood))
    if link in ("slide_link", "drawer_link"):
        wooden, grey = (_DOOR, _DOOR_HANDLE) if link == "slide_link" else (_DRAWER, _DRAWER_HANDLE)
        solids = [_solid(shape, _WOODEN) for shape in wooden] + [_solid(shape, _GREY) for shape in grey]
        return Drawing(link, _wooden(link, solids), _board_and_grey(door_wood))
    if link == "light_link":  # the ball stands above the middle of the cupboard's roof in every scene
        nominal = (Sphere((0.0, _BULB_HEIGHT, scene.bulb[1] - _BULB_Y), _BULB_RADIUS),)
    return Drawing(link, obj(map(_solid, _LEVER if link == "switch_link" else nominal)))


def floor(greys: tuple[int, int] = (255, 222)) -> Drawing:
    """Draw the floor in two greys: 30 m a side, a square of the checkerboard is 0.5 m wide (data/plane/plane.obj)."""
    corners = "v 15 -15 0\nv 15 15 0\nv -15 15 0\nv -15 -15 0\nvt 15 0\nvt 15 15\nvt 0 15\nvt 0 0\n"
    mesh = f"mtllib floor.mtl\nusemtl paint\n{corners}f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
    return Drawing("floor", mesh, checkerboard(colours=greys))


def finger() -> Drawing:
    """Draw the left finger."""
    corners = []
    left, right = _FINGER_X
    for z, near, far in _FINGER:
        corners += [(left, near, z), (right, near, z), (right, far, z), (left, far, z)]
    n = len(corners)
    sides = [(a + i, a + (i + 1) % 4, a + (i + 1) % 4 + 4, a + i + 4) for a in range(0, n - 4, 4) for i in range(4)]
    tube = Solid(np.array(corners), ((3, 2, 1, 0), *sides, (n - 4, n - 3, n - 2, n - 1)))
    return Drawing("finger", obj([tube]))


def _wooden(link: str, solids: Iterable[Solid]) -> str:
    return obj(solids, texture_m=_PICTURE_M, library=f"{link}.mtl")


@lru_cache(maxsize=8)
def _board(kind: Wood) -> Pixels:
    return wood(kind)


def _board_and_grey(kind: Wood) -> Pixels:
    """Return a board with a strip of the handles' grey at its right end."""
    board = _board(kind)
    strip = np.full((board.shape[0], board.shape[1] // 8, 3), _HANDLE_GREY, np.uint8)
    return np.concatenate([board, strip], axis=1)


def _solid(shape: Shape, patch: Patch | None = None) -> Solid:
    if isinstance(shape, Prism):
        return prism(shape.yz, shape.x, 0, patch)
    if isinstance(shape, Cylinder):
        low, high = shape.y
        return turned([(shape.radius, low), (shape.radius, high)], axis=1)
    if isinstance(shape, Sphere):
        return _ball(shape)
    upright = box(shape.x, shape.y, shape.z, patch)
    if not shape.yaw:
        return upright
    cos, sin, centre = np.cos(shape.yaw), np.sin(shape.yaw), np.array(shape.centre)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return Solid((upright.vertices - centre) @ turn.T + centre, upright.faces, patch)


def _ball(shape: Sphere) -> Solid:
    steps = np.linspace(-0.5, 0.5, 15)[1:-1] * np.pi
    upright = turned([(shape.radius * np.cos(a), shape.radius * np.sin(a)) for a in steps], axis=1)
    return Solid(upright.vertices + np.array(shape.centre), upright.faces)
