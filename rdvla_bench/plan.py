"""The plan of a run: from what was asked for to a fixed list of episodes, and what makes two runs the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rdvla_bench.errors import UsageError
from rdvla_bench.protocol_card import ProtocolCard
from rdvla_bench.suite import Suite
from rdvla_bench.types import Episode


@dataclass(frozen=True)
class Plan:
    """What a run evaluates. Workers, machines and timeouts are not part of it: they change no result."""

    policy: str
    settings: Mapping[str, str]  # --set texts
    protocol: ProtocolCard
    suites: tuple[Suite, ...]
    tasks: Mapping[str, tuple[int, ...]]  # suite -> task indices
    n_episodes: int  # a task
    seed: int
    env: Mapping[str, str] = field(default_factory=dict)  # --env texts, paths absolute

    def __post_init__(self) -> None:
        """Check what the parts cannot check alone.

        Raises:
            UsageError: no episodes, or a suite that the protocol card does not cover.
        """
        if self.n_episodes < 1:
            raise UsageError(f"--episodes {self.n_episodes}: expected at least 1 a task, or 'full'")
        if not 0 <= self.seed < 1 << 63:
            raise UsageError(f"--seed {self.seed}: expected 0..2^63-1")
        for suite in self.suites:
            if suite.name not in self.protocol.max_steps:
                covered = ", ".join(self.protocol.max_steps)
                raise UsageError(
                    f"protocol card {self.protocol.name} does not cover suite '{suite.name}', only {covered}"
                )

    def episodes(self) -> list[Episode]:
        """Return every episode, in the order of the board. After the last start state they begin again."""
        return [
            Episode(suite.name, task, i % suite.n_starts, i // suite.n_starts, self.seed)
            for suite in self.suites
            for task in self.tasks[suite.name]
            for i in range(self.n_episodes)
        ]

    @property
    def benchmark(self) -> str:
        """Return the one benchmark that the suites belong to."""
        return self.suites[0].benchmark

    @property
    def n_planned(self) -> int:
        """Return how many episodes there are."""
        return self.n_episodes * sum(len(self.tasks[suite.name]) for suite in self.suites)

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for a run to be continued."""
        return {
            "policy": self.policy,
            "settings": dict(sorted(self.settings.items())),
            "env": dict(sorted(self.env.items())),
            "protocol": self.protocol.name,
            "protocol_hash": self.protocol.hash,
            "suites": [suite.name for suite in self.suites],
            "tasks": {name: list(ids) for name, ids in self.tasks.items()},
            "episodes": self.n_episodes,
            "seed": self.seed,
        }

    @property
    def default_out(self) -> str:
        """Return the folder name used where none is given; the same call finds its run again."""
        text = json.dumps(self.identity(), sort_keys=True)
        return f"runs/{self.policy}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return ``key: there != here`` for each key whose values differ."""
    return [
        f"{key}: {json.dumps(there.get(key))} there, {json.dumps(here.get(key))} here"
        for key in sorted({*there, *here})
        if there.get(key) != here.get(key)
    ]
