"""Horizon rules: how many of a chunk's K actions are executed before the next query, given the depth spent.

Two of RD-VLA's rules exist in two senses that contradict each other, so both have a class and a name of their
own: the paper executes *fewer* actions after a long deliberation (arXiv 2602.07845, eq. 8 and 9), while the
released code's binary rule executes *more*. The paper prints no constants; each default below names its source.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rdvla_bench.errors import UsageError
from rdvla_bench.types import ActionChunk


def _require_count(rule: str, name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{rule}: {name} must be a whole number of at least 1, got {value!r}")


def _require_order(rule: str, low_name: str, low: int, high_name: str, high: int) -> None:
    if low > high:
        raise UsageError(f"{rule}: {low_name} {low} exceeds {high_name} {high}")


def _within(chunk: ActionChunk, horizon: int) -> int:
    """Return ``horizon``, cut to the length of the chunk."""
    return min(horizon, len(chunk.actions))


@dataclass(frozen=True)
class FixedHorizon:
    """Execute the same number of actions after every query."""

    n: int

    def __post_init__(self) -> None:
        """Refuse a horizon below 1."""
        _require_count("fixed horizon", "n", self.n)

    @property
    def longest(self) -> int:
        """Return the largest horizon this rule can ask for."""
        return self.n

    def __call__(self, chunk: ActionChunk) -> int:
        """Return n."""
        return _within(chunk, self.n)

    def describe(self) -> dict[str, Any]:
        """Return the rule's name and constants."""
        return {"rule": "fixed", **asdict(self)}


@dataclass(frozen=True)
class _Binary:
    tau: int
    short: int = 4  # released code, adaptive_exec
    long: int = 8  # released code, adaptive_exec

    def __post_init__(self) -> None:
        """Refuse horizons below 1, short above long, and a threshold below 1."""
        for name in ("short", "long", "tau"):
            _require_count("binary horizon", name, getattr(self, name))
        _require_order("binary horizon", "short", self.short, "long", self.long)

    @property
    def longest(self) -> int:
        """Return the largest horizon this rule can ask for."""
        return self.long


@dataclass(frozen=True)
class BinaryHorizon(_Binary):
    """Paper, eq. 8: H = long if k* <= tau else short. Deep thought means doubt, so look again soon."""

    tau: int = 8  # iterations; the paper gives no value, but remarks that k* > 8 often marks uncertain states

    def __call__(self, chunk: ActionChunk) -> int:
        """Return ``long`` up to depth tau, ``short`` above."""
        return _within(chunk, self.long if chunk.compute.depth <= self.tau else self.short)

    def describe(self) -> dict[str, Any]:
        """Return the rule's name and constants."""
        return {"rule": "binary", "sense": "paper eq. 8: deeper than tau -> short", **asdict(self)}


@dataclass(frozen=True)
class ReleasedBinaryHorizon(_Binary):
    """The released code's ``adaptive_exec``: long above the threshold, short up to it. The inverse of eq. 8."""

    tau: int = 4  # released code, adaptive_exec

    def __call__(self, chunk: ActionChunk) -> int:
        """Return ``short`` up to depth tau, ``long`` above."""
        return _within(chunk, self.short if chunk.compute.depth <= self.tau else self.long)

    def describe(self) -> dict[str, Any]:
        """Return the rule's name and constants."""
        return {"rule": "binary", "sense": "released code, inverted: deeper than tau -> long", **asdict(self)}


@dataclass(frozen=True)
class LinearDecayHorizon:
    """Paper, eq. 9: H = max(h_min, h_max - max(0, k* - tau_base)).

    The constants are those with which the equation equals the released code's table, depth 7 apart.
    """

    h_min: int = 2
    h_max: int = 8
    tau_base: int = 7

    def __post_init__(self) -> None:
        """Refuse horizons below 1, h_min above h_max, and a base below 1."""
        for name in ("h_min", "h_max", "tau_base"):
            _require_count("linear decay", name, getattr(self, name))
        _require_order("linear decay", "h_min", self.h_min, "h_max", self.h_max)

    @property
    def longest(self) -> int:
        """Return the largest horizon this rule can ask for."""
        return self.h_max

    def __call__(self, chunk: ActionChunk) -> int:
        """Return h_max up to depth tau_base, then one action fewer for each further iteration, never below h_min."""
        return _within(chunk, max(self.h_min, self.h_max - max(0, chunk.compute.depth - self.tau_base)))

    def describe(self) -> dict[str, Any]:
        """Return the rule's name and constants."""
        return {"rule": "linear-decay", "sense": "paper eq. 9", **asdict(self)}


@dataclass(frozen=True)
class ReleasedLinearDecayHorizon:
    """The released code's table: 8 up to depth 6, 7 up to depth 8, then max(2, 7 - (k* - 8)).

    Differs from eq. 9 (h_min 2, h_max 8, tau_base 7) at depth 7 alone: 7 actions here, 8 there.
    """

    @property
    def longest(self) -> int:
        """Return the largest horizon this rule can ask for."""
        return 8

    def __call__(self, chunk: ActionChunk) -> int:
        """Return the table's entry."""
        depth = chunk.compute.depth
        return _within(chunk, 8 if depth <= 6 else max(2, 7 - max(0, depth - 8)))

    def describe(self) -> dict[str, Any]:
        """Return the rule's name."""
        return {"rule": "linear-decay", "sense": "released code: 8 to depth 6, 7 to depth 8, then max(2, 7-(k*-8))"}
