"""Which of the 34 tasks hold, judged from the world at a subtask's start and the world now.

Each rule restates what mees/calvin_env@797142c calvin_env/envs/tasks.py with conf/tasks/new_playtable_tasks.yaml
decides, not what its docstrings promise: scores are comparable only if the traps are kept.

Non-obvious:
    * ``push_into_drawer`` does not mind the robot's touch at the end: the original's clause against it compares a
      number with pairs and can never fail.
    * Lifting, placing, stacking and unstacking look at every body in contact, the plane included. A placement whose
      robot touches anything besides the block at its start cannot succeed any more.
    * Thresholds are strict, except the 0.1 m that a rotated block may stray.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.envs.calvin.snapshot import (
    BASE_LINK,
    DRAWER_LINK,
    PLANK_LINK,
    ROBOT,
    TABLE,
    BlockState,
    Contact,
    Floats,
    Snapshot,
)
from rdvla_bench.envs.calvin.suites import TASKS
from rdvla_bench.errors import UnknownName

MAX_TILT = 30.0  # degrees about x or y that a rotated block may have turned: tasks.py rotate_object
MAX_STRAY = 0.1  # m that a rotated block may have moved: the same
MAX_SPEED = 1.0  # m/s and rad/s a component, of a block at rest on another: tasks.py stack_objects


def holds(task: str, start: Snapshot, now: Snapshot) -> bool:
    """Say whether ``task`` has been done between ``start`` and ``now``.

    Raises:
        UnknownName: no such task.
    """
    return _rule(task).holds(start, now)


def achieved(start: Snapshot, now: Snapshot, tasks: Iterable[str] = TASKS) -> frozenset[str]:
    """Return those of ``tasks`` that hold; side effects count like intentions."""
    return frozenset(task for task in tasks if holds(task, start, now))


def needs_contacts(task: str) -> bool:
    """Say whether the rule of ``task`` reads contacts, at the start or now."""
    return _rule(task).needs_contacts


def rotation(quat_xyzw: Floats) -> NDArray[np.float64]:
    """Return the (3, 3) rotation matrix of a quaternion of any length but zero."""
    x, y, z, w = quat_xyzw / np.linalg.norm(quat_xyzw)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def turn(start_xyzw: Floats, now_xyzw: Floats) -> Floats:
    """Return the world-frame rotation from ``start`` to ``now`` as extrinsic xyz angles, (3,) degrees."""
    matrix = rotation(now_xyzw) @ rotation(start_xyzw).T
    x = np.arctan2(matrix[2, 1], matrix[2, 2])
    y = np.arcsin(np.clip(-matrix[2, 0], -1, 1))
    z = np.arctan2(matrix[1, 0], matrix[0, 0])
    degrees: Floats = np.rad2deg([x, y, z])
    return degrees


class Rule(Protocol):
    """What decides one task."""

    needs_contacts: ClassVar[bool]

    def holds(self, start: Snapshot, now: Snapshot) -> bool:
        """Say whether the task has been done between ``start`` and ``now``."""
        ...


@dataclass(frozen=True)
class Rotate:
    """A block turned about the vertical, still nearly in its place and standing on something."""

    needs_contacts: ClassVar[bool] = True
    block: str
    degrees: float  # signed: right is negative

    def holds(self, start: Snapshot, now: Snapshot) -> bool:
        """Say whether the task has been done between ``start`` and ``now``."""
        before, after = start.blocks[self.block], now.blocks[self.block]
        x, y, z = turn(before.quat_xyzw, after.quat_xyzw)
        turned = -180 < z < self.degrees if self.degrees < 0 else self.degrees < z < 180
        upright = abs(x) < MAX_TILT and abs(y) < MAX_TILT
        near = np.linalg.norm(after.position - before.position) <= MAX_STRAY
        return bool(turned and upright and near and _bodies(after) - {ROBOT})


@dataclass(frozen=True)
class Push:
    """A block moved along x without leaving what it stood on."""

    needs_contacts: ClassVar[bool] = True
    block: str
    dx: float  # m, signed: right is positive

    def holds(self, start: Snapshot, now: Snapshot) -> bool:
        """Say whether the task has been done between ``start`` and ``now``."""
        before, after = start.blocks[self.block], now.blocks[self.block]
        support, still = _support(before), _support(after)
        return bool(support) and support <= still and _beyond(after.position[0] - before.position[0], self.dx)


@dataclass(frozen=True)
class Move:
    """A door moved since the start."""

    needs_contacts: ClassVar[bool] = False
    door: str
    change: float  # m, signed: the slide grows to the left, the drawer as it opens

    def holds(self, start: Snapshot, now: Snapshot) -> bool:
        """Say whether the task has been done between ``start`` and ``now``."""
        return _beyond(now.doors[self.door] - start.doors[self.door], self.change)


@dataclass(frozen=True)
class Lift:
    """A block that stood on one link of the table, and that only the robot touches now."""

    needs_contacts: ClassVar[bool] = True
    block: str
    dz: float  # m
    link: int

    def holds(self, start: Snapshot, now: Snapshot) -> bool:
        """Say whether the task has been done between ``start`` and ``now``."""
        before, after = start.blocks[self.block], now.blocks[self.block]
        higher = after.position[2] - before.position[2] > self.dz
        return bool(higher) and _bodies(after) == {ROBOT} and (TABLE, self.link) in before.contacts


@dataclass(frozen=True)
class Place:
    """The block that the robot alone held, and held alone, lies on one link of the table, let go."""

    needs_contacts: ClassVar[bool] = True
    link: int

    def holds(self, start: Snapshot, now: Snapshot) -> bool:
        """Say whether the task has been done between ``start`` and ``now``."""
        held = {body for body, _ in start.robot_contacts}
        if len(held) != 1:
            return False
        for name, before in start.blocks.items():
            if before.body in held:
                let_go = before.body not in {body for body, _ in now.robot_contacts}
                return let_go and _bodies(before) == {ROBOT} and (TABLE, self.link) in now.blocks[name].contacts
        return False


@dataclass(frozen=True)
class Stack:
    """Some block that touched no other rests on blocks alone."""

    needs_contacts: ClassVar[bool] = True

    def holds(self, start: Snapshot, now: Snapshot) -> bool:
        """Say whether the task has been done between ``start`` and ``now``."""
        return any(
            not _bodies(before) & _block_bodies(start) and _rests_on_blocks(now.blocks[name], now)
            for name, before in start.blocks.items()
        )


@dataclass(frozen=True)
class Unstack:
    """Some block that rested on blocks alone touches none."""

    needs_contacts: ClassVar[bool] = True

    def holds(self, start: Snapshot, now: Snapshot) -> bool:
        """Say whether the task has been done between ``start`` and ``now``."""
        return any(
            _rests_on_blocks(before, start) and not _bodies(now.blocks[name]) & _block_bodies(now)
            for name, before in start.blocks.items()
        )


@dataclass(frozen=True)
class Toggle:
    """A light switched."""

    needs_contacts: ClassVar[bool] = False
    light: str
    on: bool

    def holds(self, start: Snapshot, now: Snapshot) -> bool:
        """Say whether the task has been done between ``start`` and ``now``."""
        return start.lights[self.light] != self.on and now.lights[self.light] == self.on


@dataclass(frozen=True)
class PushInto:
    """Some block that touched the table's top and nothing else touches the drawer."""

    needs_contacts: ClassVar[bool] = True

    def holds(self, start: Snapshot, now: Snapshot) -> bool:
        """Say whether the task has been done between ``start`` and ``now``."""
        return any(
            before.contacts == {(TABLE, BASE_LINK)} and (TABLE, DRAWER_LINK) in now.blocks[name].contacts
            for name, before in start.blocks.items()
        )


def _rule(task: str) -> Rule:
    if task not in RULES:
        raise UnknownName("CALVIN task", task, RULES, "the 34 tasks are envs/calvin/suites.py TASKS")
    return RULES[task]


def _beyond(change: float, threshold: float) -> bool:
    return bool(change > threshold if threshold > 0 else change < threshold)


def _bodies(block: BlockState) -> set[int]:
    return {body for body, _ in block.contacts}


def _support(block: BlockState) -> set[Contact]:
    return {contact for contact in block.contacts if contact[0] != ROBOT}


def _block_bodies(snapshot: Snapshot) -> set[int]:
    return {block.body for block in snapshot.blocks.values()}


def _rests_on_blocks(block: BlockState, snapshot: Snapshot) -> bool:
    bodies = _bodies(block)
    slow = (np.abs(block.linear_velocity) < MAX_SPEED).all() and (np.abs(block.angular_velocity) < MAX_SPEED).all()
    return bool(bodies) and bodies <= _block_bodies(snapshot) and bool(slow)


RULES: Mapping[str, Rule] = {
    **{f"rotate_{block}_block_right": Rotate(block, -60) for block in ("red", "blue", "pink")},
    **{f"rotate_{block}_block_left": Rotate(block, +60) for block in ("red", "blue", "pink")},
    **{f"push_{block}_block_right": Push(block, +0.1) for block in ("red", "blue", "pink")},
    **{f"push_{block}_block_left": Push(block, -0.1) for block in ("red", "blue", "pink")},
    "move_slider_left": Move("slide", +0.15),
    "move_slider_right": Move("slide", -0.15),
    "open_drawer": Move("drawer", +0.12),
    "close_drawer": Move("drawer", -0.12),
    **{f"lift_{block}_block_table": Lift(block, 0.05, BASE_LINK) for block in ("red", "blue", "pink")},
    **{f"lift_{block}_block_slider": Lift(block, 0.03, PLANK_LINK) for block in ("red", "blue", "pink")},
    **{f"lift_{block}_block_drawer": Lift(block, 0.05, DRAWER_LINK) for block in ("red", "blue", "pink")},
    "place_in_slider": Place(PLANK_LINK),
    "place_in_drawer": Place(DRAWER_LINK),
    "stack_block": Stack(),
    "unstack_block": Unstack(),
    "turn_on_lightbulb": Toggle("lightbulb", on=True),
    "turn_off_lightbulb": Toggle("lightbulb", on=False),
    "turn_on_led": Toggle("led", on=True),
    "turn_off_led": Toggle("led", on=False),
    "push_into_drawer": PushInto(),
}
"""Task -> what decides it: mees/calvin_env@797142c conf/tasks/new_playtable_tasks.yaml."""
