"""Exit rules: after which iteration of the recurrent core a query stops.

A rule sees chunks as the head puts them out (normalised, not clipped) and knows nothing of the model. The change
of a chunk has two scales that are often confused: the paper's eq. 7 writes the squared L2 norm, its code and its
Table II use the *mean* square, which is smaller by the number of values, 8 x 7 = 56.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.errors import UsageError

MAX_DEPTH = 1024  # a guard against typing errors; the paper trains up to 64


class ExitRule(Protocol):
    """Decides for each sample of a batch on its own.

    The loop asks ``reads(depth)`` before it decodes a chunk, so iterations whose chunk nobody reads cost no coda.
    A rule that scores something else than the chunk's change is a rule with another ``value``.
    """

    @property
    def max_depth(self) -> int:
        """Return the depth at which every sample stops."""

    def reads(self, depth: int) -> bool:
        """Return whether the chunk after ``depth`` iterations is needed to decide."""

    def value(self, previous: NDArray[np.float32], current: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the criterion (B,) between two successive chunks (B, K, A)."""

    def stops(self, value: float) -> bool:
        """Return whether a sample with this criterion stops."""

    def describe(self) -> dict[str, Any]:
        """Return the rule's name, scale and constants, as recorded on the policy card."""


def _require_depth(name: str, value: int, low: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= MAX_DEPTH:
        raise UsageError(f"{name} must be a whole number from {low} to {MAX_DEPTH}, got {value!r}")


@dataclass(frozen=True)
class FixedDepth:
    """Stop after ``depth`` iterations, whatever the chunk does; reads no chunk and leaves no trace."""

    depth: int = 12  # Table I, "Fixed"

    def __post_init__(self) -> None:
        """Refuse a depth below 1."""
        _require_depth("depth", self.depth)

    @property
    def max_depth(self) -> int:
        """Return the depth."""
        return self.depth

    def reads(self, depth: int) -> bool:
        """Return False: nothing is compared."""
        return False

    def value(self, previous: NDArray[np.float32], current: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return NaN for each sample: there is no criterion."""
        return np.full(len(current), np.nan)

    def stops(self, value: float) -> bool:
        """Return False: only the depth stops."""
        return False

    def describe(self) -> dict[str, Any]:
        """Return the rule's name and depth."""
        return {"rule": "fixed-depth", **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class _Change:
    """Two successive chunks are compared from ``min_depth`` on; at depth 1 there is nothing to compare with."""

    max_depth: int = 32  # released code, --recurrence_max_iter
    min_depth: int = 2  # released code: the earliest exit

    def __post_init__(self) -> None:
        """Refuse depths out of order."""
        _require_depth("max_depth", self.max_depth)
        _require_depth("min_depth", self.min_depth, low=2)
        if self.min_depth > self.max_depth:
            raise UsageError(f"min_depth {self.min_depth} exceeds max_depth {self.max_depth}")

    def reads(self, depth: int) -> bool:
        """Return whether this chunk is one side of a comparison."""
        return depth >= self.min_depth - 1


def _require_delta(delta: float) -> None:
    if not (np.isfinite(delta) and delta > 0):
        raise UsageError(f"delta must be a finite number above 0, got {delta!r}")


def _squared(previous: NDArray[np.float32], current: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.square(current.astype(np.float64) - previous.astype(np.float64))  # (B, K, A)


@dataclass(frozen=True, kw_only=True)
class MeanSquaredChange(_Change):
    """Stop at the first k with mean((a_k - a_{k-1})^2) < delta over the K x A values (released code, Table II)."""

    delta: float = 5e-4  # Table I, "Adaptive"

    def __post_init__(self) -> None:
        """Refuse a delta that is not above 0."""
        super().__post_init__()
        _require_delta(self.delta)

    def value(self, previous: NDArray[np.float32], current: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the mean square of the change."""
        mean: NDArray[np.float64] = _squared(previous, current).mean(axis=(-2, -1))
        return mean

    def stops(self, value: float) -> bool:
        """Return whether the change is below delta."""
        return value < self.delta

    def describe(self) -> dict[str, Any]:
        """Return the rule's name, scale and constants."""
        return {"rule": "chunk-change", "scale": "mean square (code, Table II)", **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class L2SquaredChange(_Change):
    """Stop at the first k with ||a_k - a_{k-1}||_2^2 < delta (paper, eq. 7): K x A = 56 times the mean square."""

    delta: float = 1e-3  # paper, "e.g."

    def __post_init__(self) -> None:
        """Refuse a delta that is not above 0."""
        super().__post_init__()
        _require_delta(self.delta)

    def value(self, previous: NDArray[np.float32], current: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the squared L2 norm of the change."""
        total: NDArray[np.float64] = _squared(previous, current).sum(axis=(-2, -1))
        return total

    def stops(self, value: float) -> bool:
        """Return whether the change is below delta."""
        return value < self.delta

    def describe(self) -> dict[str, Any]:
        """Return the rule's name, scale and constants."""
        return {"rule": "chunk-change", "scale": "squared L2 norm (paper eq. 7)", **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class CosineSimilarity(_Change):
    """Stop at the first k whose chunk, flattened, has a cosine above ``threshold`` with the one before."""

    threshold: float = 0.999  # released code

    def __post_init__(self) -> None:
        """Refuse a threshold that no cosine can pass."""
        super().__post_init__()
        if not -1 <= self.threshold < 1:
            raise UsageError(f"threshold must be a cosine from -1 up to, not including, 1, got {self.threshold!r}")

    def value(self, previous: NDArray[np.float32], current: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the cosine; 0 where a chunk is all zeros."""
        a = previous.reshape(len(previous), -1).astype(np.float64)
        b = current.reshape(len(current), -1).astype(np.float64)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosine: NDArray[np.float64] = np.divide((a * b).sum(axis=1), norms, out=np.zeros(len(a)), where=norms > 0)
        return cosine

    def stops(self, value: float) -> bool:
        """Return whether the cosine is above the threshold."""
        return value > self.threshold

    def describe(self) -> dict[str, Any]:
        """Return the rule's name, scale and constants."""
        return {"rule": "cosine", "scale": "cosine of successive chunks", **asdict(self)}
