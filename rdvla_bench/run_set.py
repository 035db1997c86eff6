"""A run set: several runs in one folder, resumed together, each an ordinary run folder of its own.

A sweep (``OUT/sweep.json``, ``OUT/depth=4``) holds one run a value; a mix (``OUT/mix.json``, ``OUT/libero``,
``OUT/calvin``) one a benchmark, each of which may be a sweep itself. The JSON file says which runs there are, in their
order, and everything that must be equal to go on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rdvla_bench.errors import LedgerError, RunMismatch, UsageError
from rdvla_bench.ledger import EPISODES, RUN, write_atomically
from rdvla_bench.plan import Plan, differences

Kind = Literal["sweep", "mix"]

MEANING: Mapping[Kind, tuple[str, str]] = {
    "sweep": ("a sweep", "give its --sweep too"),
    "mix": ("runs of several benchmarks", "give its --suite too"),
}
"""Kind -> what such a folder holds, and what a call for it lacks."""
SCHEMA = 1


@dataclass(frozen=True)
class Point:
    """One run of a set."""

    name: str  # "depth=4", also its folder; "" for a run without a sweep
    plan: Plan
    out: Path


@dataclass(frozen=True)
class Runs:
    """All runs of one call."""

    out: Path  # the folder that the user knows
    parts: tuple[tuple[Point, ...], ...]  # one a benchmark: its run, or the runs of its sweep

    @property
    def points(self) -> tuple[Point, ...]:
        """Return every run, in the order in which they are played."""
        return tuple(point for part in self.parts for point in part)


def kind_of(folder: Path) -> Kind | None:
    """Return which kind of set ``folder`` holds, None for a run folder or any other."""
    return next((kind for kind in MEANING if _path(folder, kind).exists()), None)


def folder_name(text: str) -> str:
    """Return ``text`` without what no file name can hold."""
    return re.sub(r"[^A-Za-z0-9.+_-]", "_", text)


def default_out(policy: str, label: str, identity: Mapping[str, Any]) -> Path:
    """Return the folder used where none is given; the same call finds its runs again."""
    text = json.dumps(identity, sort_keys=True)
    return Path(f"runs/{policy}-{label}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")


def mix_identity(bases: Sequence[tuple[Plan, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return what must be equal for a mix to be continued, from each benchmark's plan and its own identity."""
    shared = ("policy", "settings", "seed", "sweep")
    return {
        key if key in shared else f"{plan.benchmark} {key}": value
        for plan, identity in bases
        for key, value in identity.items()
    }


def open_set(kind: Kind, out: Path, identity: Mapping[str, Any], names: Sequence[str]) -> None:
    """Write the set's file, or hold it against this call. A set that never played an episode is written anew.

    Raises:
        RunMismatch: the folder holds another set.
        UsageError: it holds a single run or another kind of set, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file, expected a folder")
    there = kind_of(out)
    if there is not None and there != kind:
        raise UsageError(f"{out} holds {MEANING[there][0]}, not {MEANING[kind][0]}: choose another --out")
    if there is not None:
        differs = differences(read_set(out, kind)["config"], identity)
        if differs and any(_has_episodes(folder) for folder in run_folders(out)):
            raise RunMismatch(out, differs)
        if not differs:
            return
    elif (out / RUN).exists() or (out / EPISODES).exists():
        raise UsageError(f"{out} holds a single run, not {MEANING[kind][0]}: choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"cannot write {out}: {error.strerror or error}") from error
    stored = {"schema": SCHEMA, "config": identity, "points": list(names)}
    write_atomically(_path(out, kind), (json.dumps(stored, indent=2, sort_keys=True) + "\n").encode())


def read_set(folder: Path, kind: Kind) -> dict[str, Any]:
    """Return the set's file.

    Raises:
        LedgerError: it was not written by a run, or by one of another version.
    """
    path = _path(folder, kind)
    try:
        stored = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LedgerError(f"{path} cannot be read: {error}") from error
    if not isinstance(stored, dict) or not {"config", "points"} <= stored.keys():
        raise LedgerError(f"{path} was not written by rdvla-bench run")
    if stored.get("schema") != SCHEMA:
        raise LedgerError(f"{path} has schema {stored.get('schema')}, this version reads {SCHEMA}")
    return stored


def run_folders(folder: Path) -> list[Path]:
    """Return the run folders of a set in its order, whether played or not; ``folder`` itself where it is no set."""
    kind = kind_of(folder)
    if kind is None:
        return [folder]
    return [run for name in read_set(folder, kind)["points"] for run in run_folders(folder / name)]


def demand_single(folder: Path) -> None:
    """Check that ``folder`` is not a set of runs, for what takes one run.

    Raises:
        UsageError: naming the runs in it.
    """
    kind = kind_of(folder)
    if kind is not None:
        runs = ", ".join(str(run) for run in run_folders(folder))
        raise UsageError(f"{folder} holds {MEANING[kind][0]}: name one of them: {runs}")


def swept_keys(run_folder: Path) -> tuple[str, ...]:
    """Return the settings swept by the sweep that ``run_folder`` is a point of, () where it is of none."""
    parent = run_folder.resolve().parent
    if kind_of(parent) != "sweep":
        return ()
    sweep = read_set(parent, "sweep")
    return tuple(sweep["config"].get("sweep", {})) if run_folder.resolve().name in sweep["points"] else ()


def _path(folder: Path, kind: Kind) -> Path:
    return folder / f"{kind}.json"


def _has_episodes(folder: Path) -> bool:
    ledger = folder / EPISODES
    return ledger.exists() and ledger.stat().st_size > 0
