"""Where demonstrations of LIBERO start: placements drawn anew, none of the benchmark's saved states."""

from __future__ import annotations

_A_SEED = 1_000_000  # placements that belong to one seed


def demo_start(suite: str, task: int, seed: int, number: int, spread: float = 0.0) -> dict[str, float]:
    """Return the reset options of demonstration ``number``; the environment knows its suite and task."""
    del suite, task
    placement: dict[str, float] = {"placement": seed * _A_SEED + number}
    return placement | {"spread": spread} if spread else placement
