"""A sweep: one run for each value of a setting, all in one folder, each an ordinary run folder of its own.

``OUT/sweep.json`` says what is swept; ``OUT/depth=4`` is a run like any other. Every run has the same episodes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rdvla_bench.errors import LedgerError, RunMismatch, UsageError
from rdvla_bench.ledger import EPISODES, RUN, write_atomically
from rdvla_bench.plan import Plan, differences
from rdvla_bench.registry import parse_settings

SWEEP = "sweep.json"
SCHEMA = 1
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


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    name: str  # "depth=4", also its folder; "" for a run without a sweep
    plan: Plan
    out: Path


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
    """Yield the settings of every point, the last axis running fastest."""
    for values in itertools.product(*(axis.values for axis in axes)):
        yield dict(zip((axis.key for axis in axes), values, strict=True))


def default_out(base: Plan, axes: Sequence[Axis]) -> Path:
    """Return the folder used where none is given; the same call finds its sweep again."""
    text = json.dumps(identity(base, axes), sort_keys=True)
    return Path(f"runs/{base.policy}-sweep-{hashlib.sha256(text.encode()).hexdigest()[:8]}")


def identity(base: Plan, axes: Sequence[Axis]) -> dict[str, Any]:
    """Return what must be equal for a sweep to be continued; ``base`` has none of the swept settings."""
    return {**base.identity(), "sweep": {axis.key: list(axis.values) for axis in axes}}


def make_points(base: Plan, axes: Sequence[Axis], out: Path) -> list[Point]:
    """Return one point a combination.

    Raises:
        UsageError: two points would share a folder, because their values differ only in what no file name can hold.
    """
    points = []
    for chosen in combinations(axes):
        name = ",".join(f"{key}={re.sub(r'[^A-Za-z0-9.+_-]', '_', value)}" for key, value in chosen.items())
        points.append(Point(name, replace(base, settings={**base.settings, **chosen}), out / name))
    names = [point.name for point in points]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--sweep: two values would both be kept in {out / name}; give them names that differ")
    return points


def open_sweep(base: Plan, axes: Sequence[Axis], out: Path) -> None:
    """Write ``sweep.json``, or hold it against this call. One that never played an episode is written anew.

    Raises:
        RunMismatch: the folder holds another sweep.
        UsageError: it holds a single run, or is a file.
    """
    here = identity(base, axes)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file, expected a folder")
    if (out / SWEEP).exists():
        differs = differences(read_sweep(out)["config"], here)
        if differs and any(_has_episodes(folder) for folder in run_folders(out)):
            raise RunMismatch(out, differs)
        if not differs:
            return
    elif (out / RUN).exists() or (out / EPISODES).exists():
        raise UsageError(f"{out} holds a single run, no sweep: choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"cannot write {out}: {error.strerror or error}") from error
    points = [point.name for point in make_points(base, axes, out)]
    sweep = {"schema": SCHEMA, "config": here, "points": points}
    write_atomically(out / SWEEP, (json.dumps(sweep, indent=2, sort_keys=True) + "\n").encode())


def _has_episodes(folder: Path) -> bool:
    ledger = folder / EPISODES
    return ledger.exists() and ledger.stat().st_size > 0


def read_sweep(folder: Path) -> dict[str, Any]:
    """Return sweep.json.

    Raises:
        LedgerError: it was not written by a run, or by one of another version.
    """
    path = folder / SWEEP
    try:
        sweep = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LedgerError(f"{path} cannot be read: {error}") from error
    if not isinstance(sweep, dict) or not {"config", "points"} <= sweep.keys():
        raise LedgerError(f"{path} was not written by rdvla-bench run --sweep")
    if sweep.get("schema") != SCHEMA:
        raise LedgerError(f"{path} has schema {sweep.get('schema')}, this version reads {SCHEMA}")
    return sweep


def run_folders(folder: Path) -> list[Path]:
    """Return the run folders of a sweep in its order, or ``folder`` itself where it is none."""
    return [folder / name for name in read_sweep(folder)["points"]] if (folder / SWEEP).exists() else [folder]


def swept_keys(run_folder: Path) -> tuple[str, ...]:
    """Return the settings swept by the sweep that ``run_folder`` is a point of, () where it is of none."""
    parent = run_folder.resolve().parent
    if not (parent / SWEEP).exists():
        return ()
    sweep = read_sweep(parent)
    return tuple(sweep["config"].get("sweep", {})) if run_folder.resolve().name in sweep["points"] else ()
