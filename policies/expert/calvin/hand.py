"""The scripted expert for CALVIN: follows a program of moves and plans anew when one ends or fails."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.policies.expert.calvin.move import Move, View, action, correct, is_over, is_void
from rdvla_bench.policies.expert.calvin.planner import plan
from rdvla_bench.policies.expert.geometry import FloatArray

_SLIPPED = 3  # control steps without contact of both fingers after which a block counts as lost
_STILL = 0.12  # of an action unit, 2 mm or 0.006 rad: what moves less creeps
_STOOD = 3  # control steps of that after which a move counts as done, arrived or not


@dataclass(frozen=True, eq=False)
class Progress:
    """Where a subtask stands: the program, the move of it in hand, and how the blocks lay when it began."""

    task: str = ""
    start: FloatArray = field(default_factory=lambda: np.zeros((3, 4)))  # x, y, z, yaw of the blocks
    program: tuple[Move, ...] = ()
    index: int = 0
    ticks: int = 0  # control steps spent on this move
    stood: int = 0  # of these the last ones that asked for no motion
    loose: int = 0  # control steps since the block to keep was last between the fingers
    attempt: int = -1  # programs begun before this one
    bias: FloatArray = field(default_factory=lambda: np.zeros(6))  # what the arm's error has asked for on top


def advance(view: View, now: Progress) -> Progress:
    """Return the progress with its present move not yet over: step on, abandon, or plan anew."""
    if now.task != view["task"]:
        lay = np.array([[*block["pos"], block["yaw"]] for block in view["blocks"].values()])
        now = Progress(task=view["task"], start=lay, bias=now.bias)
    if now.index < len(now.program):
        move = now.program[now.index]
        lost = bool(move.keep) and not view["blocks"][move.keep]["held"]
        now = replace(now, loose=now.loose + 1 if lost else 0)
        if is_void(view, move):
            now = replace(now, program=(), index=0, ticks=0, stood=0, loose=0, attempt=now.attempt - 1)
        elif now.loose > _SLIPPED:
            now = replace(now, program=(), index=0, ticks=0, stood=0, loose=0)
        elif is_over(view, move, now.ticks) or _is_stuck(move, now):
            now = replace(now, index=now.index + 1, ticks=0, stood=0)
    if now.index >= len(now.program):
        attempt = now.attempt + 1
        now = replace(now, program=plan(view, now.start, attempt), index=0, ticks=0, stood=0, loose=0, attempt=attempt)
    return now


def act(view: View, state: Progress) -> tuple[NDArray[np.float32], Progress]:
    """Return the next action (7,) and the progress after it."""
    now = advance(view, state)
    move = now.program[now.index]
    bias = correct(view, move, now.bias)
    command = action(view, move, bias)
    stood = now.stood + 1 if np.abs(command[:6]).max() < _STILL else 0
    return command, replace(now, ticks=now.ticks + 1, stood=stood, bias=bias)


def _is_stuck(move: Move, now: Progress) -> bool:
    """Return whether the tool stands still short of its pose: it is as far as the arm comes.

    An expert that waited there for the move's limit would teach standing still.
    """
    return not move.hold and now.stood >= _STOOD and now.ticks >= move.dwell
