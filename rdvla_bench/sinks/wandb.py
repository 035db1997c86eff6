"""Weights & Biases. Its own environment variables decide where to: WANDB_MODE=offline, WANDB_PROJECT, WANDB_ENTITY."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from rdvla_bench.sinks.sink import Rows, described, run_name

PROJECT = "rdvla-bench"
"""Unless WANDB_PROJECT is set."""


class Wandb:
    """One W&B run a run folder; its files lie in ``OUT/sinks/wandb``."""

    def __init__(self, out: Path) -> None:
        """Remember the folder."""
        self._folder = out / "sinks"

    def begin(self, manifest: Mapping[str, Any], run_id: str) -> str:
        """Open the run. Offline, W&B writes a new folder with the same id, and ``wandb sync`` joins them."""
        run_id = run_id or uuid.uuid4().hex
        self._folder.mkdir(exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(self._folder),
            id=run_id,
            resume="allow",
            name=run_name(manifest),
            config=described(manifest),
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("episodes", hidden=True)
        self._run.define_metric("*", step_metric="episodes")
        return run_id

    def add(self, n_done: int, values: Mapping[str, float]) -> None:
        """Log against ``episodes``, not W&B's own step, which a resumed run would have to guess."""
        self._run.log({"episodes": n_done, **values})

    def end(self, rows: Rows | None) -> None:
        """Log the table as ``board`` and close the run; an interrupted one is marked as such."""
        if rows:
            columns = list(rows[0])
            self._run.log({"board": wandb.Table(columns, [[_plain(row[name]) for name in columns] for row in rows])})
        self._run.finish(exit_code=255 if rows is None else 0)


def _plain(value: str | float | bool | None) -> str | float | None:
    return str(value) if isinstance(value, bool) else value
