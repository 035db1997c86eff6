"""The simulator's own view of a CALVIN scene, as plain data: what a scripted expert may read and a VLA never sees.

The dictionary that a ``PrivilegedView`` returns, in metres, radians and the world frame, rotations as (3, 3)
matrices whose columns are the thing's axes, Euler angles extrinsic xyz:

* ``benchmark``: "calvin"; ``task``: the present subtask's name, "" without one; ``instruction``: its sentence;
  ``subtask_steps``: control steps since it began.
* ``tcp_pos`` (3,), ``tcp_euler`` (3,): the measured tool point between the finger pads (its z axis points out of the
  hand, the fingers open along its y axis); ``target_pos`` (3,), ``target_euler`` (3,): the pose that relative actions
  move and the arm follows; ``width``: the opening between the fingers; ``joints_arm`` (7,).
* ``touching``: the names of what the robot touches: blocks, "table", "plane".
* ``fingers_touch``: ``rdvla_bench.contact.Touch``: colours of blocks, "button", "switch", "door", "drawer".
* ``blocks``: colour -> ``pos`` (3,), ``mat`` (3, 3), ``half`` (3,) half lengths along its own axes, ``yaw`` of its x
  axis, ``held`` (touches both fingers), ``on``: the names of what else it touches, links of the table as "table",
  "shelf", "drawer", "button", "switch" or "door".
* ``joints``: "slide" (grows as the door moves left), "drawer" (grows as it opens), "button", "switch" -> ``value``,
  ``lo``, ``hi``.
* ``lights``: "lightbulb", "led" -> on or off.
* ``table``: where things are while their joints stand at 0: ``button``, ``switch``, ``slide``, ``drawer`` (3,) the
  origins of their links; ``cupboard`` (2,) x of the opening behind the door; ``top``: height of the table's top;
  ``base`` (3,): the foot of the arm.

Non-obvious:
    * Every call copies; a dictionary stays true of its moment after the simulator moves on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rdvla_bench.contact import Touch
from rdvla_bench.envs.calvin.backend import Physics
from rdvla_bench.envs.calvin.bullet import pybullet as bullet
from rdvla_bench.envs.calvin.oracle import rotation
from rdvla_bench.envs.calvin.scenes import BUTTON_RANGE, DRAWER_RANGE, SWITCH_RANGE, TABLE_TOP_Z
from rdvla_bench.envs.calvin.snapshot import PLANE, ROBOT, TABLE, BlockState
from rdvla_bench.envs.calvin.suites import INSTRUCTIONS

_TABLE_LINKS = {-1: "table", 0: "button", 1: "switch", 2: "door", 3: "drawer", 6: "shelf"}
_MOVING_LINKS = range(4)  # button, switch, door, drawer
_FINGERS = ({9, 10}, {11, 12})  # links of the robot: finger and pad, left and right
_BASE = (-0.34, -0.46, 0.24)  # mees/calvin_env@797142c conf/scene/calvin_scene_*.yaml robot_base_position


class PrivilegedView:
    """Reads one world, at any time after its first reset."""

    def __init__(self, world: Physics) -> None:
        """Keep the world and the scene's fixed numbers."""
        self._world = world
        scene = world.scene
        self._half = {block.colour: np.array(block.size) / 2 for block in scene.blocks}
        self._ranges = (scene.slide_range, DRAWER_RANGE, BUTTON_RANGE, SWITCH_RANGE)
        self._table = {
            "scene": scene.name,
            "button": scene.button,
            "switch": scene.switch,
            "slide": scene.slide,
            "drawer": scene.drawer,
            "cupboard": scene.cupboard,
            "base": _BASE,
        }

    def __call__(self, task: str, subtask_steps: int) -> dict[str, Any]:
        """Return the present state as described at the top of this module."""
        robot, scene, now = self._world.robot_obs(), self._world.scene_obs(), self._world.snapshot()
        names = {block.body: name for name, block in now.blocks.items()}
        bodies = {**names, TABLE: "table", PLANE: "plane"}
        return {
            "benchmark": "calvin",
            "task": task,
            "instruction": INSTRUCTIONS.get(task, ""),
            "subtask_steps": subtask_steps,
            "tcp_pos": robot[:3].copy(),
            "tcp_euler": robot[3:6].copy(),
            "target_pos": np.array(self._world.target_pos, np.float64),
            "target_euler": np.array(self._world.target_euler, np.float64),
            "width": float(robot[6]),
            "joints_arm": robot[7:14].copy(),
            "touching": tuple(sorted({bodies.get(body, "other") for body, _ in now.robot_contacts} - {"other"})),
            **self.touch(names),
            "blocks": {name: self._block(name, block, names) for name, block in now.blocks.items()},
            "joints": {
                name: {"value": float(scene[i]), "lo": self._ranges[i][0], "hi": self._ranges[i][1]}
                for i, name in enumerate(("slide", "drawer", "button", "switch"))
            },
            "lights": {name: bool(on) for name, on in now.lights.items()},
            "table": {
                **{k: v if isinstance(v, str) else np.array(v) for k, v in self._table.items()},
                "top": TABLE_TOP_Z,
            },
        }

    def touch(self, names: Mapping[int, str]) -> Touch:
        """Return what the fingers and their pads touch; ``names``: body -> colour of the blocks."""
        found: set[str] = set()
        for finger in set().union(*_FINGERS):
            for point in bullet.getContactPoints(bodyA=ROBOT, linkIndexA=finger, physicsClientId=self._world.client):
                body, link = point[2], point[4]
                if body == TABLE and link in _MOVING_LINKS:
                    found.add(_TABLE_LINKS[link])
                elif body in names:
                    found.add(names[body])
        return {"fingers_touch": tuple(sorted(found))}

    def _block(self, name: str, block: BlockState, names: Mapping[int, str]) -> dict[str, Any]:
        mat = rotation(block.quat_xyzw)
        fingers = {link for body, link in block.contacts if body == ROBOT}
        on = {names.get(body, "plane" if body == PLANE else "") for body, _ in block.contacts if body != TABLE}
        on |= {_TABLE_LINKS.get(link, "table") for body, link in block.contacts if body == TABLE}
        return {
            "pos": block.position.copy(),
            "mat": mat,
            "half": self._half[name].copy(),
            "yaw": float(np.arctan2(mat[1, 0], mat[0, 0])),
            "held": all(fingers & side for side in _FINGERS),
            "on": tuple(sorted(on - {""})),
        }
