"""Where the mechanisms are now: door handle, drawer bar, lever, button, and the room behind the door and in the drawer.

Offsets are those of the links' shapes in their own frames (mees/calvin_env@797142c data/calvin_table_D, the same in
all four scenes), turned by the joints' fixed rotations.
"""

from __future__ import annotations

import numpy as np

from rdvla_bench.policies.expert.calvin.move import View
from rdvla_bench.policies.expert.geometry import FloatArray

DOOR_WIDTH = 0.28  # m, the door's panel
HANDLE = np.array([0.14, -0.043, 0.060])  # m from the slide's origin to the upper half of the handle's bar
HANDLE_HALF = 0.021  # m, half the handle's width
BAR = np.array([0.0, -0.25, 0.04])  # m from the drawer's origin to the middle of its bar
LEVER = np.array([0.0, -0.042, 0.034])  # m from the switch's origin to the middle of its bar
LEVER_WAY = np.array([0.0, 0.5, np.sqrt(0.75)])  # the lever's direction of travel, towards on
DRAWER_HALF = 0.177  # m, half the drawer's inner width
DRAWER_FRONT = -0.157  # m, y of the inside of the drawer's front while shut
DRAWER_FLOOR = 0.342  # m, height of the drawer's floor
TABLE_EDGE = -0.18  # m, y of the table's front edge
TABLE_SIDES = 0.44  # m, half the table's width
TABLE_TOP, SHELF_TOP = 0.44, 0.441  # m
BUTTON_RING = 0.045  # m, outer radius of the ring around the button


def handle(view: View) -> FloatArray:
    """Return the point (3,) of the sliding door's handle that a vertical tool meets."""
    left: FloatArray = np.array([view["joints"]["slide"]["value"], 0.0, 0.0])
    at: FloatArray = view["table"]["slide"] + HANDLE - left
    return at


def drawer_bar(view: View) -> FloatArray:
    """Return the middle (3,) of the drawer's bar."""
    at: FloatArray = view["table"]["drawer"] + BAR - np.array([0.0, view["joints"]["drawer"]["value"], 0.0])
    return at


def lever(view: View) -> FloatArray:
    """Return the middle (3,) of the switch's bar."""
    at: FloatArray = view["table"]["switch"] + LEVER + LEVER_WAY * view["joints"]["switch"]["value"]
    return at


def openings(view: View) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the spans of x, left and right of the door, in which the cupboard is open."""
    low, high = (float(x) for x in view["table"]["cupboard"])
    left = float(view["table"]["slide"][0]) - view["joints"]["slide"]["value"]
    return (low, min(left, high)), (max(left + DOOR_WIDTH, low), high)


def drawer_room(view: View) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the spans of x and of y that lie open in the drawer."""
    x = float(view["table"]["drawer"][0])
    return (x - DRAWER_HALF, x + DRAWER_HALF), (DRAWER_FRONT - view["joints"]["drawer"]["value"], TABLE_EDGE)
