"""The scripted expert: a closed-loop policy that follows programs of moves and plans anew when one ends or fails."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.policies.expert.calvin import hand as calvin
from rdvla_bench.policies.expert.geometry import View
from rdvla_bench.policies.expert.move import Move, action, is_over
from rdvla_bench.policies.expert.planner import Goal, next_goal, plan
from rdvla_bench.policy import Policy, PolicyCard
from rdvla_bench.types import ActionChunk, Episode, Observation

_SLIPPED = 4  # control steps without contact of both fingers after which an object counts as lost
_STILL = 0.12  # of an action unit, 6 mm or 0.06 rad: what asks for less creeps
_STOOD = 3  # control steps of that after which a move counts as done, arrived or not


@dataclass(frozen=True, eq=False)
class Progress:
    """Where an episode stands: the program, the move of it in hand, and what went before."""

    program: tuple[Move, ...] = ()
    index: int = 0
    ticks: int = 0  # control steps spent on this move
    stood: int = 0  # of these the last ones that asked for hardly any motion
    loose: int = 0  # control steps since the object to keep was last between the fingers
    goal: Goal | None = None
    attempt: int = 0  # programs that were abandoned for this goal


def advance(view: View, now: Progress) -> Progress:
    """Return the progress with its present move not yet over: step on, abandon, or plan anew."""
    if now.index < len(now.program):
        move = now.program[now.index]
        lost = bool(move.keep) and not view["objects"][move.keep]["held"]
        now = replace(now, loose=now.loose + 1 if lost else 0)
        if now.loose > _SLIPPED:
            now = replace(now, program=(), index=0, ticks=0, stood=0, loose=0, attempt=now.attempt + 1)
        elif is_over(view, move, now.ticks) or _is_stuck(move, now):
            now = replace(now, index=now.index + 1, ticks=0, stood=0)
    if now.index >= len(now.program):
        goal = next_goal(view)
        attempt = now.attempt if goal == now.goal else 0
        now = Progress(program=plan(view, attempt), goal=goal, attempt=attempt)
    return now


def _is_stuck(move: Move, now: Progress) -> bool:
    """Return whether the hand has all but stopped short of its pose: the last millimetres creep.

    An expert that waited there would teach standing still.
    """
    return not move.hold and now.stood >= _STOOD and now.ticks >= move.dwell


State = Progress | calvin.Progress


class Expert(Policy):
    """Acts on ``obs["privileged"]`` alone; one action a query."""

    def __init__(self, noise: float = 0.0, name: str = "expert") -> None:
        """``noise`` is the standard deviation of what is added to the six motion values, in action units."""
        self.noise = noise
        config = {"noise": noise} if name != "expert" else {}
        self.card = PolicyCard(name=name, weights="none", privileged=True, chunk=1, config=config)

    def initial_state(self, episode: Episode) -> State:
        """Return the start: nothing planned, nothing tried."""
        del episode
        return Progress()

    def take_over(self, state: State) -> State:
        """Return the state in which nothing is planned and nothing tried, but how the task began is known."""
        if isinstance(state, calvin.Progress):
            return calvin.Progress(task=state.task, start=state.start)
        return Progress()

    def act(self, obs: Observation, state: State, rng: np.random.Generator) -> tuple[ActionChunk, State]:
        """Return one action and the progress after it; what the view says it is of decides which hand acts."""
        view = obs["privileged"]
        if view.get("benchmark") == "calvin":
            command, after = calvin.act(view, state if isinstance(state, calvin.Progress) else calvin.Progress())
            return ActionChunk(actions=self._executed(command, rng)), after
        now = advance(view, state if isinstance(state, Progress) else Progress())
        move = now.program[now.index]
        command = action(view, move)
        stood = now.stood + 1 if np.abs(command[:6]).max() < _STILL else 0
        return ActionChunk(actions=self._executed(command, rng)), replace(now, ticks=now.ticks + 1, stood=stood)

    def _executed(self, command: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the chunk of one (1, 7): the command with noise on its six motion values, within bounds."""
        if self.noise > 0:
            command[:6] += rng.normal(0.0, self.noise, 6).astype(np.float32)
        chunk: NDArray[np.float32] = np.clip(command, -1.0, 1.0)[None]
        return chunk
