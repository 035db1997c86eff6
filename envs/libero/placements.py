"""Where demonstrations of LIBERO start: placements drawn anew, none of the benchmark's saved states."""

from __future__ import annotations

from rdvla_bench.errors import UsageError

MAX_SPREAD = 0.1
"""Metres; further out, what an instruction says of places is no longer so."""
_A_SEED = 1_000_000  # placements that belong to one seed


def demo_start(suite: str, task: int, seed: int, number: int, spread: float = 0.0) -> dict[str, float]:
    """Return the reset options of demonstration ``number``; the environment knows its suite and task.

    Raises:
        UsageError: a spread in m that is outside what instructions bear.
    """
    del suite, task
    require_spread(spread)
    placement: dict[str, float] = {"placement": seed * _A_SEED + number}
    return placement | {"spread": spread} if spread else placement


def require_spread(spread: float) -> None:
    """Refuse a spread that is negative, too wide or no number.

    Raises:
        UsageError.
    """
    if not 0.0 <= spread <= MAX_SPREAD:
        raise UsageError(f"spread {spread}: expected 0 to {MAX_SPREAD} m")
