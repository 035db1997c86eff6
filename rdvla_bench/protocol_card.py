"""A protocol card: the versioned, named rules of an evaluation, each number with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rdvla_bench.card import Card


@dataclass(frozen=True)
class ProtocolCard(Card):
    """The rules of one evaluation."""

    name: str  # "libero/paired@1"
    summary: str
    max_steps: Mapping[str, int]  # suite -> control steps after settling before an episode (CALVIN: a subtask) is cut
    settle_steps: int  # control steps with ``settle_action`` before the policy is asked
    settle_action: tuple[float, ...]
    n_trials: int  # episodes a task that the protocol calls a full evaluation
    seeding: Literal["episode", "sequential"]  # fixtures drawn from the episode's seed | one RNG stream a task
    stream_seed: int | None  # seed of that stream for "sequential"; None for "episode"
    image_size: int | None  # H = W in pixels, as rendered; None: each camera has the size that its suite gives
    max_horizon: int | None  # cap on the actions executed a query; None leaves it to the policy's horizon rule
    gripper: str  # the convention of the last action value
    pins: Mapping[str, str]  # distribution -> version whose results this card speaks of
    sources: Mapping[str, str]  # field -> where its value comes from
    variant: Mapping[str, str] = field(default_factory=dict)  # choices that only this benchmark knows
