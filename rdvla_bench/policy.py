"""The policy interface: explicit state in, chunk and state out, all randomness handed in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from rdvla_bench.card import Card
from rdvla_bench.types import ActionChunk, Episode, Observation


@runtime_checkable
class HorizonRule(Protocol):
    """How many actions of a chunk are executed before the next query."""

    def __call__(self, chunk: ActionChunk) -> int:
        """Return a number from 1 to K."""

    def describe(self) -> dict[str, Any]:
        """Return the rule's name and constants, as recorded on the policy card."""


@dataclass(frozen=True)
class WholeChunk:
    """Execute all K actions (open loop)."""

    def __call__(self, chunk: ActionChunk) -> int:
        """Return K."""
        return len(chunk.actions)

    def describe(self) -> dict[str, Any]:
        """Return the rule's name."""
        return {"rule": "whole-chunk"}


@dataclass(frozen=True)
class PolicyCard(Card):
    """Everything about a policy that its results depend on. Two cards with one hash give one result."""

    name: str
    weights: str  # "none" (no learned weights), "untrained", or what the checkpoint calls itself
    cameras: tuple[str, ...] = ()  # the cameras it reads; none are rendered for nobody
    privileged: bool = False  # reads simulator state; never comparable with a policy that sees pixels
    chunk: int = 1  # K
    horizon: Mapping[str, Any] = field(default_factory=lambda: WholeChunk().describe())
    exit_rule: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)  # every --set key with its value
    weights_sha256: str = ""


class QueryStream(Protocol):
    """Answers queries in the order in which they end; more may enter at any time."""

    def __len__(self) -> int:
        """Return how many queries are not yet answered."""

    def submit(self, obs: Observation, state: Any, rng: np.random.Generator) -> int:
        """Take one query; return its ticket.

        Raises:
            PolicyFault: this observation cannot be answered; the others are not affected.
        """

    def step(self) -> list[tuple[int, tuple[ActionChunk, Any]]]:
        """Do the smallest amount of work after which a query may end; return ticket, chunk and state of those."""


class Policy(ABC):
    """Maps observations to action chunks. One object serves many episodes; what an episode needs is in its state."""

    card: PolicyCard
    horizon: HorizonRule = WholeChunk()
    batch_is_exact: bool = False  # answers in any batch or stream have the same bits as ``act``'s

    def initial_state(self, episode: Episode) -> Any:
        """Return the state before the first query. ``episode`` is for replay and for logging, not for decisions."""
        del episode
        return None

    def next_subtask(self, state: Any, episode: Episode) -> Any:
        """Return the state before the first query of a chain's next instruction: by default a fresh one.

        mees/calvin@fa03f01 calvin_models/calvin_agent/evaluation/evaluate_policy.py rollout: ``model.reset()`` before
        each subtask.
        """
        del state
        return self.initial_state(episode)

    @abstractmethod
    def act(self, obs: Observation, state: Any, rng: np.random.Generator) -> tuple[ActionChunk, Any]:
        """Return the next chunk and the next state. Every random draw comes from ``rng``."""

    def act_batch(
        self, observations: Sequence[Observation], states: Sequence[Any], rngs: Sequence[np.random.Generator]
    ) -> list[tuple[ActionChunk, Any]]:
        """Return what ``act`` returns for each sample, whatever its neighbours; override to batch the arithmetic."""
        return [self.act(o, s, r) for o, s, r in zip(observations, states, rngs, strict=True)]

    def stream(self, slots: int) -> QueryStream | None:
        """Return a stream that works on up to ``slots`` queries at once, or None where there is only ``act_batch``."""
        del slots
        return None

    def close(self) -> None:
        """Release what the policy holds."""
        return
