"""The play table as a URDF made of boxes, prisms and one cylinder, for any of the four scenes.

Non-obvious:
  * Bullet puts a margin of 1 mm around a convex mesh and none around a concave one or a primitive. The original's table
    body is a concave mesh, its other links are convex ones, so a block rests at 0.4400 on the table but at 0.4410 on
    the plank. Here every shape is a primitive: links other than the body grow by that millimetre (`MARGIN`), and the
    inclined prisms of the body, which must be convex meshes, shrink by it.
  * Without it no block on the plank touches anything at reset, and lifting it from the slider can never count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rdvla_bench.envs.calvin.scenes import BUTTON_RANGE, DRAWER_RANGE, SWITCH_RANGE, SceneSpec, Span, Vec3
from rdvla_bench.envs.calvin.visual import Look

MARGIN = 0.001  # m; Bullet's gUrdfDefaultCollisionMargin

BUTTON, SWITCH, SLIDE, DRAWER, LED, BULB, PLANK = range(7)
"""Joints and links of the table: the original's numbers in all four scenes."""

LINKS = ("button_link", "switch_link", "slide_link", "drawer_link", "led_link", "light_link", "plank_link")
BASE = "base_link"

SLOPE = math.tan(math.pi / 3)  # the inclined front: 30 degrees from the vertical
FRONT_Y, BACK_Y = 0.02, 0.14  # where the inclined front begins (z 0.44) and ends
RIM_Z = 0.44 + (BACK_Y - FRONT_Y) * SLOPE  # 0.64785, upper edge of the cupboard

_N_RING = 12  # sides of the ring around the button


@dataclass(frozen=True)
class Box:
    """Axis-aligned in its link's frame, but for a yaw."""

    x: Span
    y: Span
    z: Span
    yaw: float = 0.0  # rad about z, around the box's own centre

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
    """A convex polygon in the y-z plane, drawn out along x."""

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
    side = ((FRONT_Y, 0.44), (BACK_Y, RIM_Z), (0.16, RIM_Z), (0.16, 0.44))
    roof = (
        ((RIM_Z - 0.02 - 0.44) / SLOPE + FRONT_Y, RIM_Z - 0.02),
        (BACK_Y, RIM_Z),
        (0.16, RIM_Z),
        (0.16, RIM_Z - 0.02),
    )
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


LINK_SHAPES: Mapping[str, tuple[Shape, ...]] = {
    "button_link": (Cylinder(0.032, (0.0, 0.024)),),
    "switch_link": (
        Box((-0.0603, 0.0602), (0.0426, 0.0643), (-0.0242, 0.008)),
        Box((0.0386, 0.0602), (-0.0003, 0.0426), (-0.0242, 0.008)),
        Box((-0.0603, -0.0396), (-0.0003, 0.0426), (-0.0242, 0.008)),
    ),
    "slide_link": (
        Box((0.0, 0.28), (-0.12, 0.12), (0.0, 0.0219)),
        Box((0.1192, 0.1608), (-0.0803, -0.0577), (0.0219, 0.0801)),
        Box((0.1192, 0.1608), (0.0574, 0.0811), (0.0219, 0.0575)),
        Box((0.1192, 0.1608), (-0.0577, 0.0811), (0.0565, 0.0801)),
    ),
    "drawer_link": (
        Box((-0.2209, 0.2209), (-0.0209, 0.0812), (0.1574, 0.182)),
        Box((-0.2015, 0.2015), (-0.0015, 0.0812), (-0.0609, -0.038)),
        Box((0.1769, 0.2015), (-0.0015, 0.0812), (-0.0609, 0.1574)),
        Box((-0.2015, -0.1769), (-0.0015, 0.0812), (-0.038, 0.1574)),
        Box((-0.1769, 0.1769), (-0.0015, 0.0214), (-0.038, 0.1574)),
        Box((0.0959, 0.1206), (0.0196, 0.0618), (0.182, 0.2612)),
        Box((-0.1206, -0.0959), (0.0196, 0.0618), (0.182, 0.2612)),
        Box((-0.0959, 0.0959), (0.0196, 0.0601), (0.2383, 0.2612)),
    ),
    "led_link": (Box((-0.08, 0.08), (0.0, 0.016), (-0.02, 0.02)),),
    "light_link": (Sphere((0.0, 0.0216, -0.028), 0.028),),
    "plank_link": (Box((-0.26, 0.26), (0.0, 0.02), (-0.07, 0.07)),),
}
"""Nominal shapes in their link's frame, the same in all four scenes."""

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
    return body_shapes(scene) if link == BASE else LINK_SHAPES[link]


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
    margin = 0.0 if link == BASE else MARGIN
    collisions = "".join(
        _collision(shape, margin, folder, f"{link}_{i}") for i, shape in enumerate(shapes(scene, link))
    )
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


def _collision(shape: Shape, margin: float, folder: Path, name: str) -> str:
    """One ``<collision>`` whose effective surface lies ``margin`` outside the nominal one."""
    if isinstance(shape, Prism):
        return _element(numbers((0.0, 0.0, 0.0)), 0.0, 0.0, _prism(shape, MARGIN - margin, folder / f"{name}.obj"))
    if isinstance(shape, Cylinder):
        centre = numbers((0.0, (shape.y[0] + shape.y[1]) / 2, 0.0))
        height = shape.y[1] - shape.y[0] + 2 * margin
        return _element(centre, math.pi / 2, 0.0, f'<cylinder radius="{shape.radius + margin!r}" length="{height!r}"/>')
    if isinstance(shape, Sphere):
        return _element(numbers(shape.centre), 0.0, 0.0, f'<sphere radius="{shape.radius + margin!r}"/>')
    x, y, z = (side + 2 * margin for side in shape.size)
    return _element(numbers(shape.centre), 0.0, shape.yaw, f'<box size="{numbers((x, y, z))}"/>')


def _element(xyz: str, roll: float, yaw: float, geometry: str) -> str:
    origin = f'<origin xyz="{xyz}" rpy="{roll!r} 0 {yaw!r}"/>'
    return f"<collision>{origin}<geometry>{geometry}</geometry></collision>"


def _prism(shape: Prism, shrink: float, path: Path) -> str:
    """Write the prism, ``shrink`` smaller on every side, as a mesh."""
    outline = _inset(shape.yz, shrink)
    ends = (shape.x[0] + shrink, shape.x[1] - shrink)
    lines = [f"v {x!r} {y!r} {z!r}" for x in ends for y, z in outline]
    n = len(outline)
    lines += [f"f {i + 1} {(i + 1) % n + 1} {(i + 1) % n + 1 + n} {i + 1 + n}" for i in range(n)]
    lines += ["f " + " ".join(str(i + 1) for i in range(n)), "f " + " ".join(str(i + 1 + n) for i in range(n))]
    path.write_text("\n".join(lines) + "\n")
    return f'<mesh filename="{path}"/>'


def _inset(polygon: tuple[tuple[float, float], ...], distance: float) -> list[tuple[float, float]]:
    """Move every edge of a convex polygon inwards by ``distance``."""
    cy, cz = (sum(point[i] for point in polygon) / len(polygon) for i in (0, 1))
    edges = []  # outward normal (a, b) and offset c of the moved edge a*y + b*z = c
    for (y0, z0), (y1, z1) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        length = math.hypot(y1 - y0, z1 - z0)
        a, b = (z1 - z0) / length, -(y1 - y0) / length
        if a * (y0 - cy) + b * (z0 - cz) < 0:
            a, b = -a, -b
        edges.append((a, b, a * y0 + b * z0 - distance))
    corners = []
    for (a0, b0, c0), (a1, b1, c1) in zip((edges[-1], *edges[:-1]), edges, strict=True):
        det = a0 * b1 - a1 * b0
        corners.append(((c0 * b1 - c1 * b0) / det, (a0 * c1 - a1 * c0) / det))
    return corners
