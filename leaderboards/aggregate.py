"""Many runs as one flat table, found from run folders, folders of run folders and patterns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from rdvla_bench.errors import LedgerError, UsageError
from rdvla_bench.leaderboards.board import Board
from rdvla_bench.leaderboards.frame import parquet
from rdvla_bench.leaderboards.ranking import Group
from rdvla_bench.leaderboards.render import all_rows
from rdvla_bench.ledger import RUN
from rdvla_bench.run_set import run_folders

_TEXTS = {"run", "policy", "policy_hash", "weights", "protocol", "protocol_hash", "suite", "name"}
_TEXTS |= {"in_a_row", "in_a_row_low", "in_a_row_high", "unranked"}
_WHOLE = {"rank", "seed", "task", "planned", "done", "errors", "successes", "scored", "retries"}


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the run folders that ``paths`` name, each once, in that order.

    A path is a run folder, a set of runs (a sweep, a mix of benchmarks), a folder with these in it, or a pattern such
    as ``runs/*`` that the shell left alone, of which what is no run folder is passed over.

    Raises:
        LedgerError: a path names no run folder.
    """
    return list(dict.fromkeys(run for path in paths for run in _found(path)))


def _found(path: Path) -> list[Path]:
    if (path / RUN).exists():
        return [path]
    if path.is_dir():
        runs = [*_begun(path), *(run for folder in sorted(path.iterdir()) for run in _begun(folder))]
        missing = f"{path} is no run folder: neither it nor a folder in it has a {RUN}"
    else:
        pattern = path.relative_to(path.anchor) if path.is_absolute() else path
        runs = [run for folder in sorted(Path(path.anchor or ".").glob(str(pattern))) for run in _begun(folder)]
        missing = f"{path} names no run folder, that is, none with a {RUN}"
    if not runs:
        raise LedgerError(f"{missing} (a run writes it: rdvla-bench run --out)")
    return runs


def _begun(folder: Path) -> list[Path]:
    """Return the run folders that ``folder`` is or is a set of, without those that no worker has greeted yet."""
    return [run for run in run_folders(folder) if (run / RUN).exists()]


def demand_protocol(boards: Iterable[tuple[str, Board]], name: str) -> None:
    """Check that every run was played under one edition of the protocol card ``name``.

    Raises:
        UsageError: naming the first run that was not, and what it was played under.
    """
    hashes: dict[str, str] = {}
    for run, board in boards:
        played, edition = board.manifest["config"]["protocol"], board.manifest["protocol_hash"]
        if played != name:
            raise UsageError(f"{run} was played under {played}, not {name}: leave it out, or leave out --protocol")
        first = hashes.setdefault(edition, run)
        if len(hashes) > 1:
            other = next(iter(hashes.items()))
            raise UsageError(
                f"{first} and {other[1]} were played under two editions of {name} ({edition}, {other[0]}): "
                f"name one of them only"
            )


def aggregate_rows(boards: Iterable[tuple[str, Board]], groups: Iterable[Group]) -> list[dict[str, Any]]:
    """Return one flat row a run and suite and one a run and task; ``rank`` is None but for a ranked suite."""
    ranks = ranks_of(groups)
    return [
        {**row, "rank": ranks.get((run, row["suite"])) if row["task"] is None else None}
        for run, board in boards
        for row in all_rows(run, board)
    ]


def ranks_of(groups: Iterable[Group]) -> dict[tuple[str, str], int | None]:
    """Return (run, suite) -> its rank within its group."""
    return {
        (entry.run, group.suite): rank
        for group in groups
        for entry, rank in zip(group.entries, group.ranks, strict=True)
    }


def aggregate_parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    """Return ``rows`` as a Parquet file; the types do not depend on the values."""
    schema = pa.schema([(name, _type(name)) for name in rows[0]])
    return parquet(pd.DataFrame(list(rows), columns=schema.names), schema)


def _type(name: str) -> pa.DataType:
    if name in _TEXTS:
        return pa.string()
    if name in _WHOLE:
        return pa.int64()
    return pa.bool_() if name == "privileged" else pa.float64()
