"""How a scene starts, as the robot's and the scene's observation vectors that a reset takes.

A chain's start in scene D is the original's to the last bit (mees/calvin@fa03f01
calvin_agent/evaluation/utils.py ``get_env_state_for_initial_condition``). The original evaluates in D alone: the
starts in A, B and C are ours, the same words put at the same relative places of that scene's surfaces, with the same
yaws.

Non-obvious:
    * The seed hashes how Python prints the state's values, over UTF-16 and from 0: with the usual basis and UTF-8,
      blocks swap places in more than half of the chains and every yaw differs.
    * A block alone on the table takes slot 0, except the pink one, which always takes slot 1.
    * Blocks start 0.01 mm inside what they stand on: contacts at the first moment decide whether a later lift counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from rdvla_bench.envs.calvin.scenes import DRAWER_RANGE, SCENES, SWITCH_RANGE, BlockSpec, SceneSpec, Vec3
from rdvla_bench.envs.calvin.sequences import State
from rdvla_bench.envs.calvin.snapshot import Floats
from rdvla_bench.errors import EnvFault, UnknownName

ROBOT_OBS: tuple[float, ...] = (
    *(0.02586889, -0.2313129, 0.5712808),  # tcp, m
    *(3.09045411, -0.02908596, 1.50013585),  # extrinsic xyz, rad
    0.07999963,  # gripper width, m
    *(-1.21779124, 1.03987629, 2.11978254, -2.34205014, -0.87015899, 1.64119093, 0.55344928),  # joints, rad
    1.0,  # gripper open
)
"""The robot at the start of every chain: the same function."""

TABLE_Z = 0.459990009  # m, centre of a block on the table's top: the same function
SLIDER_Z = 0.460990009  # m, on the plank behind the sliding door: the same
_TABLE_SLOTS: tuple[Vec3, Vec3] = ((0.0500000896, -0.120000177, TABLE_Z), (0.229995412, -0.119995140, 0.459990010))
_SLIDER_PLACES: dict[str, Vec3] = {
    "slider_left": (-0.240851662, 0.0924044687, SLIDER_Z),
    "slider_right": (0.0703416330, 0.0924044687, SLIDER_Z),
}
_YAWS = (np.pi / 2 - np.pi / 8, np.pi / 2 + np.pi / 8)  # rad: the same function

SLIDE, DRAWER, SWITCH, LIGHTBULB, LED, FIRST_POSE = 0, 1, 3, 4, 5, 6
"""Where ``scene_obs`` holds what; from ``FIRST_POSE`` on, six values a block in the scene's own order."""

MAX_TRIES = 1000  # draws of a random start: mees/calvin_env@797142c calvin_env/scene/play_table_scene.py


def initial_state(state: State, scene: str = "D") -> tuple[Floats, Floats]:
    """Return ``(robot_obs (15,), scene_obs (24,))`` of a chain's initial state.

    Raises:
        UnknownName: no such scene.
    """
    spec = _spec(scene)
    rng = np.random.RandomState(seed_of(state))  # the original draws from the legacy generator
    slots = list(_TABLE_SLOTS)
    rng.shuffle(slots)
    scene_obs = _fixtures(
        spec,
        is_slider_left=state.slider == "left",
        is_drawer_open=state.drawer == "open",
        lightbulb=state.lightbulb,
        led=state.led,
    )
    blue_slot = 1 if state.red_block == "table" else 0
    for colour, place, slot in (
        ("red", state.red_block, 0),
        ("blue", state.blue_block, blue_slot),
        ("pink", state.pink_block, 1),
    ):
        spot = slots[slot] if place == "table" else _SLIDER_PLACES[place]
        pose = _pose(scene_obs, spec, colour)
        pose[:3] = _same_place(spot, place, spec)
        pose[5] = rng.uniform(*_YAWS)
    return np.array(ROBOT_OBS), scene_obs


def random_start(scene: str, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw ``(robot_obs (15,), scene_obs (24,))`` for free play; the robot as in a chain.

    Each block gets one of the three surfaces, a place on it and a yaw in [-pi, pi), all uniform, again until no two
    touch: mees/calvin_env@797142c calvin_env/scene/objects/movable_object.py. Ours are three differences: doors and
    lights are drawn too, each at one of its two ends; blocks stand at the height of a chain's start instead of
    z = 0.46; touching is judged from the blocks' outlines.

    Non-obvious: the original's surfaces behind the sliding door reach so near to its panel and to the back wall that a
    block can start inside them and is pushed out in the first steps (about every tenth block). That is kept.

    Raises:
        UnknownName: no such scene.
        EnvFault: ``MAX_TRIES`` draws all had blocks that touch.
    """
    spec = _spec(scene)
    slider, drawer, lightbulb, led = rng.integers(0, 2, 4).tolist()
    scene_obs = _fixtures(spec, is_slider_left=bool(slider), is_drawer_open=bool(drawer), lightbulb=lightbulb, led=led)
    for _ in range(MAX_TRIES):
        for block in spec.blocks:
            _pose(scene_obs, spec, block.colour)[:] = _random_pose(spec, rng)
        outlines = [_outline(_pose(scene_obs, spec, block.colour), block) for block in spec.blocks]
        if not any(touch(a, b) for a, b in combinations(outlines, 2)):
            return np.array(ROBOT_OBS), scene_obs
    raise EnvFault(f"no random start of scene {scene} without touching blocks in {MAX_TRIES} draws")


def seed_of(state: State) -> int:
    """Return the seed that the original derives from how Python prints ``state``'s values."""
    return fnv1_32(f"dict_values({list(state)!r})".encode("utf-16-le"))


def fnv1_32(data: bytes) -> int:
    """Return FNV-1 of 32 bits from 0 instead of the usual basis, as pyhash 0.9.3 computes it."""
    value = 0
    for byte in data:
        value = (value * 0x01000193) % 2**32 ^ byte
    return value


def touch(one: Floats, other: Floats) -> bool:
    """Say whether two convex outlines, each (N, 2) corners in order, share a point (separating axes)."""
    edges = np.concatenate([np.roll(corners, -1, axis=0) - corners for corners in (one, other)])
    for x, y in edges:
        axis = np.array([-y, x])
        a, b = one @ axis, other @ axis
        if a.max() < b.min() or b.max() < a.min():
            return False
    return True


def _spec(scene: str) -> SceneSpec:
    if scene not in SCENES:
        raise UnknownName("CALVIN scene", scene, SCENES, "scenes are A, B, C and D")
    return SCENES[scene]


def _fixtures(spec: SceneSpec, *, is_slider_left: bool, is_drawer_open: bool, lightbulb: int, led: int) -> Floats:
    """Return a ``scene_obs`` with doors, switch and lights set, and all block poses 0."""
    scene_obs = np.zeros(FIRST_POSE + 6 * len(spec.blocks))
    scene_obs[SLIDE] = spec.slide_range[is_slider_left]
    scene_obs[DRAWER] = DRAWER_RANGE[is_drawer_open]
    scene_obs[SWITCH] = SWITCH_RANGE[lightbulb]
    scene_obs[LIGHTBULB] = lightbulb
    scene_obs[LED] = led
    return scene_obs


def _pose(scene_obs: Floats, spec: SceneSpec, colour: str) -> Floats:
    """Return a view of the six values of one block: x, y, z in m, extrinsic xyz in rad."""
    i = FIRST_POSE + 6 * [block.colour for block in spec.blocks].index(colour)
    return scene_obs[i : i + 6]


def _same_place(spot: Vec3, surface: str, spec: SceneSpec) -> Vec3:
    """Move a place of scene D to the same relative x of the surface of another scene."""
    here, there = SCENES["D"].surfaces[surface], spec.surfaces[surface]
    if here == there:
        return spot
    share = (spot[0] - here.x[0]) / (here.x[1] - here.x[0])
    return (there.x[0] + share * (there.x[1] - there.x[0]), spot[1], spot[2])


def _random_pose(spec: SceneSpec, rng: np.random.Generator) -> Sequence[float]:
    name = list(spec.surfaces)[rng.integers(len(spec.surfaces))]
    surface = spec.surfaces[name]
    z = TABLE_Z if name == "table" else SLIDER_Z
    return (rng.uniform(*surface.x), rng.uniform(*surface.y), z, 0.0, 0.0, rng.uniform(-np.pi, np.pi))


def _outline(pose: Floats, block: BlockSpec) -> Floats:
    """Return the four corners of a block seen from above, (4, 2) m."""
    x, y = block.size[0] / 2, block.size[1] / 2
    cos, sin = np.cos(pose[5]), np.sin(pose[5])
    about_centre = np.array([(x, y), (-x, y), (-x, -y), (x, -y)]) @ np.array([[cos, sin], [-sin, cos]])
    corners: Floats = about_centre + pose[:2]
    return corners
