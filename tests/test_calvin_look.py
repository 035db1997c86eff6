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

from tiny_calvin_assets import write_assets

from rdvla_bench.envs.calvin.bullet import pybullet
from rdvla_bench.envs.calvin.look import BLOCK_COLOURS, PROCEDURAL, OriginalAssets, varied
from rdvla_bench.envs.calvin.renderer import Renderer
from rdvla_bench.envs.calvin.scenes import SCENES
from rdvla_bench.envs.calvin.snapshot import TABLE
from rdvla_bench.envs.calvin.solids import Solid, box, prism, turned
from rdvla_bench.envs.calvin.table import BASE, LINKS
from rdvla_bench.envs.calvin.textures import BIRCH, CHERRY, OAK, WALNUT, png, wood
from rdvla_bench.envs.calvin.upstream import UpstreamWorld
from rdvla_bench.envs.calvin.visual import Variation
from rdvla_bench.envs.calvin.world import World
from rdvla_bench.errors import UsageError

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


def test_a_varied_look_is_a_function_of_its_seed_in_every_process():
    here = [varied(seed).sha256(SCENES["A"]) for seed in (0, 1, 2**31 - 1)]
    assert len({*here, PROCEDURAL.sha256(SCENES["A"])}) == 4
    assert varied(1).sha256(SCENES["A"]) == here[1]
    asked = (
        "from rdvla_bench.envs.calvin.look import varied\n"
        "from rdvla_bench.envs.calvin.scenes import SCENES\n"
        "print(*(varied(seed).sha256(SCENES['A']) for seed in (2**31 - 1, 1, 0)))"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == here[::-1]


RECORDED_LOOKS = {(0, "A"): "5361257a16b7", (1, "B"): "82bd9cb78f3b", (7, "C"): "dac4a8800743"}
# numpy 2.4.6; a change means that demonstrations recorded before it show other woods than their seed does now


@pytest.mark.parametrize(("seed", "scene"), RECORDED_LOOKS)
def test_varied_looks_are_the_recorded_ones(seed: int, scene: str):
    assert varied(seed).sha256(SCENES[scene]).startswith(RECORDED_LOOKS[seed, scene])


@pytest.fixture
def changing():
    world = World("A", PROCEDURAL)
    yield world
    world.close()


def shapes_and_colours(world: World) -> dict[tuple[int, int], tuple[object, ...]]:
    """Kind, size, place and colour of everything that is visible."""
    found = {}
    for body in range(pybullet.getNumBodies(physicsClientId=world.client)):
        for _, link, kind, size, _, place, turn, rgba in pybullet.getVisualShapeData(
            body, physicsClientId=world.client
        ):
            found[body, link] = (kind, size, place, turn, rgba)
    return found


def test_a_varied_look_changes_woods_floor_and_switch_alone(changing: World):
    robot_obs, scene_obs = start()
    scene_obs[4:6] = 1.0  # both lights on
    changing.reset(robot_obs, scene_obs)
    plain, plain_meshes = shapes_and_colours(changing), meshes(changing)
    changing.dress(varied(3))
    changing.reset(robot_obs, scene_obs)
    other = shapes_and_colours(changing)
    tinted = {-1, *(LINKS.index(link) for link in LINKS if link in ("plank_link", "slide_link", "drawer_link"))}
    tinted.add(LINKS.index("switch_link"))
    assert {place for place in plain if plain[place] != other[place]} == {(TABLE, link) for link in tinted}
    for place, (*shape, _) in plain.items():
        assert other[place][:4] == tuple(shape), place
    for block, body in zip(changing.scene.blocks, changing.block_ids, strict=True):
        assert other[body, -1][4] == BLOCK_COLOURS[block.colour]
    assert meshes(changing) == plain_meshes


def test_a_button_drawn_elsewhere_takes_ring_and_led_along_and_changes_nothing_else(changing: World):
    eye, seen, ends, digests = Renderer(changing, "tiny"), [], [], []
    for look in (Variation(3), Variation(3, 0.25), Variation(3, changing.scene.button[0])):
        eye.vary(look)
        changing.reset(*start())
        seen.append(eye.render("static").astype(int))
        ends.append(changing.full_state().tobytes())
        digests.append(eye.appearance)
    assert len(set(ends)) == 1
    assert np.array_equal(seen[0], seen[2])
    assert digests[0] != digests[1]
    changed = np.abs(seen[0] - seen[1]).max(-1) > 8
    for half in (changed[:, :100], changed[:, 100:]):  # A's button stands at the left, its led above it
        places = half.nonzero()
        near = places[0] > 50
        for part in (near, ~near):
            assert 20 < part.sum() < 600
            assert all(np.ptp(axis[part]) < 50 for axis in places)
    black = [picture.max(-1) < 40 for picture in seen]
    assert (black[0] & changed)[:, :100].any()
    assert not (black[0] & changed)[:, 100:].any()
    assert not (black[1] & changed)[:, :100].any()
    assert (black[1] & changed)[:, 100:].any()


def test_a_drawer_drawn_elsewhere_takes_its_hole_along_and_changes_nothing_else(changing: World):
    eye, seen, ends, digests, drawn = Renderer(changing, "tiny"), [], [], [], []
    for look in (Variation(3), Variation(3, drawer=-0.15), Variation(3, drawer=changing.scene.drawer[0])):
        eye.vary(look)
        changing.reset(*start())
        seen.append(eye.render("static").astype(int))
        ends.append(changing.full_state().tobytes())
        digests.append(eye.appearance)
        drawn.append(meshes(changing))
    assert len(set(ends)) == 1
    assert drawn[0] == drawn[2]
    assert [name for name in drawn[0] if drawn[0][name] != drawn[1][name]] == ["base_link.obj"]  # where the hole is
    assert np.array_equal(seen[0], seen[2])
    assert digests[0] != digests[1]
    rows, columns = (np.abs(seen[0] - seen[1]).max(-1) > 8).nonzero()
    assert len(rows) > 500
    assert rows.min() > 120  # below the table's top
    handles = [
        columns[(picture[rows, columns].max(-1) < 90) & (np.ptp(picture[rows, columns], axis=-1) < 6)]
        for picture in seen
    ]
    assert min(map(len, handles)) > 100
    assert np.median(handles[1]) < np.median(handles[0]) - 30


def meshes(world: World) -> dict[str, bytes]:
    """What the files of the table's and the floor's shapes hold."""
    shown = [
        data[4]
        for body in range(pybullet.getNumBodies(physicsClientId=world.client))
        for data in pybullet.getVisualShapeData(body, physicsClientId=world.client)
    ]
    paths = [Path(mesh.decode()) for mesh in shown if mesh]
    return {path.name: path.read_bytes() for path in paths if path.parent.name == "seen"}


def test_physics_does_not_know_the_look(changing: World):
    actions = np.random.default_rng(0).uniform(-1, 1, (12, 7))
    actions[:, 6] = np.where(actions[:, 6] > 0, 1.0, -1.0)
    ends = []
    for look in (PROCEDURAL, varied(3), varied(4), PROCEDURAL):
        changing.dress(look)
        changing.reset(*start())
        for action in actions:
            changing.step(action)
        ends.append(changing.full_state().tobytes())
    assert len(set(ends)) == 1


def test_a_varied_look_has_the_same_pixels_whatever_was_shown_before(changing: World):
    eye, seen = Renderer(changing, "tiny"), []
    for look in (None, 5, 6, 5, 5, None):
        eye.vary(None if look is None else Variation(look))
        changing.reset(*start())
        seen.append(eye.render("static").tobytes() + eye.render("gripper").tobytes())
    assert seen[0] == seen[5]
    assert seen[1] == seen[3] == seen[4]
    assert len(set(seen)) == 3


def test_files_of_looks_do_not_pile_up(changing: World):
    eye, root = Renderer(changing, "tiny"), Path(changing._folder.name)
    own = {path for path in root.rglob("*") if path.is_file()}
    for look in range(4):
        eye.vary(Variation(look))
        changing.reset(*start())
        eye.render("static")
        assert len([path for path in root.iterdir() if path.name.startswith("look-")]) == 1
    eye.vary(None)
    assert {path for path in root.rglob("*") if path.is_file()} == own


def test_the_originals_look_does_not_vary(tmp_path: Path):
    world = World("A", OriginalAssets(write_assets(tmp_path)))
    eye = Renderer(world, "tiny")
    eye.vary(None)
    with pytest.raises(UsageError, match="the original look does not vary: take calvin/procedural@1"):
        eye.vary(Variation(0))
    world.close()
    upstream = UpstreamWorld.__new__(UpstreamWorld)  # no checkout is needed to refuse
    upstream.vary(None)
    with pytest.raises(UsageError, match="backend 'upstream' shows the original's look, which does not vary"):
        upstream.vary(Variation(0))


def test_a_world_without_a_look_cannot_be_dressed():
    blind = World("A")
    with pytest.raises(UsageError, match="made without a look"):
        blind.dress(varied(0))
    blind.close()


def test_links_that_no_look_knows_show_nothing(tmp_path: Path):
    assert PROCEDURAL.urdf(SCENES["D"], "robot", "tcp", tmp_path) == ""
    assert PROCEDURAL.urdf(SCENES["D"], "table", BASE, tmp_path) != ""
