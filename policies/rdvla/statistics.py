"""``dataset_statistics.json``: the bounds that turn the network's [-1, 1] into physical units and back.

The released scale is BOUNDS_Q99: the 1st and 99th percentile of the training data lie at -1 and +1. Weights trained on
our own demonstrations have their smallest and largest values there. Dimensions that the mask leaves out (the gripper)
are not scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.errors import UsageError, nearest

Floats = NDArray[np.float64]
Names = tuple[str, str]
PERCENTILES: Names = ("q01", "q99")
EXTREMES: Names = ("min", "max")
_TINY = 1e-8  # released code; keeps a dimension that never moved finite


@dataclass(frozen=True, eq=False)
class Bounds:
    """Scale of one kind of vector, dimension by dimension."""

    low: Floats
    high: Floats
    mask: NDArray[np.bool_]  # False: left as it is
    names: Names = PERCENTILES  # what low and high are

    def describe(self) -> dict[str, list[Any]]:
        """Return plain data for the policy card."""
        low, high = self.names
        return {low: self.low.tolist(), high: self.high.tolist(), "mask": self.mask.tolist()}

    def normalise(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map physical units to [-1, 1], clipped; the dimensions left out of the mask are clipped too."""
        scaled = 2.0 * (values - self.low) / (self.high - self.low + _TINY) - 1.0
        return np.clip(np.where(self.mask, scaled, values), -1.0, 1.0).astype(np.float32)

    def restore(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map the network's output to physical units; not clipped, as released."""
        wide = 0.5 * (values + 1.0) * (self.high - self.low + _TINY) + self.low
        return np.where(self.mask, wide, values).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Statistics:
    """One data set's bounds."""

    key: str  # "<suite>_no_noops" in the released files
    action: Bounds
    proprio: Bounds


def parse(document: Mapping[str, Any], key: str | None, action: int, proprio: int, where: str) -> Statistics:
    """Read the entry ``key``, which may be None where there is one entry alone; widths are ``action``, ``proprio``.

    Raises:
        UsageError: naming the available keys, or the field that is missing or of another length.
    """
    available = ", ".join(document) or "none"
    if key is None:
        if len(document) != 1:
            raise UsageError(f"{where}: {len(document)} data sets; choose one with --set unnorm_key=, of: {available}")
        key = next(iter(document))
    if key not in document:
        raise UsageError(f"{where}: no statistics '{key}'.{nearest(key, document)} (available: {available})")
    entry, at = document[key], f"{where}: {key}"
    return Statistics(key, _bounds(entry, "action", action, at), _bounds(entry, "proprio", proprio, at))


def _bounds(entry: Any, kind: str, width: int, at: str) -> Bounds:
    fields = entry.get(kind) if isinstance(entry, Mapping) else None
    if not isinstance(fields, Mapping):
        raise UsageError(f"{at}: no '{kind}' statistics")
    has_percentiles = any(name in fields for name in PERCENTILES)  # released files have both
    names = EXTREMES if "min" in fields and not has_percentiles else PERCENTILES
    low, high = (_vector(fields, name, width, f"{at}.{kind}") for name in names)
    if not (low <= high).all():
        raise UsageError(f"{at}.{kind}: {names[0]} exceeds {names[1]} in dimension {int(np.argmax(low > high))}")
    mask = _vector(fields, "mask", width, f"{at}.{kind}") != 0 if "mask" in fields else np.ones(width, np.bool_)
    return Bounds(low, high, mask, names)


def _vector(fields: Mapping[str, Any], name: str, width: int, at: str) -> Floats:
    if name not in fields:
        raise UsageError(f"{at}: no '{name}'")
    try:
        values = np.asarray(fields[name], np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{at}.{name}: expected {width} numbers, got {fields[name]!r:.60}") from error
    if values.shape != (width,):
        raise UsageError(f"{at}.{name}: expected {width} numbers, got shape {values.shape}: another embodiment?")
    if not np.isfinite(values).all():
        raise UsageError(f"{at}.{name}: not finite in dimension {int(np.argmin(np.isfinite(values)))}")
    return values
