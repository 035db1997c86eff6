"""A sweep: one run for each value of a setting, on the same episodes, all in one folder (see ``run_set``)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rdvla_bench.errors import UsageError
from rdvla_bench.plan import Plan
from rdvla_bench.registry import parse_settings
from rdvla_bench.run_set import Point, folder_name

MAX_POINTS = 64
"""A guard against products that nobody meant; every point is a whole run."""


@dataclass(frozen=True)
class Axis:
    """One setting and the values it takes, as texts."""

    key: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Read ``KEY=VALUE,VALUE,...``.

        Raises:
            UsageError: no key, no value, or an empty one.
        """
        key, equals, rest = text.partition("=")
        values = tuple(value.strip() for value in rest.split(","))
        if not equals or not key.strip() or not all(values):
            raise UsageError(f"--sweep {text}: expected KEY=VALUE,VALUE,... without empty values")
        return cls(key.strip(), values)


def parse_axes(policy: str, texts: Sequence[str], settings: Mapping[str, str]) -> tuple[Axis, ...]:
    """Read every ``--sweep``, and check keys and values against the settings of ``policy``.

    Values that are texts of one number, such as 1e-4 and 0.0001, are one value.

    Raises:
        UsageError: an unknown or repeated key, one that ``--set`` fixes, a value that does not parse or stands twice,
            more than ``MAX_POINTS`` runs.
    """
    axes = tuple(Axis.parse(text) for text in texts)
    keys = [axis.key for axis in axes]
    for axis in axes:
        if keys.count(axis.key) > 1:
            raise UsageError(f"--sweep {axis.key} is given twice: name all its values in one --sweep")
        if axis.key in settings:
            raise UsageError(f"--sweep {axis.key} and --set {axis.key}={settings[axis.key]} contradict each other")
    first = {axis.key: axis.values[0] for axis in axes}
    for axis in axes:
        seen: dict[Any, str] = {}
        for text in axis.values:
            value = parse_settings(policy, {**settings, **first, axis.key: text})[axis.key]
            if value in seen:
                raise UsageError(f"--sweep {axis.key}: {seen[value]} and {text} are the same value")
            seen[value] = text
    n_points = 1
    for axis in axes:
        n_points *= len(axis.values)
    if n_points > MAX_POINTS:
        sizes = " x ".join(str(len(axis.values)) for axis in axes)
        raise UsageError(f"--sweep asks for {sizes} = {n_points} runs; at most {MAX_POINTS} make one sweep")
    return axes


def combinations(axes: Sequence[Axis]) -> Iterator[dict[str, str]]:
    """Yield the settings of every point, the last axis running fastest; one point without axes."""
    for values in itertools.product(*(axis.values for axis in axes)):
        yield dict(zip((axis.key for axis in axes), values, strict=True))


def identity(base: Plan, axes: Sequence[Axis]) -> dict[str, Any]:
    """Return what must be equal for a sweep to be continued; ``base`` has none of the swept settings."""
    swept = {"sweep": {axis.key: list(axis.values) for axis in axes}} if axes else {}
    return {**base.identity(), **swept}


def make_points(base: Plan, axes: Sequence[Axis], out: Path) -> tuple[Point, ...]:
    """Return one point a combination; without axes ``out`` is the one run's folder.

    Raises:
        UsageError: two points would share a folder, because their values differ only in what no file name can hold.
    """
    points = []
    for chosen in combinations(axes):
        name = ",".join(f"{key}={folder_name(value)}" for key, value in chosen.items())
        points.append(Point(name, replace(base, settings={**base.settings, **chosen}), out / name))
    names = [point.name for point in points]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--sweep: two values would both be kept in {out / name}; give them names that differ")
    return tuple(points)
