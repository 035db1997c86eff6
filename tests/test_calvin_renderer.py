"""Claims about CALVIN's pictures: the same pixels everywhere, what is skipped, and what is said where EGL fails."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pybullet")

import pybullet_data
from tiny_calvin_assets import write_assets

from rdvla_bench.envs.calvin import culling, runtime
from rdvla_bench.envs.calvin.bullet import pybullet
from rdvla_bench.envs.calvin.cameras import CAMERAS
from rdvla_bench.envs.calvin.look import PROCEDURAL, OriginalAssets
from rdvla_bench.envs.calvin.renderer import Renderer
from rdvla_bench.envs.calvin.robot import LOWER_JOINTS, UPPER_JOINTS
from rdvla_bench.envs.calvin.world import World
from rdvla_bench.errors import NoRenderer, UnknownName

NEUTRAL = (-1.21779124, 1.03987629, 2.11978254, -2.34205014, -0.87015899, 1.64119093, 0.55344928)
DIED = "EGL device choice: -1 of 0.\nfailed to EGL with glad.\n"


def state(joints: tuple[float, ...] = NEUTRAL) -> tuple[np.ndarray, np.ndarray]:
    robot_obs, scene_obs = np.zeros(15), np.zeros(24)
    robot_obs[6], robot_obs[7:14] = 0.08, joints
    scene_obs[6:] = [0.05, -0.12, 0.46, 0, 0, 1.4, 0.23, -0.12, 0.46, 0, 0, 1.6, -0.24, 0.092, 0.461, 0, 0, 1.5]
    return robot_obs, scene_obs


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = World("D", PROCEDURAL)
    world.reset(*state())
    yield world
    world.close()


@pytest.fixture(autouse=True)
def _fresh_choice(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(runtime.VARIABLE, raising=False)
    runtime.egl_renderer.cache_clear()
    yield
    runtime.egl_renderer.cache_clear()


def probe_answers(monkeypatch: pytest.MonkeyPatch, code: int, said: str) -> list[object]:
    """Let the probe's process end like this; returns the calls of it."""
    calls: list[object] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, code, said, "")

    monkeypatch.setattr(runtime.subprocess, "run", run)
    return calls


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=lambda camera: camera.name)
def test_pictures_and_depth_have_the_shape_and_range_of_their_camera(world: World, camera):
    world.reset(*state())
    pixels, depth = Renderer(world, "tiny").rgbd(camera.name)
    assert pixels.shape == (camera.size, camera.size, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert depth.shape == (camera.size, camera.size)
    assert depth.dtype == np.float32
    assert camera.near < depth.min() < depth.max() <= camera.far


def test_depth_finds_the_table_top_where_it_is(world: World):
    world.reset(*state())
    renderer, camera = Renderer(world, "tiny"), CAMERAS["static"]
    view = np.reshape(renderer.view("static"), (4, 4)).T
    on_table = view @ [0.3, -0.1, 0.44, 1]
    column, row, _ = camera.intrinsics() @ (on_table[:3] * [1, -1, -1]) / -on_table[2]
    assert renderer.depth("static")[int(row), int(column)] == pytest.approx(-on_table[2], abs=0.005)


def test_a_picture_is_not_overwritten_by_the_next(world: World):
    renderer = Renderer(world, "tiny")
    world.reset(*state())
    first = renderer.render("static")
    kept = first.copy()
    world.reset(*state((0.5, *NEUTRAL[1:])))
    assert (renderer.render("static") != kept).any()
    np.testing.assert_array_equal(first, kept)


def test_hiding_what_no_camera_sees_changes_no_pixel(world: World, monkeypatch: pytest.MonkeyPatch):
    renderer, rng = Renderer(world, "tiny"), np.random.default_rng(0)
    n_hidden, find = [], culling.unseen
    for trial in range(12):
        world.reset(*state(NEUTRAL if not trial else tuple(rng.uniform(LOWER_JOINTS, UPPER_JOINTS))))
        for camera in CAMERAS:
            n_hidden.append(
                len(find(world.robot_id, renderer.view(camera), CAMERAS[camera].projection(), world.client))
            )
            sparing = renderer.rgbd(camera)
            with monkeypatch.context() as patch:
                patch.setattr(culling, "unseen", lambda *_: [])
                whole = renderer.rgbd(camera)
            np.testing.assert_array_equal(sparing[0], whole[0])
            np.testing.assert_array_equal(sparing[1], whole[1])
    assert np.mean(n_hidden) > 2, "hardly anything is ever hidden"


def test_a_hidden_link_gets_its_own_colour_back(world: World):
    world.reset(*state())
    link, green = 5, (0.2, 0.9, 0.3, 1.0)
    pybullet.changeVisualShape(world.robot_id, link, rgbaColor=green, physicsClientId=world.client)
    Renderer(world, "tiny").render("gripper")
    [colour] = [s[7] for s in pybullet.getVisualShapeData(world.robot_id, physicsClientId=world.client) if s[1] == link]
    assert colour == pytest.approx(green)


def test_only_meshes_that_were_measured_are_ever_hidden(tmp_path: Path):
    for look, links in ((PROCEDURAL, set(culling.BOUNDS)), (OriginalAssets(write_assets(tmp_path)), set())):
        shown = World("D", look)
        assert set(culling.hideable(shown.robot_id, shown.client)) == links
        shown.close()


def test_the_boxes_of_the_arm_hold_its_meshes():
    meshes = Path(pybullet_data.getDataPath()) / "franka_panda" / "meshes" / "visual"
    for link, (low, high) in culling.BOUNDS.items():
        lines = (meshes / ("hand.obj" if link == 8 else f"link{link + 1}.obj")).read_text().splitlines()
        corners = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], np.float64)
        assert (corners.min(axis=0) >= low).all()
        assert (corners.max(axis=0) <= high).all()
        assert np.abs(corners.min(axis=0) - low).max() < 0.0011, "the box is needlessly wide"


def test_another_process_draws_the_same_pixels(world: World):
    world.reset(*state())
    renderer = Renderer(world, "tiny")
    here = [hashlib.sha256(renderer.render(camera).tobytes()).hexdigest() for camera in CAMERAS]
    asked = (
        "import hashlib, numpy as np\n"
        "from rdvla_bench.envs.calvin.look import PROCEDURAL\n"
        "from rdvla_bench.envs.calvin.renderer import Renderer\n"
        "from rdvla_bench.envs.calvin.world import World\n"
        "world = World('D', PROCEDURAL)\n"
        f"world.reset(np.array({state()[0].tolist()}), np.array({state()[1].tolist()}))\n"
        "renderer = Renderer(world, 'tiny')\n"
        "renderer.render('gripper')\n"  # in another order too
        "print(*(hashlib.sha256(renderer.render(c).tobytes()).hexdigest() for c in ('static', 'gripper')))"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == here


def test_drawing_does_not_move_the_world(world: World):
    ends = []
    for is_drawn in (False, True):
        world.reset(*state())
        renderer = Renderer(world, "tiny")
        for _ in range(5):
            world.step(np.array([0.5, 0.2, -1, 0, 0, 0.3, -1.0]))
            if is_drawn:
                renderer.render("static")
                renderer.depth("gripper")
        ends.append(world.full_state().tobytes())
    assert ends[0] == ends[1]


def test_an_unknown_camera_is_answered_with_the_known_ones(world: World):
    with pytest.raises(UnknownName, match=r"no camera 'statik'. Did you mean 'static'"):
        Renderer(world, "tiny").render("statik")


def test_an_unknown_renderer_is_answered_with_the_known_ones(world: World, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UnknownName, match=r"no CALVIN renderer 'eg1'. Did you mean 'egl'"):
        Renderer(world, "eg1")
    monkeypatch.setenv(runtime.VARIABLE, "opengl")
    with pytest.raises(UnknownName, match="RDVLA_CALVIN_RENDERER is one of tiny, egl, auto"):
        runtime.describe()


def test_egl_that_kills_its_process_is_one_clear_error(world: World, monkeypatch: pytest.MonkeyPatch):
    probe_answers(monkeypatch, -6, DIED)
    with pytest.raises(NoRenderer, match=r"cannot work here \(failed to EGL with glad.\).*RDVLA_CALVIN_RENDERER=tiny"):
        Renderer(world, "egl")
    monkeypatch.setenv(runtime.VARIABLE, "egl")
    assert runtime.worker_env() == {}


def test_a_probe_that_dies_without_a_word_is_an_error_too(monkeypatch: pytest.MonkeyPatch):
    probe_answers(monkeypatch, -11, "GL_RENDERER=some driver\n")
    with pytest.raises(NoRenderer, match="its process ended with -11"):
        runtime.resolve("egl")


@pytest.mark.parametrize(
    ("code", "said", "chosen"),
    [
        (-6, DIED, "tiny"),
        (0, "GL_RENDERER=llvmpipe (LLVM 15.0.6, 256 bits)\ndrawn\n", "tiny"),
        (0, "GL_RENDERER=NVIDIA H100/PCIe/SSE2\ndrawn\n", "egl"),
    ],
)
def test_auto_takes_egl_only_where_a_gpu_draws(monkeypatch: pytest.MonkeyPatch, code: int, said: str, chosen: str):
    probe_answers(monkeypatch, code, said)
    assert runtime.resolve("auto") == chosen


def test_workers_are_handed_a_choice_that_needs_no_second_probe(monkeypatch: pytest.MonkeyPatch):
    calls = probe_answers(monkeypatch, 0, "GL_RENDERER=NVIDIA H100/PCIe/SSE2\ndrawn\n")
    monkeypatch.setenv(runtime.VARIABLE, "auto")
    for name, value in runtime.worker_env().items():
        monkeypatch.setenv(name, value)
    runtime.egl_renderer.cache_clear()
    assert runtime.resolve() == "egl"
    assert runtime.egl_renderer() == "NVIDIA H100/PCIe/SSE2"
    assert len(calls) == 1


def test_the_first_egl_picture_looks_like_all_others():
    try:
        runtime.egl_renderer()
    except NoRenderer as reason:
        pytest.skip(str(reason))
    asked = (
        "import hashlib, numpy as np\n"
        "from rdvla_bench.envs.calvin.look import PROCEDURAL\n"
        "from rdvla_bench.envs.calvin.renderer import Renderer\n"
        "from rdvla_bench.envs.calvin.world import World\n"
        "world = World('D', PROCEDURAL)\n"
        "renderer, drawn = Renderer(world, 'egl'), set()\n"
        "for order in (('static', 'gripper'), ('gripper', 'static'), ('static',)):\n"
        f"    world.reset(np.array({state()[0].tolist()}), np.array({state()[1].tolist()}))\n"
        "    drawn |= {(c, hashlib.sha256(renderer.render(c).tobytes()).hexdigest()) for c in order}\n"
        "print('pictures', len(drawn))"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert "pictures 2" in done.stdout


def test_tiny_is_the_default_and_asks_for_no_probe(monkeypatch: pytest.MonkeyPatch):
    calls = probe_answers(monkeypatch, -6, DIED)
    described = runtime.describe()
    assert (described["backend"], described["renderer"]) == ("tiny", "TinyRenderer")
    assert len(described["canary_sha256"]) == 64
    assert not calls
