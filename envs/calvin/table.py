"""The play table as a URDF made of boxes, prisms, a cylinder and a ball, for any of the four scenes.

Non-obvious:
  * The kind of each collision shape is part of the physics. Bullet puts a margin of 1 mm around a convex mesh and none
    around a concave one. As in the original, the table's body is one concave mesh and its other links are convex ones,
    so a block rests at 0.4400 on the table but at 0.4410 on the plank.
  * Were the plank a primitive box, no block on it would touch anything at reset, and lifting it from the slider could
    never count.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rdvla_bench.envs.calvin.scenes import BUTTON_RANGE, DRAWER_RANGE, SWITCH_RANGE, SceneSpec, Span, Vec3
from rdvla_bench.envs.calvin.solids import Solid, box, obj, prism
from rdvla_bench.envs.calvin.visual import Look

HULL_MARGIN = 0.001  # m; Bullet's gUrdfDefaultCollisionMargin, around convex meshes

BUTTON, SWITCH, SLIDE, DRAWER, LED, BULB, PLANK = range(7)
"""Joints and links of the table: the original's numbers in all four scenes."""

LINKS = ("button_link", "switch_link", "slide_link", "drawer_link", "led_link", "light_link", "plank_link")
BASE = "base_link"

SLOPE = math.tan(math.pi / 3)  # the inclined front: 30 degrees from the vertical
FRONT_Y, BACK_Y = 0.02, 0.14  # where the inclined front begins (z 0.44) and ends
RIM_Z = 0.44 + (BACK_Y - FRONT_Y) * SLOPE  # 0.64785, upper edge of the cupboard

_N_RING = 12  # sides of the ring around the button
_N_AROUND = 36  # corners of the button


@dataclass(frozen=True)
class Box:
    """Axis-aligned in its link's frame, but for a yaw."""

    x: Span
    y: Span
    z: Span
    yaw: float = 0.0  # rad about z, around the box's own centre
    bevel: float = 0.0  # m cut off all twelve edges where something touches the box

    @property
    def centre(self) -> Vec3:
        """Middle of the box in m."""
        return ((self.x[0] + self.x[1]) / 2, (self.y[0] + self.y[1]) / 2, (self.z[0] + self.z[1]) / 2)

    @property
    def size(self) -> Vec3:
        """Full sides in m."""
        return (self.x[1] - self.x[0], self.y[1] - self.y[0], self.z[1] - self.z[0])


@dataclass(frozen=True)
class Prism:
    """A convex polygon in the y-z plane, counter-clockwise seen from +x, drawn out along x."""

    x: Span
    yz: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Cylinder:
    """Its axis along the link's y."""

    radius: float
    y: Span


@dataclass(frozen=True)
class Sphere:
    """A ball."""

    centre: Vec3
    radius: float


Shape = Box | Prism | Cylinder | Sphere


def body_shapes(scene: SceneSpec) -> tuple[Shape, ...]:
    """The table's body at nominal size: top, back wall, inclined front, drawer housing, legs, ring of the button."""
    left, right = scene.cupboard
    hole_left, hole_right = scene.drawer_cavity
    side = ((FRONT_Y, 0.44), (0.16, 0.44), (0.16, RIM_Z), (BACK_Y, RIM_Z))
    low = RIM_Z - 0.02
    roof = ((FRONT_Y + (low - 0.44) / SLOPE, low), (0.16, low), (0.16, RIM_Z), (BACK_Y, RIM_Z))
    legs = [Box(x, y, (0.0, 0.4)) for x in ((-0.44, -0.4), (0.4, 0.44)) for y in ((-0.18, -0.148), (0.148, 0.18))]
    return (
        Box((-0.44, 0.44), (-0.18, 0.02), (0.4, 0.44)),
        Box((-0.44, left), (0.02, 0.18), (0.4, 0.44)),
        Box((right, 0.44), (0.02, 0.18), (0.4, 0.44)),
        Box((left, right), (0.02, 0.18), (0.4, 0.42)),  # under the plank
        Box((-0.44, 0.44), (0.16, 0.18), (0.42, RIM_Z)),
        Prism((left, right), roof),
        Prism((-0.44, left), side),
        Prism((right, 0.44), side),
        Box((-0.42, 0.42), (-0.16, 0.16), (0.3, 0.32)),
        Box((-0.42, hole_left), (-0.16, 0.16), (0.32, 0.4)),
        Box((hole_right, 0.42), (-0.16, 0.16), (0.32, 0.4)),
        Box((hole_left, hole_right), (0.06, 0.16), (0.32, 0.4)),
        *legs,
        *_ring(scene.button),
    )


def _ring(button: Vec3) -> list[Box]:
    """Twelve slabs between radius 0.03 and 0.04 around the button."""
    middle, width = 0.035, 2 * 0.04 * math.tan(math.pi / _N_RING)
    slabs = []
    for i in range(_N_RING):
        yaw = 2 * math.pi * i / _N_RING
        x, y = button[0] + middle * math.cos(yaw), button[1] + middle * math.sin(yaw)
        slabs.append(Box((x - 0.005, x + 0.005), (y - width / 2, y + width / 2), (0.44, 0.46), yaw))
    return slabs


_LEVER = (  # its bar in section: two edges rounded with a radius of 6 mm
    (0.0426, -0.0242),
    (0.0587, -0.0242),
    (0.0625, -0.0224),
    (0.0643, -0.0182),
    (0.0643, 0.0019),
    (0.0625, 0.0062),
    (0.0587, 0.008),
    (0.0426, 0.008),
)
_ROUND = 0.004  # stands for handles rounded with a radius of 6 mm

LINK_SHAPES: Mapping[str, tuple[Shape, ...]] = {
    "button_link": (Cylinder(0.032, (0.0, 0.024)),),
    "switch_link": (
        Prism((-0.0502, 0.0502), _LEVER),
        Box((0.0386, 0.0602), (-0.0003, 0.0565), (-0.0242, 0.008)),
        Box((-0.0603, -0.0396), (-0.0003, 0.0565), (-0.0242, 0.008)),
    ),
    "slide_link": (
        Box((0.0, 0.28), (-0.12, 0.12), (0.0, 0.0219)),
        Box((0.1192, 0.1608), (-0.0803, -0.0577), (0.0219, 0.0801), bevel=_ROUND),
        Box((0.1192, 0.1608), (0.0574, 0.0811), (0.0219, 0.0575), bevel=_ROUND),
        Box((0.1192, 0.1608), (-0.0577, 0.0811), (0.0565, 0.0801), bevel=_ROUND),
    ),
    "drawer_link": (
        Box((-0.2209, 0.2209), (-0.0209, 0.0812), (0.1574, 0.182)),
        Box((-0.2015, 0.2015), (-0.0015, 0.0812), (-0.0609, -0.038)),
        Box((0.1769, 0.2015), (-0.0015, 0.0812), (-0.0609, 0.1574)),
        Box((-0.2015, -0.1769), (-0.0015, 0.0812), (-0.038, 0.1574)),
        Box((-0.1769, 0.1769), (-0.0015, 0.0214), (-0.038, 0.1574)),
        Box((0.0959, 0.1206), (0.0196, 0.0618), (0.182, 0.2612)),
        Box((-0.1206, -0.0959), (0.0196, 0.0618), (0.182, 0.2612)),
        Box((-0.0959, 0.0959), (0.0196, 0.0601), (0.2383, 0.2612), bevel=_ROUND),
    ),
    "led_link": (Box((-0.08, 0.08), (0.0, 0.016), (-0.02, 0.02)),),
    "plank_link": (Box((-0.26, 0.26), (0.0, 0.02), (-0.07, 0.07)),),
}
"""Nominal shapes in their link's frame, the same in all four scenes; the bulb is not among them."""

_MASS = {  # kg; data/calvin_table_D/urdf, the same in A, B and C but for the bulb
    "button_link": 0.153812376319756,
    "switch_link": 0.238786703751891,
    "slide_link": 1.54349139995684,
    "drawer_link": 4.23128077824699,
    "led_link": 0.204,
    "plank_link": 2.84375,
}
_CENTRE_OF_MASS: Mapping[str, Vec3] = {  # m, link frame; of no effect on a prismatic joint along a principal direction
    "button_link": (0.0, 0.012, 0.0),
    "switch_link": (0.0, 0.04015635111146144, -0.008),
    "slide_link": (-0.14, 0.0, 0.01633178419574296),
    "drawer_link": (0.0, 0.0265584434168504, 0.0790843235569939),
}


def shapes(scene: SceneSpec, link: str) -> tuple[Shape, ...]:
    """Nominal shapes of a link: what the eye sees, before any margin."""
    if link == BASE:
        return body_shapes(scene)
    if link == "light_link":  # its joint is elsewhere in B, the bulb is not
        return (Sphere((0.0, 0.02163, scene.bulb[1] - 0.16), 0.028),)
    return LINK_SHAPES[link]


def write(scene: SceneSpec, look: Look | None, folder: Path) -> Path:
    """Write the table's URDF (and the prisms' meshes beside it) and return its path."""
    text = [f'<robot name="calvin_table_{scene.name}">']
    text += [_link(scene, link, look, folder) for link in (BASE, *LINKS)]
    text += _joints(scene)
    path = folder / "table.urdf"
    path.write_text("\n".join([*text, "</robot>"]))
    return path


def _link(scene: SceneSpec, link: str, look: Look | None, folder: Path) -> str:
    mass = {**_MASS, "light_link": scene.bulb_mass, BASE: 0.0}[link]
    collisions = _concave(scene, folder) if link == BASE else _convex(scene, link, folder)
    visible = "" if look is None else look.urdf(scene, "table", link, folder)
    inertia = '<inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/>'  # PyBullet computes its own from the shapes
    return (
        f'<link name="{link}"><inertial><origin xyz="{numbers(_CENTRE_OF_MASS.get(link, (0.0, 0.0, 0.0)))}"/>'
        f'<mass value="{mass!r}"/>{inertia}</inertial>{visible}{collisions}</link>'
    )


def _joints(scene: SceneSpec) -> list[str]:
    turn, tilt, slant = scene.quarter_turn, scene.switch_tilt, scene.slide_tilt
    still = (0.0, 0.0)
    rows: tuple[tuple[str, Vec3, float, Vec3, Span], ...] = (
        ("base__button", scene.button, turn, (0.0, -1.0, 0.0), BUTTON_RANGE),
        ("base__switch", scene.switch, tilt, (0.0, 0.0, -1.0), SWITCH_RANGE),
        ("base__slide", scene.slide, slant, (-1.0, 0.0, 0.0), scene.slide_range),
        ("base__drawer", scene.drawer, turn, (0.0, 0.0, 1.0), DRAWER_RANGE),
        ("base__led", scene.led, turn, (0.0, 0.0, 0.0), still),
        ("base__light", scene.bulb, 1.5708, (0.0, 0.0, 0.0), still),
        ("base__plank", scene.plank, 1.5708, (0.0, 0.0, 0.0), still),
    )
    return [
        f'<joint name="{name}" type="{"fixed" if span == still else "prismatic"}">'
        f'<origin xyz="{numbers(origin)}" rpy="{roll!r} 0 0"/><parent link="{BASE}"/><child link="{link}"/>'
        f'<axis xyz="{numbers(axis)}"/>'
        f'<limit lower="{span[0]!r}" upper="{span[1]!r}" effort="0" velocity="0"/></joint>'
        for link, (name, origin, roll, axis, span) in zip(LINKS, rows, strict=True)
    ]


def numbers(values: tuple[float, ...]) -> str:
    """A URDF attribute with every digit of the values."""
    return " ".join(repr(float(value)) for value in values)


def _concave(scene: SceneSpec, folder: Path) -> str:
    """One mesh of all shapes of the body, without a margin."""
    path = folder / "base_collision.obj"
    path.write_text(obj(_upright(shape) for shape in body_shapes(scene)))
    return f'<collision concave="yes"><geometry><mesh filename="{path}"/></geometry></collision>'


def _upright(shape: Shape) -> Solid:
    if isinstance(shape, Prism):
        return prism(shape.yz, shape.x, 0)
    if not isinstance(shape, Box):
        raise TypeError(f"the table's body has boxes and prisms, not {type(shape).__name__}")
    solid = box(shape.x, shape.y, shape.z)
    cos, sin = math.cos(shape.yaw), math.sin(shape.yaw)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return Solid((solid.vertices - shape.centre) @ turn.T + shape.centre, solid.faces)


def _convex(scene: SceneSpec, link: str, folder: Path) -> str:
    """One mesh a shape, around which Bullet puts its margin; a ball has none and is made larger."""
    elements = []
    for i, shape in enumerate(shapes(scene, link)):
        if isinstance(shape, Sphere):
            radius = shape.radius + HULL_MARGIN
            elements.append(
                f'<origin xyz="{numbers(shape.centre)}"/><geometry><sphere radius="{radius!r}"/></geometry>'
            )
            continue
        path = folder / f"{link}_{i}.obj"
        path.write_text(hull_obj(_corners(shape)))
        elements.append(f'<geometry><mesh filename="{path}"/></geometry>')
    return "".join(f"<collision>{element}</collision>" for element in elements)


def _corners(shape: Box | Prism | Cylinder) -> list[Vec3]:
    """Points whose convex hull the shape is, in m."""
    if isinstance(shape, Prism):
        return [(x, y, z) for x in shape.x for y, z in shape.yz]
    if isinstance(shape, Cylinder):
        turns = [2 * math.pi * i / _N_AROUND for i in range(_N_AROUND)]
        return [(shape.radius * math.cos(turn), y, shape.radius * math.sin(turn)) for y in shape.y for turn in turns]
    cuts = {(0.0, 0.0, 0.0)} if not shape.bevel else set(itertools.permutations((shape.bevel, shape.bevel, 0.0)))
    (x, y, z), (width, depth, height) = shape.centre, shape.size
    return [
        (x + a * (width / 2 - cut[0]), y + b * (depth / 2 - cut[1]), z + c * (height / 2 - cut[2]))
        for cut in sorted(cuts)
        for a, b, c in itertools.product((-1, 1), repeat=3)
    ]


def hull_obj(points: Sequence[Vec3]) -> str:
    """Points as an OBJ whose convex hull PyBullet takes: its triangles need only name every point."""
    lines = ["v " + numbers(point) for point in points]
    lines += [f"f {i} {i + 1} {i + 2}" for i in range(1, len(points) - 1)]
    return "\n".join(lines) + "\n"
