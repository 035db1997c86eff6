"""Records as two flat tables: results, which are reproducible, and executions, which are not.

Non-obvious:
- Rows are sorted by (suite, task, start, repetition), so equal results give equal bytes whatever the order of
  execution, the number of workers or the crashes in between.
- Parquet files carry a fixed schema and no pandas metadata; two versions of pyarrow may still differ in the
  writer's name, two runs in one environment cannot.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rdvla_bench.ledger import write_atomically
from rdvla_bench.record import Record

_EPISODE = [
    ("suite", pa.string()),
    ("task", pa.int32()),
    ("start", pa.int32()),
    ("repetition", pa.int32()),
    ("seed", pa.int64()),
    ("id", pa.string()),
]

RESULTS = pa.schema(
    [
        *_EPISODE,
        ("outcome", pa.string()),
        ("culprit", pa.string()),  # "" unless outcome is "error"
        ("error", pa.string()),  # the whole traceback
        ("instruction", pa.string()),
        ("steps", pa.int32()),
        ("queries", pa.int32()),
        ("depths", pa.list_(pa.int32())),  # one a query
        ("horizons", pa.list_(pa.int32())),  # one a query
        ("exit_traces", pa.list_(pa.list_(pa.float64()))),  # query -> iteration -> criterion
        ("flops", pa.float64()),  # null where unknown
        ("solved", pa.float64()),  # instructions of a chain done in a row; null for a single task
        ("subtasks", pa.list_(pa.string())),  # of a chain, those attempted
        ("subtask_steps", pa.list_(pa.int32())),  # one a subtask
        ("appearance", pa.string()),  # what the pictures were drawn from and with
        ("scene_sha256", pa.string()),
        ("frames_sha256", pa.string()),
        ("actions_sha256", pa.string()),
        ("state_sha256", pa.string()),
    ]
)

EXECUTIONS = pa.schema(
    [
        *_EPISODE,
        ("outcome", pa.string()),
        ("attempts", pa.int32()),
        ("worker", pa.string()),
        ("wall_s", pa.float64()),
        ("cpu_s", pa.float64()),
        ("build_cpu_s", pa.float64()),
        ("model_s", pa.list_(pa.float64())),  # one a query
        ("batch_sizes", pa.list_(pa.int32())),  # one a query
        ("backbone_s", pa.list_(pa.float64())),  # one a query, or none
        ("head_s", pa.list_(pa.float64())),  # one a query, or none
        ("peak_memory_bytes", pa.float64()),  # of the accelerator; null where there is none
    ]
)


def results_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row an episode with the columns of ``RESULTS``."""
    return _frame(
        (
            {
                **asdict(r.result),
                **_episode(r),
                "culprit": r.result.culprit or "",
                "queries": len(r.result.depths),
                "flops": _or_nan(r.result.flops),
                "solved": _or_nan(r.result.solved),
            }
            for r in records
        ),
        RESULTS,
    )


def executions_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row an episode with the columns of ``EXECUTIONS``."""
    return _frame(
        (
            {
                **asdict(r.execution),
                **_episode(r),
                "peak_memory_bytes": _or_nan(r.execution.peak_memory_bytes),
            }
            for r in records
        ),
        EXECUTIONS,
    )


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _episode(record: Record) -> dict[str, Any]:
    return {**asdict(record.episode), "id": record.episode.id, "outcome": str(record.result.outcome)}


def _frame(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> pd.DataFrame:
    ordered = sorted(rows, key=lambda row: (row["suite"], row["task"], row["start"], row["repetition"]))
    return pd.DataFrame(ordered, columns=schema.names)


def results_csv(results: pd.DataFrame) -> bytes:
    """Return the results as CSV: lists as numbers between spaces, an error as its last line, no exit traces."""
    flat = results.drop(columns="exit_traces")
    for column in ("depths", "horizons", "subtasks", "subtask_steps"):
        flat[column] = [" ".join(map(str, values)) for values in flat[column]]
    flat["error"] = [last_line(text) for text in flat["error"]]
    text: str = flat.to_csv(index=False, lineterminator="\n")
    return text.encode()


def last_line(traceback: str) -> str:
    """Return the message of a traceback."""
    lines = traceback.strip().splitlines()
    return lines[-1].strip() if lines else ""


def parquet(frame: pd.DataFrame, schema: pa.Schema) -> bytes:
    """Return ``frame`` as a Parquet file with exactly ``schema``."""
    table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False).replace_schema_metadata(None)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def write_frames(folder: Path, results: pd.DataFrame, executions: pd.DataFrame) -> None:
    """Write ``results.csv``, ``episodes.parquet`` and ``executions.parquet``, each whole or not at all."""
    write_atomically(folder / "results.csv", results_csv(results))
    write_atomically(folder / "episodes.parquet", parquet(results, RESULTS))
    write_atomically(folder / "executions.parquet", parquet(executions, EXECUTIONS))
