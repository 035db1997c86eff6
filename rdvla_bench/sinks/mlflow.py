"""MLflow. Where to is MLFLOW_TRACKING_URI, as everywhere in MLflow; without it, a database in the run folder."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param

from rdvla_bench.sinks.sink import Rows, described, markdown, run_name

EXPERIMENT = "rdvla-bench"
"""Unless MLFLOW_EXPERIMENT_NAME is set."""
MAX_PARAM = 500
"""Characters of a parameter that every store accepts."""


class Mlflow:
    """One MLflow run a run folder."""

    def __init__(self, out: Path) -> None:
        """Remember the folder."""
        self._folder = (out / "sinks").absolute()

    def begin(self, manifest: Mapping[str, Any], run_id: str) -> str:
        """Open the run; its parameters are the configuration and provenance."""
        is_local = not os.environ.get("MLFLOW_TRACKING_URI")
        self._folder.mkdir(exist_ok=True)
        self._client = mlflow.MlflowClient(f"sqlite:///{self._folder / 'mlflow.db'}" if is_local else None)
        if run_id:
            self._client.update_run(run_id, status="RUNNING")
        else:
            run_id = self._client.create_run(
                self._experiment(is_local=is_local), run_name=run_name(manifest)
            ).info.run_id
            params = [Param(key, value[:MAX_PARAM]) for key, value in described(manifest).items()]
            self._client.log_batch(run_id, params=params)
        self._run_id = run_id
        return run_id

    def _experiment(self, *, is_local: bool) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        artifacts = (self._folder / "mlflow").as_uri() if is_local else None
        return str(self._client.create_experiment(name, artifact_location=artifacts))

    def add(self, n_done: int, values: Mapping[str, float]) -> None:
        """Log one metric a value, its step the episodes done."""
        now_ms = int(1e3 * time.time())
        self._client.log_batch(self._run_id, [Metric(key, value, now_ms, n_done) for key, value in values.items()])

    def end(self, rows: Rows | None) -> None:
        """Keep the table as the artifact ``board.md`` and close the run."""
        if rows is not None:
            self._client.log_text(self._run_id, markdown(rows) + "\n", "board.md")
        self._client.set_terminated(self._run_id, "KILLED" if rows is None else "FINISHED")
