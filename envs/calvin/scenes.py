"""The four tables in numbers: where the mechanisms sit, how far they move, which blocks lie on them.

Metres, world frame, after the original's global scale of 0.8 (mees/calvin_env@797142c
data/calvin_table_{A,B,C,D}/urdf/*.urdf and conf/scene/calvin_scene_{A,B,C,D}.yaml). The table stands at the origin and
its working side looks towards -y, where the robot is; the four differ in x only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

Vec3 = tuple[float, float, float]
Span = tuple[float, float]  # (lower, upper) in m

GLOBAL_SCALE = 0.8  # conf/scene/calvin_scene_*.yaml, global_scaling
GRAVITY_Z = -9.8  # envs/play_table_env.py, load
TABLE_TOP_Z = 0.44
SWITCH_RANGE: Span = (0.0, 0.088)
DRAWER_RANGE: Span = (0.0, 0.22)
BUTTON_RANGE: Span = (0.0, 0.02)
BLOCK_LENGTH = MappingProxyType({"small": 0.04, "middle": 0.056, "big": 0.08})
"""Length along the block's x; the other two sides are 0.04 m (data/blocks/*.urdf)."""


@dataclass(frozen=True)
class BlockSpec:
    """One movable block: a box with its length along x."""

    colour: str  # "red", "blue" or "pink"
    length: float  # m

    @property
    def size(self) -> Vec3:
        """Full sides in m."""
        return (self.length, 0.04, 0.04)


@dataclass(frozen=True)
class Surface:
    """A rectangle on which a random start may put a block (at z 0.46)."""

    x: Span
    y: Span


@dataclass(frozen=True)
class SceneSpec:
    """One scene.

    Non-obvious:
      * D's joints are written with pi to 14 digits, those of A, B and C with four decimals; ``quarter_turn``,
        ``switch_tilt`` and ``slide_tilt`` keep that difference (3.7e-6 rad).
    """

    name: str
    button: Vec3
    switch: Vec3
    slide: Vec3
    slide_range: Span  # 0 = door at the right, upper = door at the left
    drawer: Vec3
    led: Vec3
    bulb: Vec3
    plank: Vec3
    bulb_mass: float  # kg
    cupboard: Span  # x of the opening behind the sliding door
    drawer_cavity: Span  # x of the hole the drawer runs in
    blocks: tuple[BlockSpec, BlockSpec, BlockSpec]  # in the config's order, which is the order of scene_obs
    surfaces: Mapping[str, Surface]  # "table", "slider_left", "slider_right"
    quarter_turn: float = 1.5708
    switch_tilt: float = 2.618
    slide_tilt: float = 1.0472


def _block(colour: str, size: str) -> BlockSpec:
    return BlockSpec(colour, BLOCK_LENGTH[size])


def _surfaces(table: Span, left: Span, right: Span) -> Mapping[str, Surface]:
    shelf = (0.05, 0.12)
    return MappingProxyType(
        {
            "table": Surface(table, (-0.15, -0.03)),
            "slider_left": Surface(left, shelf),
            "slider_right": Surface(right, shelf),
        }
    )


SCENE_A = SceneSpec(
    name="A",
    button=(-0.28, -0.12, 0.46),
    switch=(0.3, 0.060928, 0.494888),
    slide=(-0.1, 0.075, 0.535264),
    slide_range=(0.0, 0.28),
    drawer=(0.1, 0.0, 0.32),
    led=(-0.28, 0.16, 0.647848),
    bulb=(0.3, 0.132, 0.647848),
    plank=(-0.1, 0.09, 0.42),
    bulb_mass=0.173918312098126,
    cupboard=(-0.36, 0.16),
    drawer_cavity=(-0.1, 0.3),
    blocks=(_block("pink", "small"), _block("blue", "big"), _block("red", "middle")),
    surfaces=_surfaces((-0.2, 0.35), (-0.32, -0.16), (-0.05, 0.13)),
)
SCENE_B = SceneSpec(
    name="B",
    button=(0.28, -0.12, 0.46),
    switch=(-0.32, 0.060928, 0.494888),
    slide=(0.088, 0.075, 0.535264),
    slide_range=(0.0, 0.304),
    drawer=(0.18, 0.0, 0.32),
    led=(0.28, 0.16, 0.647848),
    bulb=(-0.32, 0.136, 0.647848),
    plank=(0.08, 0.09, 0.42),
    bulb_mass=0.115259640607692,
    cupboard=(-0.18, 0.34),
    drawer_cavity=(-0.02, 0.38),
    blocks=(_block("red", "small"), _block("blue", "big"), _block("pink", "middle")),
    surfaces=_surfaces((-0.35, 0.15), (-0.12, 0.06), (0.15, 0.33)),
)
SCENE_C = SceneSpec(
    name="C",
    button=(-0.12, -0.12, 0.46),
    switch=(-0.32, 0.060928, 0.494888),
    slide=(0.06, 0.075, 0.535264),
    slide_range=(0.0, 0.24),
    drawer=(0.1, 0.0, 0.32),
    led=(-0.12, 0.16, 0.647848),
    bulb=(-0.32, 0.132, 0.647848),
    plank=(0.08, 0.09, 0.42),
    bulb_mass=0.173918312098126,
    cupboard=(-0.18, 0.34),
    drawer_cavity=(-0.1, 0.3),
    blocks=(_block("blue", "small"), _block("red", "big"), _block("pink", "middle")),
    surfaces=_surfaces((0.0, 0.35), (-0.12, 0.06), (0.15, 0.3)),
)
SCENE_D = SceneSpec(
    name="D",
    button=(-0.12, -0.12, 0.46),
    switch=(0.3, 0.06092820323027488, 0.4948897274573416),
    slide=(-0.1, 0.075, 0.535264),
    slide_range=(0.0, 0.28),
    drawer=(0.18, 0.0, 0.32),
    led=(-0.12, 0.16, 0.6478460969082648),
    bulb=(0.3, 0.132, 0.647848),
    plank=(-0.1, 0.09, 0.42),
    bulb_mass=0.173918312098126,
    cupboard=(-0.36, 0.16),
    drawer_cavity=(-0.02, 0.38),
    blocks=(_block("red", "middle"), _block("blue", "small"), _block("pink", "big")),
    surfaces=_surfaces((0.0, 0.35), (-0.32, -0.16), (-0.05, 0.13)),
    quarter_turn=math.pi / 2,
    switch_tilt=math.pi * 5 / 6,
    slide_tilt=math.pi / 3,
)

SCENES: Mapping[str, SceneSpec] = MappingProxyType(
    {scene.name: scene for scene in (SCENE_A, SCENE_B, SCENE_C, SCENE_D)}
)
