"""How long a phase of an episode may last before a watchdog ends it."""

from __future__ import annotations

from dataclasses import dataclass

from rdvla_bench.errors import UsageError
from rdvla_bench.rollout import Phase


@dataclass(frozen=True)
class Limits:
    """Wall seconds a phase, and attempts an episode."""

    policy_s: float = 120.0  # one answer of the policy
    env_s: float = 300.0  # building and resetting an environment, or running one chunk in it
    attempts: int = 3  # executions of an episode whose worker died or whose simulator hung

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UsageError.
        """
        if self.policy_s <= 0 or self.env_s <= 0 or self.attempts < 1:
            raise UsageError("--policy-timeout and --env-timeout must be > 0 seconds, --attempts at least 1")

    def of(self, phase: Phase) -> float:
        """Return the limit of ``phase`` in seconds."""
        return self.policy_s if phase == "policy" else self.env_s

    def message(self, phase: Phase) -> str:
        """Return what to say of a phase that outlasted its limit."""
        if phase == "policy":
            return f"the policy gave no answer within {self.policy_s:g} s (--policy-timeout)"
        return f"the simulator gave no answer within {self.env_s:g} s (--env-timeout)"
