"""The two looks: ``PROCEDURAL`` is drawn here, ``OriginalAssets`` shows the files of an original checkout.

Non-obvious:
    * The arm's meshes come with PyBullet and are the original's, byte for byte; fingers, table and woods do not.
    * Files are written once a folder: a world that is built again finds them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import pybullet_data

from rdvla_bench.envs.calvin import assets
from rdvla_bench.envs.calvin.robot import CAMERA_SIZE, GEL_CENTRE, GEL_SIZE
from rdvla_bench.envs.calvin.scenes import GLOBAL_SCALE, SceneSpec
from rdvla_bench.envs.calvin.solids import Patch, Solid, box, mtl, obj, prism, turned
from rdvla_bench.envs.calvin.table import BASE, LINKS, Box, Cylinder, Prism, Shape, Sphere, shapes
from rdvla_bench.envs.calvin.textures import BIRCH, CHERRY, OAK, WALNUT, Pixels, Wood, checkerboard, png, wood
from rdvla_bench.envs.calvin.visual import WHITE, Colour, Visual

BLACK: Colour = (0.0, 0.0, 0.0, 1.0)
GREY: Colour = (0.4, 0.4, 0.4, 1.0)  # calvin_table_D.urdf, switch_link
BLOCK_COLOURS: Mapping[str, Colour] = {
    "red": (1.0, 0.0, 0.0, 1.0),
    "blue": (0.0, 0.0, 1.0, 1.0),
    "pink": (1.0, 0.0, 1.0, 1.0),
}

_WOODS: Mapping[str, tuple[Wood, Wood]] = {  # table, door and drawer (data/calvin_table_*/meshes/*.mtl)
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
_ARM = {
    **{f"panda_link{i}": f"visual/link{i}.obj" for i in range(1, 7)},
    "panda_link0": "collision/link0.obj",
    "panda_link7": "collision/link7.obj",
    "panda_hand": "visual/hand.obj",
}


class Procedural:
    """Woods, table, fingers and floor drawn by arithmetic: needs nothing but PyBullet."""

    name = "procedural"

    def urdf(self, scene: SceneSpec, body: str, link: str, folder: Path) -> str:
        """Return the ``<visual>`` element of one link, and write its mesh and picture to ``folder``."""
        shown: Visual | None
        if body == "table":
            shown = self._table(scene, link, folder)
        elif body == "robot":
            shown = self._robot(link, folder)
        elif body == "plane":
            shown = Visual(_written(folder, "floor", {"floor.obj": _FLOOR, **_picture("floor", checkerboard())}))
        else:
            shown = _block(scene, body)
        return shown.urdf(f"{body}_{link}") if shown else ""

    def sha256(self, scene: SceneSpec) -> str:
        """Return the digest of all files that this look draws for ``scene``, and of the colours beside them."""
        digest = hashlib.sha256()
        for link in (BASE, *LINKS):
            drawn = _table_files(scene, link)
            digest.update(repr((link, _colour(link), sorted(drawn))).encode())
            for name in sorted(drawn):
                digest.update(_bytes(drawn[name]))
        for part in (obj([_finger()]), _FLOOR, checkerboard().tobytes(), repr((GEL_SIZE, CAMERA_SIZE, BLOCK_COLOURS))):
            digest.update(_bytes(part))
        return digest.hexdigest()

    def _table(self, scene: SceneSpec, link: str, folder: Path) -> Visual:
        return Visual(_written(folder, link, _table_files(scene, link)), rgba=_colour(link))

    def _robot(self, link: str, folder: Path) -> Visual | None:
        if link in _ARM:
            return Visual(Path(pybullet_data.getDataPath()) / "franka_panda" / "meshes" / _ARM[link])
        if link in ("panda_leftfinger", "panda_rightfinger"):
            turn = np.pi if link == "panda_rightfinger" else 0.0
            return Visual(_written(folder, "finger", {"finger.obj": obj([_finger()])}), rpy=(0.0, 0.0, turn))
        if link in ("finger_left_tip", "finger_right_tip"):
            return Visual(box=GEL_SIZE, xyz=GEL_CENTRE)
        return Visual(box=CAMERA_SIZE) if link == "gripper_cam" else None


PROCEDURAL = Procedural()


class OriginalAssets:
    """The pictures of an original calvin_env checkout, on our bodies."""

    name = "original"

    def __init__(self, path: str | Path) -> None:
        """Take a checkout's root or its ``data`` folder.

        Raises:
            BadAssets: there is no such folder. What is in it is checked for each scene, on first use.
        """
        self.data = assets.data_folder(path)
        self._tables: dict[str, assets.Links] = {}

    def urdf(self, scene: SceneSpec, body: str, link: str, folder: Path) -> str:
        """Return the ``<visual>`` elements that the original shows for one link.

        Raises:
            BadAssets: a file is missing, or another table goes by the scene's name.
        """
        del folder
        table = self._table(scene)
        if body.startswith("block_"):
            return _block(scene, body).urdf(body)
        links = {"table": table, "robot": self._robot, "plane": self._plane}[body]
        named = links.get(link, next(iter(links.values())) if body == "plane" else ())
        return "".join(visual.urdf(f"{body}_{link}_{i}") for i, visual in enumerate(named))

    def sha256(self, scene: SceneSpec) -> str:
        """Return the digest of names and contents of all files that show ``scene``."""
        links = (self._table(scene), self._robot, self._plane)
        used = [*(self.data / name for name in (assets.table(scene), assets.ROBOT)), *assets.files(links)]
        digest = hashlib.sha256()
        for file in used:
            digest.update(str(file.relative_to(self.data)).encode() + b"\0" + file.read_bytes())
        return digest.hexdigest()

    def _table(self, scene: SceneSpec) -> assets.Links:
        if scene.name not in self._tables:
            assets.check(self.data, scene)
            self._tables[scene.name] = assets.read(self.data, assets.table(scene), GLOBAL_SCALE)
        return self._tables[scene.name]

    @cached_property
    def _robot(self) -> assets.Links:
        return assets.read(self.data, assets.ROBOT)

    @cached_property
    def _plane(self) -> assets.Links:
        return assets.read(self.data, assets.PLANE)


def _block(scene: SceneSpec, body: str) -> Visual:
    [block] = [block for block in scene.blocks if f"block_{block.colour}" == body]
    return Visual(box=block.size, rgba=BLOCK_COLOURS[block.colour])


def _colour(link: str) -> Colour:
    return {"button_link": BLACK, "switch_link": GREY}.get(link, WHITE)


def _table_files(scene: SceneSpec, link: str) -> dict[str, str | bytes]:
    """Return file name -> content of a table link's mesh and picture."""
    nominal = shapes(scene, link)
    if link == "light_link":  # the ball stands above the middle of the cupboard's roof in every scene
        nominal = (Sphere((0.0, _BULB_HEIGHT, scene.bulb[1] - _BULB_Y), _BULB_RADIUS),)
    if link in (BASE, "plank_link"):
        painted = obj(map(_solid, nominal), texture_m=_PICTURE_M, library=f"{link}.mtl")
        return {f"{link}.obj": painted, **_picture(link, wood(_WOODS[scene.name][0]))}
    if link in ("slide_link", "drawer_link"):
        wooden, grey = (_DOOR, _DOOR_HANDLE) if link == "slide_link" else (_DRAWER, _DRAWER_HANDLE)
        solids = [_solid(part, _WOODEN) for part in wooden] + [_solid(part, _GREY) for part in grey]
        board = wood(_WOODS[scene.name][1])
        strip = np.full((board.shape[0], board.shape[1] // 8, 3), _HANDLE_GREY, np.uint8)
        painted = obj(solids, texture_m=_PICTURE_M, library=f"{link}.mtl")
        return {f"{link}.obj": painted, **_picture(link, np.concatenate([board, strip], axis=1))}
    return {f"{link}.obj": obj(map(_solid, _LEVER if link == "switch_link" else nominal))}


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


def _picture(name: str, pixels: Pixels) -> dict[str, str | bytes]:
    return {f"{name}.mtl": mtl(f"{name}.png"), f"{name}.png": png(pixels)}


def _written(folder: Path, name: str, contents: Mapping[str, str | bytes]) -> Path:
    """Write files that are not there yet; return the mesh among them."""
    seen = folder / "seen"  # apart from the meshes of collision
    seen.mkdir(exist_ok=True)
    for file, content in contents.items():
        if not (seen / file).exists():
            (seen / file).write_bytes(_bytes(content))
    return seen / f"{name}.obj"


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _finger() -> Solid:
    corners = []
    for z, near, far in _FINGER:
        left, right = _FINGER_X
        corners += [(left, near, z), (right, near, z), (right, far, z), (left, far, z)]
    n = len(corners)
    sides = [(a + i, a + (i + 1) % 4, a + (i + 1) % 4 + 4, a + i + 4) for a in range(0, n - 4, 4) for i in range(4)]
    return Solid(np.array(corners), ((3, 2, 1, 0), *sides, (n - 4, n - 3, n - 2, n - 1)))


_FLOOR = (
    "mtllib floor.mtl\nusemtl paint\nv 15 -15 0\nv 15 15 0\nv -15 15 0\nv -15 -15 0\n"
    "vt 15 0\nvt 15 15\nvt 0 15\nvt 0 0\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
)
"""30 m a side; a square of the checkerboard is 1 m wide (data/plane/plane.obj)."""
