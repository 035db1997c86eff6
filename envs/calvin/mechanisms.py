"""Button, switch and the two lights they work: the logic that runs once a control step, beside the physics.

mees/calvin_env@797142c scene/objects/{button,switch,light}.py ("main") and @1431a46 ("pinned").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rdvla_bench.envs.calvin.scenes import BUTTON_RANGE, SWITCH_RANGE

ButtonReset = Literal["main", "pinned"]
BUTTON_RESETS: tuple[ButtonReset, ...] = ("main", "pinned")
"""What a reset makes of the button: "pinned" forgets that the led is on, so that the first press does nothing."""

BRAKE_FORCE = 4.0  # N on the doors, the switch and the button (scene/objects/*.py, MAX_FORCE)
PRESSED = sum(BUTTON_RANGE) / 2
FLIPPED = sum(SWITCH_RANGE) / 2


@dataclass
class Mechanisms:
    """States of the logic.

    Non-obvious:
      * ``was_pressed`` is not touched by `reset`, as upstream; a rebuilt world starts with False.
      * A switch that stands beyond its middle at reset turns its light on at the first step.
    """

    button_reset: ButtonReset = "main"
    led: bool = False
    bulb: bool = False
    button_on: bool = False
    was_pressed: bool = False
    switch_on: bool = False

    def reset(self, *, led: bool, bulb: bool) -> None:
        """Take over the lights of a start."""
        self.led, self.bulb = led, bulb
        self.button_on = led if self.button_reset == "main" else False
        self.switch_on = False

    def step(self, button: float, switch: float) -> None:
        """One control step with the joints' positions in m: the button toggles on its way down, the switch follows."""
        pressed = button > PRESSED
        if pressed and not self.was_pressed:
            self.button_on = not self.button_on
            self.led = self.button_on
        self.was_pressed = pressed
        flipped = switch > FLIPPED
        if flipped != self.switch_on:
            self.bulb = flipped
        self.switch_on = flipped
