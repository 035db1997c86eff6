"""What the oracle reads of the world at one moment: two of these decide which tasks hold.

Body numbers are the original environment's (mees/calvin_env@797142c, order of loading): its rules name links of the
table by number, and so do the contacts here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Contact = tuple[int, int]  # the other body's number and its link

ROBOT = 0
FIRST_BLOCK = 2  # the three blocks follow each other in the scene's own order
TABLE = 5
PLANE = 6

BASE_LINK = -1
DRAWER_LINK = 3
PLANK_LINK = 6
"""Links of the table. The plank is the shelf behind the sliding door."""


@dataclass(frozen=True, eq=False)
class BlockState:
    """One block."""

    body: int
    position: Floats  # (3,) m, world frame
    quat_xyzw: Floats  # (4,)
    linear_velocity: Floats  # (3,) m/s
    angular_velocity: Floats  # (3,) rad/s
    contacts: frozenset[Contact]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The part of the world's state on which the 34 rules depend."""

    blocks: Mapping[str, BlockState]  # "red", "blue", "pink"
    doors: Mapping[str, float]  # "slide", "drawer": joint position in m
    lights: Mapping[str, bool]  # "lightbulb", "led"
    robot_contacts: frozenset[Contact]  # of all links of the robot
