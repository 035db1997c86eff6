"""Claims about how a scene starts: D's starts are the original's, those of A, B and C have the same meaning."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from rdvla_bench.envs.calvin.scenes import SCENES
from rdvla_bench.envs.calvin.sequences import chains
from rdvla_bench.envs.calvin.starts import (
    FIRST_POSE,
    LED,
    LIGHTBULB,
    SLIDE,
    SWITCH,
    fnv1_32,
    initial_state,
    random_start,
    seed_of,
    touch,
)
from rdvla_bench.errors import UnknownName

STARTS_SHA256 = "977a419f9461331c808322cdd91a0ac05ad6409a5d6e069a30dcbfe92352de47"
"""Over the 1000 starts of D to nine decimals; each was equal to what mees/calvin@fa03f01's own function returns."""

scenes = pytest.mark.parametrize("scene", SCENES)


def pose(scene_obs: np.ndarray, scene: str, colour: str) -> np.ndarray:
    i = FIRST_POSE + 6 * [block.colour for block in SCENES[scene].blocks].index(colour)
    return scene_obs[i : i + 6]


def test_the_hash_starts_from_zero() -> None:
    assert fnv1_32(b"hello world") == 2805756500
    assert fnv1_32("hello world".encode("utf-16-le")) == 3799943344


@pytest.mark.parametrize(
    ("chain", "seed", "on_slot_0", "slot_0_x", "yaws"),
    [
        (0, 2138410836, "blue", 0.229995, (1.885941, 1.488143, 1.468399)),
        (1, 2685153213, "blue", 0.229995, (1.826834, 1.507642, 1.646196)),
        (2, 4009425464, "red", 0.05, (1.491214, 1.610703, 1.545227)),
        (3, 3308447781, "blue", 0.05, (1.334834, 1.946858, 1.373666)),
        (4, 463990668, "blue", 0.229995, (1.423539, 1.230991, 1.526008)),
    ],
)
def test_the_first_starts_are_the_published_ones(
    chain: int, seed: int, on_slot_0: str, slot_0_x: float, yaws: tuple[float, float, float]
) -> None:
    state = chains()[chain].state
    assert seed_of(state) == seed
    _, scene_obs = initial_state(state)
    assert pose(scene_obs, "D", on_slot_0)[0] == pytest.approx(slot_0_x, abs=1e-5)
    np.testing.assert_allclose([pose(scene_obs, "D", c)[5] for c in ("red", "blue", "pink")], yaws, atol=1e-6)


def test_all_starts_of_d_are_the_originals() -> None:
    rows = (np.concatenate(initial_state(chain.state)) for chain in chains())
    text = "\n".join(" ".join(f"{value:.9f}" for value in row) for row in rows)
    assert hashlib.sha256(text.encode()).hexdigest() == STARTS_SHA256


@scenes
def test_a_start_shows_what_its_state_says(scene: str) -> None:
    spec = SCENES[scene]
    for chain in chains()[::25]:
        robot_obs, scene_obs = initial_state(chain.state, scene)
        assert (robot_obs.shape, scene_obs.shape) == ((15,), (24,))
        assert scene_obs[SLIDE] == (spec.slide_range[1] if chain.state.slider == "left" else 0)
        assert (scene_obs[LIGHTBULB], scene_obs[LED]) == (chain.state.lightbulb, chain.state.led)
        assert (scene_obs[SWITCH] > 0) == bool(chain.state.lightbulb)
        for colour in ("red", "blue", "pink"):
            surface = spec.surfaces[getattr(chain.state, f"{colour}_block")]
            x, y = pose(scene_obs, scene, colour)[:2]
            assert surface.x[0] <= x <= surface.x[1]
            assert surface.y[0] <= y <= surface.y[1]


@scenes
def test_blocks_on_the_table_have_different_places(scene: str) -> None:
    for chain in chains():
        on_table = [c for c in ("red", "blue", "pink") if getattr(chain.state, f"{c}_block") == "table"]
        _, scene_obs = initial_state(chain.state, scene)
        xs = sorted(pose(scene_obs, scene, colour)[0] for colour in on_table)
        assert (np.diff(xs) > 0.17).all()


@scenes
def test_the_other_scenes_share_the_yaws_of_d(scene: str) -> None:
    state = chains()[3].state
    _, d = initial_state(state)
    _, other = initial_state(state, scene)
    for colour in ("red", "blue", "pink"):
        assert pose(other, scene, colour)[5] == pose(d, "D", colour)[5]


def test_a_start_belongs_to_the_caller() -> None:
    state = chains()[0].state
    robot_obs, scene_obs = initial_state(state)
    robot_obs[:] = scene_obs[:] = 0
    again_robot, again_scene = initial_state(state)
    assert again_robot.any()
    assert again_scene.any()


@scenes
def test_a_random_start_is_fixed_by_its_generator(scene: str) -> None:
    one, two, other = (random_start(scene, np.random.default_rng(seed))[1] for seed in (7, 7, 8))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


@scenes
def test_random_starts_reach_both_ends_of_everything(scene: str) -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([random_start(scene, rng)[1] for _ in range(60)])
    for column in (*range(2), *range(3, 6)):
        assert len(set(drawn[:, column])) == 2
    assert ((drawn[:, SWITCH] > 0) == (drawn[:, LIGHTBULB] > 0)).all()


@scenes
def test_blocks_of_a_random_start_lie_on_surfaces_and_keep_apart(scene: str) -> None:
    rng = np.random.default_rng(1)
    spec = SCENES[scene]
    for _ in range(200):
        _, scene_obs = random_start(scene, rng)
        poses = scene_obs[FIRST_POSE:].reshape(3, 6)
        for x, y in poses[:, :2]:
            assert any(s.x[0] <= x <= s.x[1] and s.y[0] <= y <= s.y[1] for s in spec.surfaces.values())
        for i, j in ((0, 1), (0, 2), (1, 2)):
            # the inner circles of two blocks, of radius 0.02 m, never meet
            assert np.linalg.norm(poses[i, :2] - poses[j, :2]) > 0.04


def square(x: float, y: float, yaw: float) -> np.ndarray:
    cos, sin = np.cos(yaw), np.sin(yaw)
    corners = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
    return corners @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


@pytest.mark.parametrize(
    ("x", "y", "yaw", "expected"),
    [(0, 0, 0, True), (1.9, 0, 0, True), (2.1, 0, 0, False), (2.3, 0, np.pi / 4, True), (1.8, 1.8, np.pi / 4, False)],
)
def test_outlines_touch_where_no_axis_separates_them(x: float, y: float, yaw: float, expected: bool) -> None:
    assert touch(square(0, 0, 0), square(x, y, yaw)) is expected
    assert touch(square(x, y, yaw), square(0, 0, 0)) is expected


@pytest.mark.parametrize("start", [lambda: initial_state(chains()[0].state, "E"), lambda: random_start("E", None)])
def test_an_unknown_scene_is_refused(start: object) -> None:
    with pytest.raises(UnknownName, match="scenes are A, B, C and D"):
        start()
