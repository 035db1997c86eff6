"""Claims about the procedural look: it shows every part, it resembles the original, it is the same everywhere."""

from __future__ import annotations

import subprocess
import sys
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pybullet")

from rdvla_bench.envs.calvin.bullet import pybullet
from rdvla_bench.envs.calvin.look import PROCEDURAL
from rdvla_bench.envs.calvin.renderer import Renderer
from rdvla_bench.envs.calvin.scenes import SCENES
from rdvla_bench.envs.calvin.snapshot import TABLE
from rdvla_bench.envs.calvin.solids import Solid, box, prism, turned
from rdvla_bench.envs.calvin.table import BASE, LINKS
from rdvla_bench.envs.calvin.textures import BIRCH, CHERRY, OAK, WALNUT, png, wood
from rdvla_bench.envs.calvin.world import World

RECORDED = Path(__file__).parent / "data" / "calvin" / "original_static.npz"
# start of a golden recording put into each table of mees/calvin_env@797142c, TinyRenderer, two pixels by two averaged


def half_size(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(100, 2, 100, 2, 3).mean(axis=(1, 3))


@pytest.fixture(scope="module", params=sorted(SCENES))
def world(request: pytest.FixtureRequest):
    world = World(request.param, PROCEDURAL)
    yield world
    world.close()


def start() -> tuple[np.ndarray, np.ndarray]:
    with np.load(RECORDED) as recorded:
        return recorded["robot_obs"], recorded["scene_obs"]


def test_each_scene_resembles_the_original_more_than_any_other_scene_does(world: World):
    world.reset(*start())
    seen = half_size(Renderer(world, "tiny").render("static"))
    with np.load(RECORDED) as recorded:
        distance = {name: np.abs(seen - recorded[f"static_{name}"]).mean() for name in SCENES}
    own = distance.pop(world.scene.name)
    assert own < 6.0  # of 255; 3 to 5 when recorded
    assert own < min(distance.values()) / 2


@pytest.mark.parametrize(("place", "part", "is_on"), [(4, "bulb", (1, 1, 0)), (5, "led", (0, 1, 0))])
def test_a_light_that_is_on_is_seen_in_its_colour(world: World, place: int, part: str, is_on: tuple[int, ...]):
    robot_obs, scene_obs = start()
    shown = []
    for value in (0.0, 1.0):
        scene_obs[place] = value
        world.reset(robot_obs, scene_obs)
        shown.append(Renderer(world, "tiny").render("static").astype(int))
    changed = shown[1][(shown[0] != shown[1]).any(axis=-1)]
    assert len(changed) > 50, f"the {part} is too small to be seen"
    assert (changed[:, np.array(is_on) == 0] == 0).all()
    assert (changed[:, np.array(is_on) == 1] > 60).all()


def test_blocks_are_seen_in_their_colours(world: World):
    robot_obs, scene_obs = start()
    for i, x in enumerate((0.05, 0.15, 0.25)):
        scene_obs[6 + 6 * i : 12 + 6 * i] = x, -0.08, 0.46, 0, 0, 0
    world.reset(robot_obs, scene_obs)
    pixels = Renderer(world, "tiny").render("static").astype(int)
    red, green, blue = np.moveaxis(pixels, -1, 0)
    for is_block in (
        (red > 100) & (green + blue == 0),
        (blue > 100) & (red + green == 0),
        (red > 100) & (green == 0) & (red == blue),
    ):
        assert is_block.sum() > 80


@pytest.mark.parametrize("joint", [0, 1])
def test_an_open_door_or_drawer_is_seen(world: World, joint: int):
    robot_obs, scene_obs = start()
    pictures = []
    for position in (0.0, 0.2):
        scene_obs[joint] = position
        world.reset(robot_obs, scene_obs)
        pictures.append(Renderer(world, "tiny").render("static"))
    assert (pictures[0] != pictures[1]).any(axis=-1).sum() > 800


def test_every_link_of_the_table_shows_something(world: World):
    shown = {data[1]: data[4] for data in pybullet.getVisualShapeData(TABLE, physicsClientId=world.client)}
    assert set(shown) == {-1, *range(len(LINKS))}
    assert all(Path(mesh.decode()).parent.name == "seen" for mesh in shown.values())


def test_the_digest_tells_the_scenes_apart_and_is_the_same_in_another_process():
    here = {name: PROCEDURAL.sha256(scene) for name, scene in SCENES.items()}
    assert len(set(here.values())) == len(SCENES)
    asked = (
        "from rdvla_bench.envs.calvin.look import PROCEDURAL\n"
        "from rdvla_bench.envs.calvin.scenes import SCENES\n"
        "print(*(PROCEDURAL.sha256(scene) for scene in SCENES.values()))"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(here.values())


def test_woods_differ_in_tone_and_are_drawn_the_same_again():
    tones = [wood(kind).mean() for kind in (WALNUT, CHERRY, OAK, BIRCH)]
    assert np.diff(tones).min() > 2
    np.testing.assert_array_equal(wood(OAK), wood(OAK))


def test_png_keeps_every_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    packed = png(pixels).partition(b"IDAT")[2][:-16]  # the checksum, and the end
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(5, 1 + 21)
    np.testing.assert_array_equal(rows[:, 1:].reshape(5, 7, 3), pixels)


def volume(solid: Solid) -> float:
    """Signed: positive where faces look outwards."""
    total = 0.0
    for face in solid.faces:
        first, *rest = solid.vertices[list(face)]
        total += sum(np.dot(first, np.cross(b, c)) for b, c in pairwise(rest)) / 6
    return total


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_faces_look_outwards_whichever_way_a_polygon_runs(axis: int):
    loop = [(0.0, 0.0), (2.0, 0.0), (0.0, 3.0)]
    for corners in (loop, loop[::-1]):
        assert volume(prism(corners, (1.0, 5.0), axis)) == pytest.approx(12.0)
    assert volume(box((-1, 1), (0, 2), (3, 6))) == pytest.approx(12.0)
    assert volume(turned([(1.0, -1.0), (1.0, 1.0)], axis, n=400)) == pytest.approx(2 * np.pi, rel=1e-3)


def test_links_that_no_look_knows_show_nothing(tmp_path: Path):
    assert PROCEDURAL.urdf(SCENES["D"], "robot", "tcp", tmp_path) == ""
    assert PROCEDURAL.urdf(SCENES["D"], "table", BASE, tmp_path) != ""
