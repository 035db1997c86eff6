"""The looks: ``PROCEDURAL`` is drawn here, ``OriginalAssets`` shows the files of an original checkout.

``varied(seed)`` is the procedural one in woods, greys and shades of its own, for training alone.

Non-obvious:
    * The arm's meshes come with PyBullet and are the original's, byte for byte; fingers, table and woods do not.
    * Files are written once a folder: a world that is built again finds them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pybullet_data
from numpy.typing import NDArray

from rdvla_bench.envs.calvin import assets
from rdvla_bench.envs.calvin.drawn import WOODS, Drawing, Woods, finger, floor, part
from rdvla_bench.envs.calvin.robot import CAMERA_SIZE, GEL_CENTRE, GEL_SIZE
from rdvla_bench.envs.calvin.scenes import GLOBAL_SCALE, SceneSpec
from rdvla_bench.envs.calvin.solids import mtl
from rdvla_bench.envs.calvin.table import BASE, LINKS
from rdvla_bench.envs.calvin.textures import Wood, png
from rdvla_bench.envs.calvin.visual import WHITE, Colour, Visual
from rdvla_bench.seeding import generator

BLACK: Colour = (0.0, 0.0, 0.0, 1.0)
GREY: Colour = (0.4, 0.4, 0.4, 1.0)  # calvin_table_D.urdf, switch_link
BLOCK_COLOURS: Mapping[str, Colour] = {
    "red": (1.0, 0.0, 0.0, 1.0),
    "blue": (0.0, 0.0, 1.0, 1.0),
    "pink": (1.0, 0.0, 1.0, 1.0),
}

_SEEN = ("A", "B", "C")  # scenes of the demonstrations
_TINTED = (BASE, "plank_link", "slide_link", "drawer_link")
_ARM = {
    **{f"panda_link{i}": f"visual/link{i}.obj" for i in range(1, 7)},
    "panda_link0": "collision/link0.obj",
    "panda_link7": "collision/link7.obj",
    "panda_hand": "visual/hand.obj",
}


@dataclass(frozen=True)
class Paint:
    """What of the procedural look may differ between worlds: no shape, and no colour that an instruction names.

    What is drawn elsewhere is for chains that never touch it: in three tables its place would tell the door's.
    """

    woods: Woods | None = None  # None: the scene's own
    floor: tuple[int, int] = (255, 222)  # greys of 255
    switch: Colour = GREY
    tint: Colour = WHITE  # by which the table's woods are multiplied
    button: float | None = None  # m, x at which button, ring and led are drawn, wherever they are; None: where they are
    drawer: float | None = None  # m, the same of the drawer and the hole that it runs in


class Procedural:
    """Woods, table, fingers and floor drawn by arithmetic: needs nothing but PyBullet."""

    name = "procedural"

    def __init__(self, paint: Paint | None = None) -> None:
        """Take other paint than the scenes' own, if it is given."""
        self._paint = paint or Paint()

    def urdf(self, scene: SceneSpec, body: str, link: str, folder: Path) -> str:
        """Return the ``<visual>`` element of one link, and write its mesh and picture to ``folder``."""
        shown: Visual | None
        if body == "table":
            shown = self._table(scene, link, folder)
        elif body == "robot":
            shown = self._robot(link, folder)
        elif body == "plane":
            shown = Visual(_saved(floor(self._paint.floor), folder))
        else:
            shown = _block(scene, body)
        return shown.urdf(f"{body}_{link}") if shown else ""

    def sha256(self, scene: SceneSpec) -> str:
        """Return the digest of all meshes and pictures that this look draws for ``scene``, and of its colours."""
        digest = hashlib.sha256(repr((BLOCK_COLOURS, GEL_CENTRE, GEL_SIZE, CAMERA_SIZE)).encode())
        shown = self._shown(scene)
        if shown is not scene:
            digest.update(repr((shown.button, shown.drawer)).encode())
        table = (part(shown, link, self._paint.woods) for link in (BASE, *LINKS))
        for drawing in (*table, finger(), floor(self._paint.floor)):
            digest.update(repr((drawing.name, self._colour(drawing.name), drawing.mesh)).encode())
            if drawing.pixels is not None:
                digest.update(drawing.pixels.tobytes())
        return digest.hexdigest()

    def _table(self, scene: SceneSpec, link: str, folder: Path) -> Visual:
        shown = self._shown(scene)
        button, drawer = shown.button[0] - scene.button[0], shown.drawer[0] - scene.drawer[0]
        aside = {"button_link": button, "led_link": button, "drawer_link": drawer}.get(link, 0.0)
        drawing = part(shown, link, self._paint.woods)
        return Visual(_saved(drawing, folder), rgba=self._colour(link), xyz=(aside, 0.0, 0.0))

    def _shown(self, scene: SceneSpec) -> SceneSpec:
        """Return the scene with its button and its drawer where they are drawn."""
        button, drawer = self._paint.button, self._paint.drawer
        if button is not None:
            scene = replace(scene, button=(button, *scene.button[1:]))
        if drawer is not None:
            low, high = (x + drawer - scene.drawer[0] for x in scene.drawer_cavity)
            scene = replace(scene, drawer=(drawer, *scene.drawer[1:]), drawer_cavity=(low, high))
        return scene

    def _colour(self, link: str) -> Colour:
        plain = {"button_link": BLACK, "switch_link": self._paint.switch}
        return plain.get(link, self._paint.tint if link in _TINTED else WHITE)

    def _robot(self, link: str, folder: Path) -> Visual | None:
        if link in _ARM:
            return Visual(Path(pybullet_data.getDataPath()) / "franka_panda" / "meshes" / _ARM[link])
        if link in ("panda_leftfinger", "panda_rightfinger"):
            turn = math.pi if link == "panda_rightfinger" else 0.0
            return Visual(_saved(finger(), folder), rpy=(0.0, 0.0, turn))
        if link in ("finger_left_tip", "finger_right_tip"):
            return Visual(box=GEL_SIZE, xyz=GEL_CENTRE)
        return Visual(box=CAMERA_SIZE) if link == "gripper_cam" else None


PROCEDURAL = Procedural()


def _rgb(colour: NDArray[np.float64]) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in colour)
    return red, green, blue


def varied(seed: int, button: float | None = None, drawer: float | None = None) -> Procedural:
    """Return the procedural look in paint of its own, a function of ``seed``; no evaluation shows it.

    Woods: any mix of the light tones of scenes A, B and C (not D's, which only evaluations show), with more or less
    red, green and blue (0.75 to 1.2), late wood half to nine tenths as bright, 8 to 22 rings; half of the doors have
    the table's. The light on the table, and the floor's lighter grey: 0.75 to 1 of what they are. Its darker grey: 20
    to 49 of 255 less. The switch: 0.3 to 0.5. With ``button`` and ``drawer`` they are drawn at this x (m).
    """
    rng = generator("calvin-varied-look", seed)
    known = np.array([WOODS[scene][0].light for scene in _SEEN], np.float64)

    def wood() -> Wood:
        light = np.clip(rng.dirichlet(np.ones(len(known))) @ known * rng.uniform(0.75, 1.2, 3), 0, 255)
        dark = light * rng.uniform(0.5, 0.9)
        return Wood(_rgb(light), _rgb(dark), float(rng.integers(8, 23)), int(rng.integers(2**31)))

    table = wood()
    door = table if rng.random() < 0.5 else wood()
    high = int(rng.integers(191, 256))
    low, grey, shade = high - int(rng.integers(20, 50)), rng.uniform(0.3, 0.5), rng.uniform(0.75, 1.0)
    switch, tint = (grey, grey, grey, 1.0), (shade, shade, shade, 1.0)
    return Procedural(Paint((table, door), (high, low), switch, tint, button, drawer))


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


def _saved(drawing: Drawing, folder: Path) -> Path:
    """Write a drawing's files where they are not there yet; return its mesh."""
    seen = folder / "seen"  # apart from the meshes of collision
    seen.mkdir(exist_ok=True)
    mesh = seen / f"{drawing.name}.obj"
    if not mesh.exists():
        mesh.write_text(drawing.mesh)
        if drawing.pixels is not None:
            mesh.with_suffix(".mtl").write_text(mtl(f"{drawing.name}.png"))
            mesh.with_suffix(".png").write_bytes(png(drawing.pixels))
    return mesh
