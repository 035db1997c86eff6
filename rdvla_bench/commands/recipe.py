"""``python -m rdvla_bench.recipe FILE --out DIR``: a model from nothing, as one file says; the same command resumes.

DIR/recipe.toml   the file, byte for byte
DIR/demos         its demonstrations (rdvla_bench.commands.demos)
DIR/train         its training run (rdvla_bench.commands.train)
DIR/recovery      with [[recovery]] alone: demonstrations that begin where the trained model has got to
DIR/refined       with [refinement] alone: a second training run, from the first one's model, on all demonstrations
DIR/validation    with [[validation]] alone: demonstrations that both trainings look at and do not train on
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from rdvla_bench.commands import demos, train
from rdvla_bench.commands.cli import command
from rdvla_bench.commands.demos import DemoPlan
from rdvla_bench.commands.recipe_file import Demonstrations, RecipeFile, make_plans, options, read_recipe
from rdvla_bench.errors import RunMismatch, UsageError
from rdvla_bench.plan import differences
from rdvla_bench.policies.rdvla.training.recipe import Recipe

COPY = "recipe.toml"
DEMOS = "demos"
TRAIN = "train"
RECOVERY = "recovery"
REFINED = "refined"
VALIDATION = "validation"
LATER = ("recovery ", "refinement.")
"""How the names of a recipe's values begin that decide nothing before its second training."""
NEVER = "validation "
"""How the names of those begin that decide nothing of the weights."""


@dataclass(frozen=True)
class RecipeArguments:
    """Make a model from nothing, as one file says: record its demonstrations, then train on them.

    With [refinement] the model is trained once more, and with [[recovery]] it drives the recording of more before that.
    The same command again resumes; a stage that is finished is skipped.
    """

    file: tyro.conf.Positional[Path]
    """The recipe, such as recipes/rdvla-nano-libero.toml; see docs/training.md."""
    out: Path
    """Folder of the result: recipe.toml, demos/, train/; with [refinement] refined/ too, with [[recovery]]
    recovery/, with [[validation]] validation/."""
    workers: int = demos.DemosArguments.workers
    """Parallel workers that record, on Ray; 0 records in this process without Ray."""


@command
def main(argv: list[str] | None = None) -> int:
    """Record and train; 0 when all is done, 1 when episodes ended in an error, 130 after Ctrl-C."""
    arguments = tyro.cli(RecipeArguments, args=argv, prog="python -m rdvla_bench.recipe")
    if arguments.workers < 0:
        raise UsageError(f"--workers {arguments.workers}: expected 0 (this process) or more")
    try:
        recipe = read_recipe(arguments.file)
        _claim(arguments.out, recipe)
        print(f"recipe {recipe.sections.name} (SHA-256 {recipe.sha256[:12]})", flush=True)
        status = _make(recipe, arguments.out, arguments.workers)
    except KeyboardInterrupt:  # outside of what the stages hear themselves
        status = demos.INTERRUPTED
    if status == demos.INTERRUPTED:
        line = shlex.join(["python", "-m", "rdvla_bench.recipe", *(argv or sys.argv[1:])])
        print(f"resume the whole recipe: {line}")
    return status


def _claim(out: Path, recipe: RecipeFile) -> None:
    """Put the recipe into its folder. It may still change until its training has begun, and what fits is kept.

    Raises:
        UsageError: the folder is something else's, or cannot be named beside another.
        RunMismatch: the folder's training follows another recipe.
    """
    if recipe.sections.recovery and "," in str(out):
        raise UsageError(f"--out {out}: expected no comma, which separates folders of demonstrations")
    copy = out / COPY
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file, expected a folder")
    if out.exists() and not copy.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty and has no {COPY}: choose another --out")
    if (out / TRAIN).exists():
        differs = differences(_json(read_recipe(copy)), _json(recipe))
        free = (NEVER,) if (out / REFINED).exists() else (NEVER, *LATER)
        if fixed := [text for text in differs if not text.startswith(free)]:
            raise RunMismatch(out, fixed)
        if not differs:
            return  # what it began with stays, were it for a comment
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / f"{COPY}.tmp"
    unfinished.write_bytes(recipe.text)
    unfinished.replace(copy)


def _json(recipe: RecipeFile) -> dict[str, object]:
    values: dict[str, object] = json.loads(json.dumps(recipe.values()))
    return values


def _make(recipe: RecipeFile, out: Path, workers: int) -> int:
    """Do what is left to do; return the exit code of the stage that ended it."""
    sections, demonstrations, trained = recipe.sections, out / DEMOS, out / TRAIN
    first = sections.training
    status = _record(sections.demonstrations, recipe.plans, demonstrations, workers, first.model)
    held_out = out / VALIDATION if sections.validation else None
    if held_out:
        status = status or _record(sections.validation, recipe.held_out, held_out, workers, first.model)
    status = status or _train(first, (demonstrations,), trained, held_out)
    if status or sections.refinement is None:
        return status

    from rdvla_bench.policies.rdvla.training.session import MODEL

    learned_from = [demonstrations]
    if sections.recovery:
        blocks = tuple(block.driven_by((trained / MODEL).resolve()) for block in sections.recovery)
        plans = make_plans(RECOVERY, blocks, first.model, out / COPY)
        status = _record(blocks, plans, out / RECOVERY, workers, first.model)
        learned_from.append(out / RECOVERY)
    return status or _train(sections.refinement, learned_from, out / REFINED, held_out, trained)


def _record(blocks: Sequence[Demonstrations], plans: Sequence[DemoPlan], out: Path, workers: int, model: str) -> int:
    """Record what is missing of the demonstrations; return the exit code of the command that does it.

    Raises:
        UsageError: the folder holds demonstrations that the recipe does not list, or of another driver.
    """
    from rdvla_bench.commands.demos_folder import DemoFolder

    listed = {episode.id: episode for plan in plans for episode in plan.episodes()}
    folder = DemoFolder(out, plans[0].identity(demos.driver_card(plans[0])))
    folder.open()
    if strays := [episode.id for episode in folder.stored() if episode.id not in listed]:
        raise UsageError(
            f"{out} holds {len(strays)} episodes that the recipe does not list, such as {strays[0]}: "
            f"list them, remove their files from {out / 'episodes'}, or choose another --out"
        )
    if not folder.missing(listed.values()) and folder.is_assembled():
        print(f"demonstrations: all {len(listed)} episodes are in {out}", flush=True)
        return 0
    where = ["--out", str(out), "--workers", str(workers), "--model", model]
    for block in blocks:
        if status := demos.main([*where, *options(block)]):
            return status
    return 0


def _train(
    recipe: Recipe, data: Sequence[Path], out: Path, held_out: Path | None = None, init: Path | None = None
) -> int:
    """Train to the last step, from what ``init`` ended in; return the exit code of the command that does it."""
    from rdvla_bench.policies.rdvla.training.session import MODEL

    if _is_trained(recipe, data, out / MODEL, init / MODEL if init else None):
        print(f"training: all {recipe.steps} steps are in {out / MODEL}", flush=True)
        return 0
    where = ["--data", ",".join(map(str, data)), "--out", str(out), *(["--init", str(init)] if init else [])]
    where += ["--validation", str(held_out)] if held_out else []
    return train.main([*where, *options(recipe)])


def _is_trained(recipe: Recipe, data: Sequence[Path], model: Path, init: Path | None) -> bool:
    """Return whether the model is what the recipe ends in, from these demonstrations and initial weights."""
    from rdvla_bench.commands.demos_folder import ABOUT
    from rdvla_bench.policies.rdvla.training.checkpoints import is_trained_here, read_model
    from rdvla_bench.policies.rdvla.training.shards import joined_fingerprint
    from rdvla_bench.policies.rdvla.weights import digest

    if not is_trained_here(model):
        return False
    wanted = {
        "step": recipe.steps,
        **json.loads(json.dumps(recipe.identity())),
        "data_sha256": joined_fingerprint([json.loads((part / ABOUT).read_text())["data_sha256"] for part in data]),
        "initial_weights_sha256": digest(read_model(init).model) if init else None,
    }
    origin = read_model(model).origin
    return all(origin.get(name) == value for name, value in wanted.items())
