"""Scripted experts for LIBERO and CALVIN, from privileged state."""

from __future__ import annotations

from rdvla_bench.policy import Policy


def expert() -> Policy:
    """Build the scripted expert, deterministic."""
    from rdvla_bench.policies.expert.scripted import Expert

    return Expert()


def expert_noisy(noise: float = 0.1) -> Policy:
    """Build the scripted expert with Gaussian noise of standard deviation ``noise`` on the executed motion."""
    from rdvla_bench.policies.expert.scripted import Expert

    return Expert(noise=noise, name="expert-noisy")
