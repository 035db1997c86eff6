"""The Panda with longer fingers, gel tips and a camera, made from PyBullet's own Panda.

PyBullet ships ``franka_panda/panda.urdf``; CALVIN's robot is that file with another finger mesh and five links more
(mees/calvin_env@797142c data/franka_panda/panda_longer_finger.urdf). The difference is made here, from numbers.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path

from rdvla_bench.envs.calvin.scenes import SceneSpec, Vec3
from rdvla_bench.envs.calvin.table import hull_obj, numbers
from rdvla_bench.envs.calvin.visual import Look

BASE_POSITION = (-0.34, -0.46, 0.24)  # conf/scene/calvin_scene_*.yaml, robot_base_position
ARM_JOINTS = tuple(range(7))
FINGER_JOINTS = (9, 11)
LINK_COUNT = 16
CAMERA_LINK = 14
TCP_LINK = 15

FINGER_OPEN = 0.04  # m a finger
NEUTRAL_JOINTS = (-1.21779206, 1.03987646, 2.11978261, -2.34205014, -0.87015947, 1.64119353, 0.55344866)
"""rad; conf/scene/calvin_scene_*.yaml, robot_initial_joint_positions: the rest pose of the inverse kinematics."""
LOWER_JOINTS = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
UPPER_JOINTS = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
"""rad; conf/robot/panda.yaml: what the solution of the inverse kinematics is clipped to."""

IK_LOWER, IK_UPPER, IK_RANGE = (-7.0,) * 9, (7.0,) * 9, (7.0,) * 9  # robot/robot.py, load: wide on purpose
IK_REST = (*NEUTRAL_JOINTS, FINGER_OPEN, FINGER_OPEN)

FINGER_SECTIONS = (
    # z, half the width in x, nearest and farthest y (m, finger frame); measured to 0.1 mm
    (0.0003, 0.0104, 0.0062, 0.0269),
    (0.0342, 0.0104, 0.0136, 0.0215),
    (0.0647, 0.0087, 0.0040, 0.0065),
    (0.0907, 0.0087, 0.0039, 0.0065),
    (0.0962, 0.0057, 0.0039, 0.0068),
)
"""The finger is the convex hull of these rectangles."""

GEL_RINGS = (
    # x, half the width in y, lowest and highest z (m, tip frame); measured to 0.1 mm or better
    (0.0161, 0.00924, 0.00473, 0.02973),
    (0.0174, 0.0092, 0.00473, 0.02973),
    (0.0180, 0.0090, 0.0049, 0.02954),
    (0.0184, 0.0084, 0.0054, 0.0290),
    (0.0189, 0.0071, 0.0065, 0.0275),
    (0.0194, 0.0055, 0.0080, 0.0258),
    (0.0198, 0.0037, 0.0097, 0.0236),
    (0.0200, 0.0023, 0.0112, 0.0215),
    (0.0201, 0.0012, 0.0133, 0.0189),
    (0.02013, 0.0005, 0.0148, 0.0174),
)
GEL_ROUNDNESS = 2.42
"""The gel is an oval pad under a low dome: rings |y/a|^n + |z/b|^n = 1 with this n."""
GEL_CENTRE = (0.0181, 0.0, 0.01725)
GEL_SIZE = (0.00407, 0.01845, 0.025)
"""m, tip frame; the box around the gel."""

_N_GEL = 24  # points of a ring

CAMERA_SIZE = (0.08, 0.025, 0.01)
PEDESTAL_RADIUS, PEDESTAL_HEIGHT = 0.13, 0.24
PEDESTAL_POSITION = (-0.39, -0.46, 0.12)
"""The robot's pedestal, which is to be seen and not to be touched (robot/robot.py, add_base_cylinder)."""

# name, parent, xyz, rpy, mass
_ADDED_LINKS = (
    ("gripper_cam", "panda_hand", (-0.1, 0.0, 0.0), (1.3, 0.0, -1.57), 0.2),
    ("tcp", "panda_hand", (0.0, 0.0, 0.14), (0.0, 0.0, 0.0), 0.00001),
    ("finger_left_tip", "panda_leftfinger", (0.0009, 0.021, 0.066), (0.0, 0.0, -1.57), 0.0001),
    ("finger_right_tip", "panda_rightfinger", (-0.0009, -0.021, 0.066), (0.0, 0.0, 1.57), 0.0001),
)


def write(scene: SceneSpec, look: Look | None, panda: Path, folder: Path) -> Path:
    """Write the robot's URDF from PyBullet's ``franka_panda`` folder and return its path."""
    robot = ET.parse(panda / "panda.urdf").getroot()
    finger, gel = folder / "finger_collision.obj", folder / "gel_collision.obj"
    finger.write_text(hull_obj(finger_mesh()[0]))
    gel.write_text(hull_obj(_gel()))
    for link in robot.iter("link"):
        for visual in link.findall("visual"):
            link.remove(visual)
        for mesh in link.iter("mesh"):
            own = finger if mesh.attrib["filename"].endswith("finger.obj") else None
            mesh.set("filename", str(own or panda / mesh.attrib["filename"].removeprefix("package://")))
    for name, parent, xyz, rpy, mass in _ADDED_LINKS:
        robot.append(_joint(name, parent, xyz, rpy))
        robot.append(_link(name, mass, gel if name.endswith("tip") else None))
    if look is not None:
        for link in robot.iter("link"):
            shown = look.urdf(scene, "robot", link.attrib["name"], folder)
            link.extend(ET.fromstring(f"<link>{shown}</link>"))
    path = folder / "robot.urdf"
    path.write_text(ET.tostring(robot, encoding="unicode"))
    return path


def _joint(name: str, parent: str, xyz: tuple[float, ...], rpy: tuple[float, ...]) -> ET.Element:
    return ET.fromstring(
        f'<joint name="{name}_joint" type="fixed"><origin xyz="{numbers(xyz)}" rpy="{numbers(rpy)}"/>'
        f'<parent link="{parent}"/><child link="{name}"/></joint>'
    )


def _link(name: str, mass: float, gel: Path | None) -> ET.Element:
    pad = ""
    if gel is not None:
        pad = (
            '<contact><lateral_friction value="1"/><spinning_friction value="0.001"/></contact>'
            f'<collision><geometry><mesh filename="{gel}"/></geometry></collision>'
        )
    return ET.fromstring(
        f'<link name="{name}"><inertial><mass value="{mass!r}"/>'
        f'<inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial>{pad}</link>'
    )


def finger_mesh() -> tuple[list[tuple[float, float, float]], list[tuple[int, int, int, int]]]:
    """Corners (m, finger frame) and four-sided faces of the finger's sections joined into a tube."""
    corners = [
        (x, y, z) for z, w, near, far in FINGER_SECTIONS for x, y in ((-w, near), (w, near), (w, far), (-w, far))
    ]
    faces = [(0, 3, 2, 1)]
    for section in range(len(FINGER_SECTIONS) - 1):
        at = 4 * section
        faces += [(at + i, at + (i + 1) % 4, at + (i + 1) % 4 + 4, at + i + 4) for i in range(4)]
    last = 4 * (len(FINGER_SECTIONS) - 1)
    return corners, [*faces, (last, last + 1, last + 2, last + 3)]


def _gel() -> list[Vec3]:
    """Points of the gel in m, tip frame."""
    points = []
    for x, half, low, high in GEL_RINGS:
        for i in range(_N_GEL):
            cos, sin = math.cos(2 * math.pi * i / _N_GEL), math.sin(2 * math.pi * i / _N_GEL)
            reach = (abs(cos) ** GEL_ROUNDNESS + abs(sin) ** GEL_ROUNDNESS) ** (-1 / GEL_ROUNDNESS)
            points.append((x, reach * cos * half, (low + high) / 2 + reach * sin * (high - low) / 2))
    return points
