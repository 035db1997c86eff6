"""Frames of a demonstration under another instruction: what the expert would have done there, had it been asked so.

A demonstration shows one task from each scene it meets, so a picture all but tells the instruction, and a network may
learn to act on the picture alone. Some frames are therefore stored once more: with the words of another task that was
possible there, and the expert's way to that. The picture is the demonstration's own; nothing is drawn for it.

Only frames whose scene is still as at the start of its task are asked about: there the suite knows what is possible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.demo_record import Counterfactual, Demonstration, OnPhase, Options, Started, play_from, spoilt
from rdvla_bench.env import BenchEnv
from rdvla_bench.policy import Policy
from rdvla_bench.seeding import generator
from rdvla_bench.types import ActionChunk, Episode, Observation, Outcome

_PATIENCE = 90  # control steps until the gripper switches or the task is solved; else the frame is left out
_SAME_PLACE = 5e-3  # m: as far as the hand may be from where it was in the frame


class Alternatives(Protocol):
    """What the frames of one demonstration might be about instead; made by ``Suite.alternatives``."""

    def families(self, subtask: int, then: Observation, now: Observation) -> Sequence[Sequence[str]]:
        """Return the other tasks that were possible when subtask number ``subtask`` began, alike ones in a family.

        ``then`` is what the expert was shown at that beginning, ``now`` at the frame; none where the scene has changed
        since.
        """
        ...

    def restart(self, now: Observation, task: str) -> Options:
        """Return the reset options that put the simulator where the frame was taken, with ``task`` to do."""
        ...


@dataclass(eq=False)
class Asked(Policy):
    """Plays the expert from one frame on until its goal is known; serves one episode."""

    expert: Policy
    chunk: int
    hand: NDArray[np.float32]  # (3,) where it was in the frame, m
    actions: list[NDArray[np.float32]] = field(default_factory=list)
    goal: NDArray[np.float32] | None = None
    instruction: str = ""
    is_done: bool = False

    def __post_init__(self) -> None:
        """Take over the expert's card."""
        self.card = self.expert.card

    def initial_state(self, episode: Episode) -> Any:
        """Begin."""
        return self.expert.initial_state(episode)

    def next_subtask(self, state: Any, episode: Episode) -> Any:
        """Go on; there is one task alone."""
        return self.expert.next_subtask(state, episode)

    def act(self, obs: Observation, state: Any, rng: np.random.Generator) -> tuple[ActionChunk, Any]:
        """Return the expert's next action, and write it down."""
        answer, state = self.expert.act(obs, state, rng)
        action = np.array(answer.actions[0], np.float32)
        self.instruction = obs["instruction"]
        if not self.actions:
            self.is_done = bool(np.abs(obs["proprio"][:3] - self.hand).max() > _SAME_PLACE)
        elif len(self.actions) >= self.chunk and action[-1] != self.actions[-1][-1]:
            self.goal, self.is_done = obs["proprio"], True
        self.actions.append(action)
        self.is_done = self.is_done or len(self.actions) == _PATIENCE
        return ActionChunk(action[None]), state

    def answer(self, row: int) -> Counterfactual | None:
        """Return the frame under its other instruction, or None where the expert did not get to a goal."""
        if self.goal is None:
            return None
        chunk = np.stack(self.actions[: self.chunk])
        chunk = np.concatenate([chunk, np.repeat(chunk[-1:], self.chunk - len(chunk), axis=0)])
        return Counterfactual(row, self.instruction, chunk, self.goal)


class Briefly(Started):
    """An environment that ends the episode once the one who was asked has answered."""

    def __init__(self, env: BenchEnv, options: Options, asked: Asked) -> None:
        """Wrap ``env``."""
        super().__init__(env, options)
        self._asked = asked

    def step_chunk(self, actions: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Run the chunk; where it solves the task, that is the goal."""
        obs, reward, terminated, truncated, info = super().step_chunk(actions)
        if terminated and self._asked.goal is None:
            self._asked.goal = obs["proprio"]
        return obs, reward, terminated, truncated or self._asked.is_done, info


def ask_otherwise(
    make_env: Callable[[], BenchEnv],
    expert: Policy,
    demonstration: Demonstration,
    alternatives: Alternatives,
    n: int,
    on_phase: OnPhase,
) -> Demonstration:
    """Return the demonstration with up to ``n`` of its frames under another instruction too.

    Each task's first frame comes first, then others at random; of the possible families one is drawn, and one of its
    tasks. ``make_env`` gives the environment of the first pass. An error there makes the demonstration an ERROR.
    """
    episode, take = demonstration.episode, demonstration.take
    rng = generator("counterfactual", episode.suite, episode.seed, episode.start)
    found: list[Counterfactual] = []
    for frame in _chosen(_possible(demonstration, alternatives), n, rng):
        family = frame.families[int(rng.integers(len(frame.families)))]
        task = family[int(rng.integers(len(family)))]
        now = take.seen[int(demonstration.frames[frame.row])]
        asked = Asked(expert, demonstration.chunks.shape[1], now["proprio"][:3])
        options = alternatives.restart(now, task)
        result, _ = play_from(_briefly(make_env, options, asked), asked, episode, on_phase)
        if result.outcome is Outcome.ERROR:
            return spoilt(episode, take, result.culprit, result.error)
        answer = asked.answer(frame.row)
        found += [answer] if answer else []
    return replace(demonstration, counterfactuals=tuple(found))


def _briefly(make_env: Callable[[], BenchEnv], options: Options, asked: Asked) -> Callable[[], BenchEnv]:
    return lambda: Briefly(make_env(), options, asked)


@dataclass(frozen=True)
class _Possible:
    row: int  # of the kept frames
    is_first: bool  # of its task
    families: Sequence[Sequence[str]]


def _possible(demonstration: Demonstration, alternatives: Alternatives) -> list[_Possible]:
    """Return the frames that could be about something else."""
    frames, take = demonstration.frames, demonstration.take
    found: list[_Possible] = []
    for subtask, (first, end) in enumerate(take.segments):
        for row in np.flatnonzero((frames >= first) & (frames < end)).tolist():
            step = int(frames[row])
            if families := alternatives.families(subtask, take.seen[first], take.seen[step]):
                found.append(_Possible(row, step == first, families))
    return found


def _chosen(possible: Sequence[_Possible], n: int, rng: np.random.Generator) -> list[_Possible]:
    """Return up to ``n`` frames: those that begin their tasks, then others at random."""
    others = [possible[i] for i in rng.permutation(len(possible)) if not possible[i].is_first]
    return [*(frame for frame in possible if frame.is_first), *others][:n]
