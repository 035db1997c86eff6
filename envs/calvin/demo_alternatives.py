"""What the frames of a recorded chain might be about instead: any task that was possible when theirs began."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rdvla_bench.envs.calvin.demo_starts import can_follow, words
from rdvla_bench.envs.calvin.sequences import State
from rdvla_bench.envs.calvin.snapshot import Floats
from rdvla_bench.envs.calvin.starts import DRAWER, FIRST_POSE, LED, LIGHTBULB, SLIDE
from rdvla_bench.envs.calvin.suites import SCENE_OF, TASKS
from rdvla_bench.types import Observation

_DOOR_STILL = 2e-3  # m
_BLOCK_STILL = 3e-3  # m
_FAMILIES: tuple[tuple[str, ...], ...] = (
    ("open_drawer", "close_drawer"),
    ("push_into_drawer",),
    ("turn_on_led", "turn_off_led"),
    tuple(task for task in TASKS if task.startswith("lift_")),
    ("turn_on_lightbulb", "turn_off_lightbulb"),
    tuple(task for task in TASKS if task.startswith("push_") and task != "push_into_drawer"),
    tuple(task for task in TASKS if task.startswith("rotate_")),
    ("move_slider_left", "move_slider_right"),
    ("unstack_block",),
)
"""Tasks that are alike. Those that begin with a block in hand are in none: its scene is the hand's own."""


class Alternatives:
    """What one recorded chain's frames might be about."""

    def __init__(self, suite: str, start: Mapping[str, Any]) -> None:
        """Follow the chain of ``start`` (reset options) in words."""
        self._tasks: tuple[str, ...] = tuple(start["tasks"])
        begin = words(SCENE_OF[suite], start["scene_obs"])
        self._states: list[State | None] = [begin]
        for task in self._tasks:
            state = self._states[-1]
            self._states.append(None if state is None else can_follow(state, task))
        self._is_led_drawn, self._is_drawer_drawn = "button" in start, "drawer" in start

    def families(self, subtask: int, then: Observation, now: Observation) -> tuple[tuple[str, ...], ...]:
        """Return the other tasks that were possible when subtask ``subtask`` began; none where the scene has changed.

        What is drawn elsewhere than it stands is no task's.
        """
        state = self._states[subtask]
        if state is None or state.grasped or not _is_still(then["privileged"]["scene"], now["privileged"]["scene"]):
            return ()
        possible = {
            task
            for task in TASKS
            if task != self._tasks[subtask]
            and can_follow(state, task) is not None
            and not (self._is_led_drawn and task.endswith("_led"))
            and not (self._is_drawer_drawn and "drawer" in task)
        }
        families = (tuple(task for task in family if task in possible) for family in _FAMILIES)
        return tuple(family for family in families if family)

    def restart(self, now: Observation, task: str) -> dict[str, Any]:
        """Return the reset options of this moment with one task to do."""
        scene = now["privileged"]["scene"]
        return {"robot_obs": now["proprio"].astype(np.float64), "scene_obs": scene, "tasks": (task,)}


def _is_still(then: Floats, now: Floats) -> bool:
    """Return whether doors, lights and blocks are where they were."""
    doors = [SLIDE, DRAWER]
    lights = [LIGHTBULB, LED]
    moved = (now - then)[FIRST_POSE:].reshape(-1, 6)[:, :3]
    return bool(
        np.abs(now[doors] - then[doors]).max() < _DOOR_STILL
        and (now[lights] == then[lights]).all()
        and np.abs(moved).max() < _BLOCK_STILL
    )
