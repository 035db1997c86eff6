"""``python -m rdvla_bench.recipe FILE --out DIR``: a model from nothing, as one file says; the same command resumes.

DIR/recipe.toml   the file, byte for byte
DIR/demos         its demonstrations (rdvla_bench.commands.demos)
DIR/train         its training run (rdvla_bench.commands.train)
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from rdvla_bench.commands import demos, train
from rdvla_bench.commands.cli import command
from rdvla_bench.commands.recipe_file import RecipeFile, options, read_recipe
from rdvla_bench.errors import RunMismatch, UsageError
from rdvla_bench.plan import differences

COPY = "recipe.toml"
DEMOS = "demos"
TRAIN = "train"


@dataclass(frozen=True)
class RecipeArguments:
    """Make a model from nothing, as one file says: record its demonstrations, then train on them.

    The same command again resumes; a stage that is finished is skipped.
    """

    file: tyro.conf.Positional[Path]
    """The recipe, such as recipes/rdvla-nano-libero.toml; see docs/training.md."""
    out: Path
    """Folder of the result: recipe.toml, demos/, train/."""
    workers: int = demos.DemosArguments.workers
    """Parallel workers that record, on Ray; 0 records in this process without Ray."""


@command
def main(argv: list[str] | None = None) -> int:
    """Record, then train; 0 when both are done, 1 when episodes ended in an error, 130 after Ctrl-C."""
    arguments = tyro.cli(RecipeArguments, args=argv, prog="python -m rdvla_bench.recipe")
    if arguments.workers < 0:
        raise UsageError(f"--workers {arguments.workers}: expected 0 (this process) or more")
    try:
        recipe = read_recipe(arguments.file)
        _claim(arguments.out, recipe)
        print(f"recipe {recipe.sections.name} (SHA-256 {recipe.sha256[:12]})", flush=True)
        status = _record(recipe, arguments.out / DEMOS, arguments.workers) or _train(recipe, arguments.out)
    except KeyboardInterrupt:  # outside of what the stages hear themselves
        status = demos.INTERRUPTED
    if status == demos.INTERRUPTED:
        line = shlex.join(["python", "-m", "rdvla_bench.recipe", *(argv or sys.argv[1:])])
        print(f"resume the whole recipe: {line}")
    return status


def _claim(out: Path, recipe: RecipeFile) -> None:
    """Put the recipe into its folder. It may still change until training has begun, and what fits is kept.

    Raises:
        UsageError: the folder is something else's.
        RunMismatch: the folder's training follows another recipe.
    """
    copy = out / COPY
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file, expected a folder")
    if out.exists() and not copy.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty and has no {COPY}: choose another --out")
    if (out / TRAIN).exists():
        if differs := differences(_json(read_recipe(copy)), _json(recipe)):
            raise RunMismatch(out, differs)
        return  # what it began with stays, were it for a comment
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / f"{COPY}.tmp"
    unfinished.write_bytes(recipe.text)
    unfinished.replace(copy)


def _json(recipe: RecipeFile) -> dict[str, object]:
    values: dict[str, object] = json.loads(json.dumps(recipe.values()))
    return values


def _record(recipe: RecipeFile, out: Path, workers: int) -> int:
    """Record what is missing of the demonstrations; return the exit code of the command that does it.

    Raises:
        UsageError: the folder holds demonstrations that the recipe does not list.
    """
    from rdvla_bench.commands.demos_folder import DemoFolder

    listed = {episode.id: episode for plan in recipe.plans for episode in plan.episodes()}
    folder = DemoFolder(out, recipe.plans[0].identity())
    folder.open()
    if strays := [episode.id for episode in folder.stored() if episode.id not in listed]:
        raise UsageError(
            f"{out} holds {len(strays)} episodes that the recipe does not list, such as {strays[0]}: "
            f"list them, remove their files from {out / 'episodes'}, or choose another --out"
        )
    if not folder.missing(listed.values()) and folder.is_assembled():
        print(f"demonstrations: all {len(listed)} episodes are in {out}", flush=True)
        return 0
    where = ["--out", str(out), "--workers", str(workers), "--model", recipe.sections.training.model]
    for block in recipe.sections.demonstrations:
        if status := demos.main([*where, *options(block)]):
            return status
    return 0


def _train(recipe: RecipeFile, out: Path) -> int:
    """Train to the last step; return the exit code of the command that does it."""
    from rdvla_bench.policies.rdvla.training.session import MODEL

    model = out / TRAIN / MODEL
    if _is_trained(recipe, out / DEMOS, model):
        print(f"training: all {recipe.sections.training.steps} steps are in {model}")
        return 0
    where = ["--data", str(out / DEMOS), "--out", str(out / TRAIN)]
    return train.main([*where, *options(recipe.sections.training)])


def _is_trained(recipe: RecipeFile, data: Path, model: Path) -> bool:
    """Return whether the model is what the recipe and these demonstrations end in."""
    from rdvla_bench.commands.demos_folder import ABOUT
    from rdvla_bench.policies.rdvla.training.checkpoints import is_trained_here, read_model

    if not is_trained_here(model):
        return False
    wanted = {
        "step": recipe.sections.training.steps,
        **json.loads(json.dumps(recipe.sections.training.identity())),
        "data_sha256": json.loads((data / ABOUT).read_text())["data_sha256"],
    }
    origin = read_model(model).origin
    return all(origin.get(name) == value for name, value in wanted.items())
