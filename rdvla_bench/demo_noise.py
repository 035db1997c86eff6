"""Bursts of noise on what a demonstrator executes, so that its clean actions also show the way back.

While a burst lasts, a constant direction with some jitter is added to the six motion values; the gripper is left
alone. A burst begins with a small probability a step. Near the objects it is weaker: where the hand moves slowly or
straight down, or the gripper has just opened or closed.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.errors import UsageError

_SLOW = 0.35  # length of the translation, in action units, below which the hand is about to arrive
_STEEP = 2.0  # a motion is straight down where it sinks this many times faster than it moves sideways
_AFTER_SWITCH = 8  # control steps after the gripper opened or closed

Motion = NDArray[np.float32]  # (6,) translation and rotation, in action units


@dataclass(frozen=True)
class NoiseRecipe:
    """How much, how often. Probabilities are per episode (shares) or per control step (rates)."""

    clean_share: float = 0.15  # episodes without noise
    mild_share: float = 0.60  # episodes with bursts at the mild rate; the rest has the strong one
    mild_rate: float = 0.035  # that a burst begins in a step
    strong_rate: float = 0.06
    burst_steps: tuple[int, int] = (2, 8)  # shortest and longest
    start_share: float = (
        0.5  # of the noisy episodes: those that begin with a burst; the others begin with a clean chunk
    )
    start_steps: tuple[int, int] = (4, 10)  # shortest and longest such burst
    translation_std: float = 0.5  # of a burst's direction, in action units
    rotation_std: float = 0.12
    jitter: float = 0.2  # standard deviation of the single steps of a burst, of the direction's
    careful: float = 0.5  # factor near the objects

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UsageError: naming the value and what is allowed.
        """
        for name in ("clean_share", "mild_share", "mild_rate", "strong_rate", "start_share"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0 to 1")
        _require(self.clean_share + self.mild_share <= 1, "mild_share", self.mild_share, "at most 1 - clean_share")
        for name in ("burst_steps", "start_steps"):
            low, high = getattr(self, name)
            _require(1 <= low <= high, name, (low, high), "two numbers of steps, 1 or more, ascending")
        for name in ("translation_std", "rotation_std", "jitter", "careful"):
            _require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "0 or more")

    def describe(self) -> dict[str, Any]:
        """Return plain data for the manifest."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Bursts:
    """Where an episode stands."""

    rate: float  # probability a step that a burst begins; 0 for a clean episode
    quiet: int = 0  # first control steps in which none begins
    step: int = 0
    left: int = 0  # control steps of the present burst
    direction: Motion = field(default_factory=lambda: np.zeros(6, np.float32))
    grip: float = 0.0  # the last gripper value, 0 before the first
    switched: int = -_AFTER_SWITCH  # the step at which the gripper last opened or closed


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise UsageError(f"noise.{name} {value}: expected {expected}")


def begin(recipe: NoiseRecipe, chunk: int, rng: np.random.Generator) -> Bursts:
    """Draw what kind of episode this is; ``chunk`` is the length of a clean start."""
    kind, at_start = rng.random(2)
    if kind < recipe.clean_share:
        return Bursts(rate=0.0)
    rate = recipe.mild_rate if kind < recipe.clean_share + recipe.mild_share else recipe.strong_rate
    if at_start >= recipe.start_share:
        return Bursts(rate=rate, quiet=chunk)
    return Bursts(rate=rate, left=_length(recipe.start_steps, rng), direction=_direction(recipe, rng))


def advance(
    recipe: NoiseRecipe, now: Bursts, label: NDArray[np.float32], rng: np.random.Generator
) -> tuple[Motion, Bursts]:
    """Return what is added to the motion of ``label`` (7,), zeros where no burst is on, and the state after it."""
    grip = float(np.sign(label[6]))
    if now.grip not in (0.0, grip):
        now = replace(now, switched=now.step)
    now = replace(now, grip=grip, step=now.step + 1)
    starts, jitter = rng.random(), rng.normal(0.0, recipe.jitter, 6)
    if not now.left and now.step > now.quiet and starts < now.rate:
        now = replace(now, left=_length(recipe.burst_steps, rng), direction=_direction(recipe, rng))
    if not now.left:
        return np.zeros(6, np.float32), now
    scale = recipe.careful if _is_delicate(label, now) else 1.0
    noise = scale * (now.direction + jitter * _stds(recipe))
    return noise.astype(np.float32), replace(now, left=now.left - 1)


def _is_delicate(label: NDArray[np.float32], now: Bursts) -> bool:
    """Return whether the hand arrives, sinks, or has just opened or closed."""
    sideways, down = float(np.linalg.norm(label[:2])), -float(label[2])
    is_slow = float(np.linalg.norm(label[:3])) < _SLOW
    return is_slow or down > _STEEP * sideways or now.step - now.switched <= _AFTER_SWITCH


def _stds(recipe: NoiseRecipe) -> NDArray[np.float64]:
    return np.repeat([recipe.translation_std, recipe.rotation_std], 3)


def _direction(recipe: NoiseRecipe, rng: np.random.Generator) -> Motion:
    direction: Motion = rng.normal(0.0, _stds(recipe)).astype(np.float32)
    return direction


def _length(steps: tuple[int, int], rng: np.random.Generator) -> int:
    return int(rng.integers(steps[0], steps[1] + 1))
