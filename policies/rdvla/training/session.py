"""The output folder of a training run: configuration, log, state and model, and how a run continues in it.

* config.json: recipe, sizes, data, versions; a folder of another configuration is refused
* log.jsonl: one line a step
* validation.jsonl: one line a look at held-out demonstrations, where there are any
* train_state.safetensors: what the next step depends on
* model.safetensors: the weights for inference, with sizes and statistics in the header
"""

from __future__ import annotations

import fcntl
import json
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from rdvla_bench.errors import RunMismatch, UsageError
from rdvla_bench.plan import differences
from rdvla_bench.policies.rdvla.training.checkpoints import write_model
from rdvla_bench.policies.rdvla.training.recipe import Augmentation
from rdvla_bench.policies.rdvla.training.trainer import StepReport, Trainer
from rdvla_bench.policies.rdvla.training.validation import ValidationReport
from rdvla_bench.provenance import git_commit, machine, versions

CONFIG = "config.json"
LOG = "log.jsonl"
VALIDATION = "validation.jsonl"
STATE = "train_state.safetensors"
MODEL = "model.safetensors"


class Session:
    """One process working in a run's folder, alone; a context manager."""

    def __init__(self, out: Path, trainer: Trainer) -> None:
        """Open a new folder, or continue the run in an old one from its last saved state.

        Raises:
            RunMismatch: the folder's run has another recipe, model or data.
            UsageError: the folder is in use or cannot be one.
            CheckpointError: its state cannot be read.
        """
        self.out = out
        self.trainer = trainer
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out {out} is a file, expected a folder")
        out.mkdir(parents=True, exist_ok=True)
        self._log = (out / LOG).open("a+", encoding="utf-8")
        try:
            self._claim()
        except UsageError:
            self._log.close()
            raise

    def _claim(self) -> None:
        try:
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{self.out} is in use by another process") from None
        self._identity = self._agreed()
        state = self.out / STATE
        if state.exists():
            self.trainer.restore(state)
        self._forget_steps_after(self.trainer.step)

    def _agreed(self) -> dict[str, Any]:
        """Return what all sessions of the folder's run agree on, in the first one's words."""
        path, here = self.out / CONFIG, _identity(self.trainer)
        if path.exists():
            try:
                there = json.loads(path.read_text())["identity"]
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(f"{path} cannot be read: {error!r}. Choose another --out") from error
            full = dict(there)
            if "augmentation" in there:  # a run begun before one of them was thought of had it off
                full["augmentation"] = asdict(Augmentation()) | there["augmentation"]
            if differs := differences(full, json.loads(json.dumps(here))):
                raise RunMismatch(self.out, differs)
            return dict(there)
        if (self.out / STATE).exists():
            raise UsageError(f"{self.out} has a training state but no {CONFIG}: choose another --out")
        circumstances = {
            "recipe": asdict(self.trainer.recipe),
            "samples": len(self.trainer.data),
            "device": str(self.trainer.device),
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "machine": machine(),
            "git_commit": git_commit(),
        }
        unfinished = path.with_name(f"{CONFIG}.tmp")
        unfinished.write_text(json.dumps({"identity": here, **circumstances}, indent=1))
        unfinished.replace(path)
        return here

    def _forget_steps_after(self, step: int) -> None:
        """Cut the log where the state ends; a torn last line goes with the rest."""
        self._log.seek(0)
        kept = self._log.read().splitlines(keepends=True)[:step]
        self._log.seek(0)
        self._log.truncate()
        self._log.writelines(kept)
        self._log.flush()
        looks = [look for look in read_looks(self.out) if look.step <= step]
        if (path := self.out / VALIDATION).exists():
            path.write_text("".join(map(_line, looks)))

    def record(self, report: StepReport) -> None:
        """Add a line to the log."""
        self._log.write(_line(report))
        self._log.flush()

    def record_look(self, report: ValidationReport) -> None:
        """Add a line about held-out demonstrations."""
        with (self.out / VALIDATION).open("a", encoding="utf-8") as file:
            file.write(_line(report))

    def save(self) -> None:
        """Write the state, then the model; a crash between the two leaves the older model."""
        trainer = self.trainer
        trainer.save(self.out / STATE)
        origin: dict[str, Any] = {"step": trainer.step, **self._identity}
        statistics, vocabulary = trainer.data.statistics, trainer.vocabulary
        write_model(self.out / MODEL, trainer.weights(), trainer.config, statistics, origin, vocabulary)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the log and release the folder."""
        self._log.close()


def read_looks(out: Path) -> list[ValidationReport]:
    """Return what was recorded of held-out demonstrations, nothing where there are none; a torn last line is left out.

    Raises:
        UsageError: the file is of something else.
    """
    path = out / VALIDATION
    if not path.exists():
        return []
    try:
        return [
            ValidationReport(**json.loads(line)) for line in path.read_text().splitlines(True) if line.endswith("\n")
        ]
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} cannot be read: {error!r}. Remove it or choose another --out") from error


def _line(report: StepReport | ValidationReport) -> str:
    return json.dumps(asdict(report)) + "\n"


def _identity(trainer: Trainer) -> dict[str, Any]:
    """Return what two sessions of one run must agree on."""
    return {
        **trainer.recipe.identity(),
        "data_sha256": trainer.data.fingerprint,
        "initial_weights_sha256": trainer.initial_sha256,
        "sizes": trainer.config.to_json(),
    }
