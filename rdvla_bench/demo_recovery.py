"""Recovery demonstrations: a driver plays first, and the expert shows the way on from wherever that has led.

The driver has the first control steps of an episode (of a chain: of each subtask), a number drawn for it; then the
expert takes over from exactly there, and only its frames are kept. The driver's own solutions are none of ours.

A driver may be told its tool's place wrongly. It then goes beside everything, as it does of itself in scenes that it
takes for others, and what it does there, closing on nothing or standing still, is where the expert begins.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.demo_record import Demonstrator, OnPhase, Options, Started, Take, play_from, ranges
from rdvla_bench.env import BenchEnv
from rdvla_bench.errors import EnvFault, UsageError
from rdvla_bench.policy import Policy
from rdvla_bench.seeding import generator
from rdvla_bench.types import ActionChunk, Episode, Observation

USUAL = {"libero": 0.55, "calvin": 0.2}
"""Length of an undisturbed demonstration in the benchmark's step caps: docs/demonstrations.md, What it costs."""
_OTHERS = 0.5  # the same, of a benchmark that is not listed


_FLAT = 0.25  # of what a driver is told wrongly across the table, upwards: lower would only press on the table
WITHIN = 2.5
"""Usual lengths that the expert has; what takes it longer, arm at its limits, shows no way worth learning."""


def patience_of(benchmark: str) -> float:
    """Return the step cap of a demonstration, in the benchmark's own."""
    return WITHIN * USUAL.get(benchmark, _OTHERS)


@dataclass(frozen=True)
class RecoveryRecipe:
    """When the expert takes over from the driver, drawn for each episode, of a chain for each subtask.

    Most often while the task is under way, uniformly up to the step at which a demonstration usually ends: near the
    driver's first mistakes. Else later, where it has failed and does what it does then.
    """

    usual: float | None = None
    """Step at which a demonstration usually ends, in the benchmark's step caps; by default the benchmark's own."""
    late_share: float = 0.3
    """Share of the hand-overs that come later than that."""
    late: float = 2.0
    """The latest of them, in usual lengths."""
    within: float = WITHIN
    """Usual lengths that the expert has at least."""
    astray: float = 0.0
    """m, how far the driver's tool is from where it is told to be: at most, along x and y; a quarter of it along z."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UsageError: naming the value and what is allowed.
        """
        for name, holds, expected in (
            ("usual", self.usual is None or 0 < self.usual <= 1, "more than 0, at most 1"),
            ("late_share", 0 <= self.late_share <= 1, "0 to 1"),
            ("late", 1 <= self.late <= 10, "1 to 10"),
            ("within", 1 <= self.within <= 10, "1 to 10"),
            ("astray", 0 <= self.astray <= 0.5, "0 to 0.5 m"),
        ):
            if not holds:
                raise UsageError(f"recovery.{name} {getattr(self, name)}: expected {expected}")

    def of(self, benchmark: str) -> RecoveryRecipe:
        """Return the recipe with nothing left open."""
        return self if self.usual is not None else replace(self, usual=USUAL.get(benchmark, _OTHERS))

    @property
    def length(self) -> float:
        """Return the usual length in the benchmark's step caps."""
        return _OTHERS if self.usual is None else self.usual

    @property
    def patience(self) -> float:
        """Return the step cap of a recovery, the driver's part included, in the benchmark's own."""
        return self.length * (self.late + self.within)

    def describe(self) -> dict[str, Any]:
        """Return plain data for the manifest."""
        return asdict(self)


def steps_before(recipe: RecoveryRecipe, cap: int, episode: Episode, subtask: int) -> int:
    """Return the control steps that the driver has, at least one; ``cap`` is the benchmark's step cap."""
    rng = generator("hand-over", episode.seed, episode.suite, episode.task, episode.start, subtask)
    kind, where = rng.random(2)
    lengths = 1.0 + where * (recipe.late - 1.0) if kind < recipe.late_share else where
    return max(1, round(float(lengths) * recipe.length * cap))


def astray(recipe: RecoveryRecipe, episode: Episode, subtask: int) -> NDArray[np.float32]:
    """Return (3,) m, world frame: what is added to the tool's place that the driver is told throughout a task."""
    rng = generator("astray", episode.seed, episode.suite, episode.task, episode.start, subtask)
    drawn: NDArray[np.float32] = (rng.uniform(-1.0, 1.0, 3) * (recipe.astray * np.array([1.0, 1.0, _FLAT]))).astype(
        "f4"
    )
    return drawn


class Mirrored(Started):
    """An environment without cameras, and its twin with cameras that follows when somebody looks."""

    def __init__(self, env: BenchEnv, twin: BenchEnv, options: Options) -> None:
        """Wrap both; nothing of the twin is drawn but what is looked at, and a chain's subtasks' ends."""
        super().__init__(env, options)
        self._twin = Started(twin, options)
        self._behind: list[list[NDArray[np.float32]]] = [[]]  # executed here and not there, a subtask a list
        self._steps = self._subtask = 0
        self._seen: Observation | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start both."""
        self._seen, _ = self._twin.reset(seed=seed, options=options)
        self._behind, self._steps, self._subtask = [[]], 0, 0
        return super().reset(seed=seed, options=options)

    def step_chunk(self, actions: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Run the chunk here, and note what the twin has to catch up with."""
        answer = super().step_chunk(actions)
        info = answer[-1]
        self._behind[-1].append(actions[: int(info["steps"]) - self._steps])
        self._steps = int(info["steps"])
        if info.get("subtask", 0) != self._subtask:
            self._subtask = int(info["subtask"])
            self._behind.append([])
        return answer

    def look(self, obs: Observation) -> Observation:
        """Return ``obs`` with pictures, the twin having caught up.

        Raises:
            EnvFault: the twin is not where it should be: the simulator is not deterministic.
        """
        for chunk in self._behind:
            if chunk:
                self._seen, *_ = self._twin.step_chunk(np.concatenate(chunk))
        self._behind = [[]]
        if self._seen is None or not np.array_equal(self._seen["proprio"], obs["proprio"]):
            raise EnvFault(f"with cameras the simulator is elsewhere at step {self._steps} than without")
        return {**obs, "images": self._seen["images"]}


@dataclass(frozen=True, eq=False)
class _Turn:
    driver: Any
    expert: Any  # the demonstrator's state
    left: int  # control steps until the hand-over
    off: NDArray[np.float32]  # (3,) m, by how much the driver is told its tool to be elsewhere
    subtask: int = 0
    has_seen: bool = False  # the expert has seen the start of this task
    is_handed: bool = False


@dataclass(eq=False)
class Relay(Policy):
    """Lets the driver play, then the demonstrator; serves one episode."""

    driver: Policy
    demonstrator: Demonstrator
    recipe: RecoveryRecipe
    cap: int  # the benchmark's step cap
    max_horizon: int | None
    look: Callable[[Observation], Observation] = lambda obs: obs
    driven: list[bool] = field(default_factory=list)  # a query: whether it was the driver's

    def __post_init__(self) -> None:
        """Take over the expert's card."""
        self.card = self.demonstrator.card

    def initial_state(self, episode: Episode) -> _Turn:
        """Draw the first hand-over."""
        left, off = self._drawn(episode, 0)
        return _Turn(self.driver.initial_state(episode), self.demonstrator.initial_state(episode), left, off)

    def next_subtask(self, state: _Turn, episode: Episode) -> _Turn:
        """Tell both, and draw the next hand-over."""
        subtask = state.subtask + 1
        left, off = self._drawn(episode, subtask)
        driver = self.driver.next_subtask(state.driver, episode)
        return _Turn(driver, self.demonstrator.next_subtask(state.expert, episode), left, off, subtask)

    def _drawn(self, episode: Episode, subtask: int) -> tuple[int, NDArray[np.float32]]:
        return steps_before(self.recipe, self.cap, episode, subtask), astray(self.recipe, episode, subtask)

    def act(self, obs: Observation, state: _Turn, rng: np.random.Generator) -> tuple[ActionChunk, _Turn]:
        """Return the driver's next actions up to the hand-over, or the demonstrator's next one."""
        if not state.has_seen:
            state = replace(state, expert=self.demonstrator.watch(obs, state.expert, deepcopy(rng)), has_seen=True)
        self.driven.append(state.left > 0)
        if state.left > 0:
            answer, driver = self.driver.act(self._shown(obs, state.off), state.driver, rng)
            n = min(self.driver.horizon(answer), self.max_horizon or state.left, state.left)
            return ActionChunk(answer.actions[:n]), replace(state, driver=driver, left=state.left - n)
        if not state.is_handed:
            state = replace(state, expert=self.demonstrator.take_over(state.expert), is_handed=True)
        answer, expert = self.demonstrator.act(obs, state.expert, rng)
        return answer, replace(state, expert=expert)

    def _shown(self, obs: Observation, off: NDArray[np.float32]) -> Observation:
        """Return what the driver may see, its tool said to be ``off`` from where it is."""
        card = self.driver.card
        seen = self.look(obs) if card.cameras else obs
        if off.any():
            place, rest = seen["proprio"][:3], seen["proprio"][3:]
            seen = {**seen, "proprio": np.concatenate([place + off, rest])}
        if not card.privileged:
            seen = {"images": seen["images"], "proprio": seen["proprio"], "instruction": seen["instruction"]}
        return seen


def recover(
    make_env: Callable[[], BenchEnv],
    make_twin: Callable[[], BenchEnv],
    relay: Relay,
    episode: Episode,
    options: Options,
    on_phase: OnPhase,
) -> Take:
    """Run the first pass; ``make_twin`` gives the environment with cameras, and is asked if the driver reads them.

    A segment begins at its hand-over; of a task that the driver solved it is empty.
    """

    def started() -> BenchEnv:
        if not relay.driver.card.cameras:
            return Started(make_env(), options)
        env = Mirrored(make_env(), make_twin(), options)
        relay.look = env.look
        return env

    result, trace = play_from(started, relay, episode, on_phase)
    executed, own = trace.executed(), relay.demonstrator
    is_own = ~np.repeat(np.array(relay.driven[: len(trace.horizons)], np.bool_), trace.horizons)
    n = int(is_own.sum())
    labels, clean, said = executed.copy(), np.zeros(len(is_own), np.bool_), np.full(len(is_own), "", object)
    labels[is_own] = np.array(own.labels[:n], np.float32).reshape(n, executed.shape[1])
    clean[is_own], said[is_own] = own.clean[:n], own.told[:n]
    segments = tuple((end - int(is_own[first:end].sum()), end) for first, end in ranges(result))
    told = tuple(str(said[end - 1]) for _, end in segments)
    return Take(result, labels, executed, clean, segments, told)
