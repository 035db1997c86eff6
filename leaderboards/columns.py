"""A ledger as the columns that scores are made of, read without building a ``Record`` an episode.

Non-obvious:
- Exit traces are two thirds of a ledger and no score needs them: they are cut out of each line before it is parsed.
- What Arrow does not read exactly as ``Record.from_json`` would is read by that instead: a garbled ledger gives the
  same error, an old one the same numbers, only slower.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from numpy.typing import NDArray

from rdvla_bench.leaderboards.frame import EXECUTIONS, RESULTS
from rdvla_bench.ledger import EPISODES, read_records
from rdvla_bench.record import SCHEMA, Record
from rdvla_bench.types import Outcome

_EPISODE = ("suite", "task", "start", "repetition", "seed")
_RESULT = ("outcome", "steps", "depths", "flops", "solved", "subtasks", "subtask_steps", "appearance")
_EXECUTION = ("attempts", "wall_s", "cpu_s", "build_cpu_s", "model_s", "batch_sizes", "backbone_s", "head_s")
_NULLABLE = {"flops", "solved", "subtasks", "subtask_steps", "backbone_s", "head_s"}

_LINE = pa.schema(
    [
        ("schema", pa.int64()),
        ("episode", pa.struct([EXECUTIONS.field(name) for name in _EPISODE])),
        ("result", pa.struct([RESULTS.field(name) for name in _RESULT])),
        ("execution", pa.struct([EXECUTIONS.field(name) for name in _EXECUTION])),
    ]
)
_TRACES = b'"exit_traces":['


@dataclass(frozen=True)
class Ragged:
    """One list an episode, end to end."""

    values: NDArray[Any]  # (sum of lengths,)
    lengths: NDArray[np.int64]  # (episodes,)

    def of(self, chosen: NDArray[np.bool_]) -> NDArray[Any]:
        """Return the values of the ``chosen`` episodes."""
        return self.values[np.repeat(chosen, self.lengths)]


@dataclass(frozen=True)
class Columns:
    """One entry an episode, in the order first written."""

    table: pa.Table  # columns of _EPISODE, _RESULT, _EXECUTION; no nulls but flops and solved
    suite: NDArray[Any]
    task: NDArray[np.int32]
    outcome: NDArray[Any]

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.suite)

    def of(self, suite: str, task: int | None) -> NDArray[np.bool_]:
        """Return which episodes are of ``suite``, and of ``task`` unless it is None."""
        chosen: NDArray[np.bool_] = self.suite == suite
        return chosen if task is None else chosen & (self.task == task)

    def plain(self, name: str) -> NDArray[Any]:
        """Return a column of numbers or texts; nulls are NaN."""
        array: NDArray[Any] = self.table.column(name).to_numpy()
        return array

    def ragged(self, name: str) -> Ragged:
        """Return a column of lists of numbers."""
        column = self.table.column(name).combine_chunks()
        return Ragged(column.flatten().to_numpy(), pc.list_value_length(column).to_numpy().astype(np.int64))

    def chains(self) -> pd.DataFrame:
        """Return what the scores of chains need, in the order of ``frame.results_frame``."""
        names = ["suite", "task", "start", "repetition", "outcome", "solved", "subtasks", "subtask_steps"]
        rows = self.table.select(names).to_pandas()
        return rows.sort_values(["suite", "task", "start", "repetition"], kind="stable").reset_index(drop=True)


def read_columns(folder: Path) -> Columns:
    """Read the ledger of ``folder``: the newest record of each episode.

    Raises:
        LedgerError: no ledger here, or a garbled line.
    """
    path = folder / EPISODES
    table = _parse(path.read_bytes()) if path.exists() else None
    return _columns(_of_records(read_records(folder).values()) if table is None else _newest(table))


def _parse(data: bytes) -> pa.Table | None:
    """Return one row a line, None where a line is not plainly one that ``Record.to_json`` wrote."""
    lines = data.split(b"\n")[:-1]
    if not lines:
        return None
    short = io.BytesIO(b"\n".join(map(_without_traces, lines)))
    try:
        read = pyarrow.json.read_json(
            short,
            pyarrow.json.ReadOptions(use_threads=False, block_size=1 << 24),
            pyarrow.json.ParseOptions(explicit_schema=_LINE, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return None
    if len(read) != len(lines) or pc.any(pc.not_equal(read["schema"], SCHEMA)).as_py():
        return None
    table = _flat(read)
    lacks = any(table[name].null_count for name in table.column_names if name not in _NULLABLE)
    known = pc.all(pc.is_in(table["outcome"], pa.array([str(outcome) for outcome in Outcome]))).as_py()
    return None if lacks or read["schema"].null_count or not known else _filled(table)


def _without_traces(line: bytes) -> bytes:
    """Return ``line`` without its exit traces, which hold no text: they end at the next quotation mark.

    A text cannot be mistaken for the key, because JSON escapes the quotation marks in a text.
    """
    begin = line.find(_TRACES)
    end = line.find(b'"', begin + len(_TRACES))
    return line if begin < 0 or end < 0 else line[:begin] + line[end:]


def _flat(read: pa.Table) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    for part, names in (("episode", _EPISODE), ("result", _RESULT), ("execution", _EXECUTION)):
        values = read[part].combine_chunks()
        columns |= {name: pc.struct_field(values, name) for name in names}
    return pa.table(columns)


def _of_records(records: Iterable[Record]) -> pa.Table:
    rows = [
        {
            **{name: getattr(r.episode, name) for name in _EPISODE},
            **{name: getattr(r.result, name) for name in _RESULT},
            **{name: getattr(r.execution, name) for name in _EXECUTION},
            "outcome": str(r.result.outcome),
        }
        for r in records
    ]
    fields = [field for part in ("episode", "result", "execution") for field in _LINE.field(part).type]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def _filled(table: pa.Table) -> pa.Table:
    """Return ``table`` with an empty list where an old ledger has none."""
    for name in _NULLABLE - {"flops", "solved"}:
        if table[name].null_count:
            column = table[name].combine_chunks()
            empty = pa.array([[]], column.type)[0]
            table = table.set_column(table.column_names.index(name), name, pc.coalesce(column, empty))
    return table


def _newest(table: pa.Table) -> pa.Table:
    """Return the last row of each episode; episodes stand in the order first written."""
    key = table.select(["suite", "task", "start", "repetition"]).to_pandas()
    again = key.duplicated(keep="last")
    if not again.any():
        return table
    place = key.groupby(list(key.columns), sort=False).ngroup().to_numpy()
    last = np.flatnonzero(~again.to_numpy())
    return table.take(last[np.argsort(place[last], kind="stable")])


def _columns(table: pa.Table) -> Columns:
    suite, outcome = (table.column(name).to_numpy() for name in ("suite", "outcome"))
    return Columns(table, suite, table.column("task").to_numpy(), outcome)
