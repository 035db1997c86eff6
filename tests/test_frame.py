"""Claims about the flat tables of a run."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from rdvla_bench.leaderboards.frame import (
    EXECUTIONS,
    RESULTS,
    executions_frame,
    parquet,
    results_csv,
    results_frame,
    write_frames,
)
from rdvla_bench.record import Execution, Record, Result
from rdvla_bench.types import Culprit, Episode, Outcome


def record(task: int = 0, start: int = 0, *, suite: str = "libero_object", error: str = "") -> Record:
    result = Result(
        outcome=Outcome.ERROR if error else Outcome.SUCCESS,
        steps=12,
        instruction='pick up the "soup", then stop',
        depths=(8, 3),
        horizons=(8, 4),
        exit_traces=((0.5, 1e-4), ()),
        flops=None if error else 1.5e9,
        scene_sha256="aa",
        culprit=Culprit.POLICY if error else None,
        error=error,
    )
    execution = Execution(worker=f"w{start}", wall_s=1.5, cpu_s=1.25, model_s=(0.1, 0.3), batch_sizes=(1, 2))
    return Record(Episode(suite, task, start, 0, seed=7), result, execution)


RECORDS = [
    record(task, start, suite=s) for s in ("libero_goal", "libero_object") for task in (0, 11) for start in (0, 2)
]


def test_equal_results_give_equal_bytes_whatever_the_order_and_the_execution() -> None:
    shuffled = [replace(r, execution=Execution(attempts=3, worker="other", cpu_s=9.0)) for r in RECORDS]
    random.Random(0).shuffle(shuffled)
    one, other = results_frame(RECORDS), results_frame(shuffled)
    assert results_csv(one) == results_csv(other)
    assert parquet(one, RESULTS) == parquet(other, RESULTS)


def test_another_result_gives_other_bytes() -> None:
    changed = [replace(RECORDS[0], result=replace(RECORDS[0].result, steps=13)), *RECORDS[1:]]
    assert results_csv(results_frame(RECORDS)) != results_csv(results_frame(changed))


def test_rows_are_sorted_by_suite_task_start_and_repetition() -> None:
    frame = results_frame(RECORDS[::-1])
    assert frame["id"].tolist() == [r.episode.id for r in RECORDS]


def test_no_circumstance_of_an_execution_is_a_result_column() -> None:
    assert not {"worker", "attempts", "wall_s", "cpu_s", "build_cpu_s", "model_s", "batch_sizes"} & set(RESULTS.names)


def test_parquet_returns_what_was_recorded() -> None:
    table = pq.read_table(io.BytesIO(parquet(results_frame([record(error="Boom: x")]), RESULTS)))
    assert table.schema == RESULTS
    row = table.to_pylist()[0]
    assert row["depths"] == [8, 3]
    assert row["exit_traces"] == [[0.5, 1e-4], []]
    assert row["flops"] is None
    assert (row["outcome"], row["culprit"]) == ("error", "policy")
    executions = pq.read_table(io.BytesIO(parquet(executions_frame([record()]), EXECUTIONS))).to_pylist()[0]
    assert executions["model_s"] == [0.1, 0.3]


def test_csv_keeps_the_message_of_an_error_and_reads_back() -> None:
    traceback = 'Traceback (most recent call last):\n  File "x", line 1\nPolicyFault: action 3 is NaN\n'
    frame = pd.read_csv(io.BytesIO(results_csv(results_frame([record(error=traceback), record(1)]))))
    assert frame["error"].tolist()[0] == "PolicyFault: action 3 is NaN"
    assert frame["depths"].tolist() == ["8 3", "8 3"]
    assert frame["instruction"].tolist()[1] == 'pick up the "soup", then stop'


def test_an_empty_run_has_empty_tables(tmp_path: Path) -> None:
    write_frames(tmp_path, results_frame([]), executions_frame([]))
    assert pq.read_table(tmp_path / "episodes.parquet").num_rows == 0
    assert (tmp_path / "results.csv").read_text().startswith("suite,task,start,repetition,seed,id,outcome")
    assert {p.name for p in tmp_path.iterdir()} == {"results.csv", "episodes.parquet", "executions.parquet"}
