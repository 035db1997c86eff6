"""``python -m rdvla_bench.ship RUN --name NAME``: make weights for the package from a training run's folder."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from rdvla_bench.commands.cli import command
from rdvla_bench.commands.demos_folder import ABOUT
from rdvla_bench.commands.recipe import COPY, DEMOS, RECOVERY, REFINED, TRAIN
from rdvla_bench.commands.train import folders_of
from rdvla_bench.errors import UsageError
from rdvla_bench.policies.rdvla.shipped_weights import DEFAULTS, FOLDER, UNTRAINED

COUNTED = ("kept", "dropped", "frames")
"""What a manifest says of a task's demonstrations."""


@dataclass(frozen=True)
class ShipArguments:
    """Make weights for the package from a training run: NAME.safetensors with 16 bits a number, and NAME.json.

    The same folder gives the same bytes.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a run of rdvla_bench.train; or of rdvla_bench.recipe, whose last training and data it then is."""
    name: str
    """What the weights are called: the value of --set checkpoint= that plays them."""
    out: Path = FOLDER
    """Folder to write to; by default that of the installed package."""
    data: str | None = None
    """Folder of the demonstrations it was trained on, to name them task by task in the manifest; several separated by
    commas, as training was given them."""
    before: str | None = None
    """Folders of the trainings that made the weights it began with, separated by commas, the first one first, to have
    them in the manifest too; of a recipe with [refinement] its first training without being told. The first may be the
    manifest, NAME.json, of shipped weights that all began with."""
    minutes: float | None = None
    """Minutes that training took; by default told by the times of the folder's files, which a copy may have lost."""
    unfinished: bool = False
    """Take a run that has not done all the steps of its recipe."""


@command
def main(argv: list[str] | None = None) -> int:
    """Write the two files; 0, or 2 with the reason."""
    arguments = tyro.cli(
        ShipArguments, args=argv, prog="python -m rdvla_bench.ship", config=(tyro.conf.FlagCreatePairsOff,)
    )
    _require_name(arguments.name)

    from rdvla_bench.policies.rdvla.training.shipping import read_run, ship

    origin, stages = _stages(arguments.run, arguments.before)
    *before, run = (read_run(folder) for folder in stages)
    names = arguments.data or _recipe_data(arguments.run)
    benchmark, steps = run.model.model.config.benchmark, int(run.about["recipe"]["steps"])
    for other, name in DEFAULTS.items():
        if name == arguments.name and other != benchmark:
            raise UsageError(f"--name {name} is for {other}, but {arguments.run} was trained on {benchmark}")
    if run.step < steps and not arguments.unfinished:
        raise UsageError(f"{arguments.run} is at step {run.step} of {steps}: finish it, or say --unfinished")
    data = _data(names, run.about["identity"]["data_sha256"]) if names else {}
    path = ship(run, arguments.name, arguments.out, data, arguments.minutes, before, origin)
    manifest = json.loads(path.with_suffix(".json").read_text())
    print(
        f"{path}: {manifest['parameters']} numbers as {manifest['dtype']}, {manifest['bytes'] / 1e6:.1f} MB, "
        f"changed by {manifest['rounding_error'][manifest['dtype']]:.2g} of their root mean square"
    )
    return 0


def _require_name(name: str) -> None:
    is_plain = name.replace("-", "").replace("_", "").isalnum() and name.isascii()
    if not is_plain or name == UNTRAINED:
        raise UsageError(f"--name {name}: expected letters, digits, '-' and '_', and not '{UNTRAINED}'")


def _stages(run: Path, before: str | None) -> tuple[Path | None, list[Path]]:
    """Return the manifest of what all began with, if any, and the folders of all trainings, the one to ship last."""
    recipe = _recipe(run)
    if recipe is None:
        earlier = folders_of(before) if before else []
        origin = earlier.pop(0) if earlier and earlier[0].suffix == ".json" else None
        return origin, [*earlier, run]
    if before:
        raise UsageError(f"--before {before}: {run} is a recipe's folder, which knows its trainings")
    return None, [run / name for name in ((TRAIN, REFINED) if "refinement" in recipe else (TRAIN,))]


def _recipe_data(run: Path) -> str | None:
    """Return the demonstrations of a recipe's last training; None for another folder."""
    recipe = _recipe(run)
    if recipe is None:
        return None
    return ",".join(str(run / name) for name in ((DEMOS, RECOVERY) if "recovery" in recipe else (DEMOS,)))


def _recipe(run: Path) -> dict[str, Any] | None:
    return tomllib.loads((run / COPY).read_text()) if (run / COPY).is_file() else None


def _data(data: str, sha256: str) -> dict[str, Any]:
    """Return what a manifest says of the demonstrations: of one folder that alone, of several each with its hash.

    Raises:
        UsageError: a folder cannot be read, or the run was trained on other data.
    """
    from rdvla_bench.policies.rdvla.training.shards import joined_fingerprint

    parts = [_demonstrations(folder) for folder in folders_of(data)]
    found = joined_fingerprint([part["sha256"] for part in parts])
    if found != sha256:
        raise UsageError(f"--data {data}: data {found[:12]}, but the run was trained on {sha256[:12]}")
    return {"folders": parts} if len(parts) > 1 else parts[0]


def _demonstrations(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT
    try:
        about = json.loads(path.read_text())
        counts = {
            suite: {task: {key: row[key] for key in COUNTED} for task, row in tasks.items()}
            for suite, tasks in about["counts"].items()
        }
        return {"sha256": about["data_sha256"], "demonstrator": about["config"], "demonstrations": counts}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--data {folder}: {ABOUT} cannot be read ({error!r})") from error
