"""Claims about reading a ledger fast: the same numbers and the same refusals as reading it record by record."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rdvla_bench.errors import LedgerError
from rdvla_bench.leaderboards import columns as fast
from rdvla_bench.leaderboards.columns import read_columns
from rdvla_bench.ledger import EPISODES, read_records
from rdvla_bench.record import Execution, Record, Result
from rdvla_bench.types import Culprit, Episode, Outcome


def record(start: int, outcome: str = "success", **result: Any) -> Record:
    made = Result(
        Outcome(outcome),
        steps=20 + start,
        depths=(4, 6 + start),
        horizons=(8, 8),
        exit_traces=((1.0, 0.25), (0.5,)),
        culprit=Culprit.ENV if outcome == "error" else None,
    )
    execution = Execution(cpu_s=1.5, model_s=(0.1, 0.2), batch_sizes=(1, 2), head_s=(0.05, 0.06))
    return Record(Episode("libero_goal", start % 2, start, 0, 0), replace(made, **result), execution)


def write(folder: Path, *records: Record, change: Callable[[dict[str, Any]], None] | None = None) -> Path:
    rows = [r.to_json() for r in records]
    for row in rows if change else ():
        change(row)
    (folder / EPISODES).write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    return folder


def both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read ``folder`` fast, then record by record; the fast way may not fall back."""
    with monkeypatch.context() as patch:
        patch.setattr(fast, "read_records", lambda folder: pytest.fail("fell back to records"))
        quick = read_columns(folder).table.to_pylist()
    monkeypatch.setattr(fast, "_parse", lambda data: None)
    return quick, read_columns(folder).table.to_pylist()


TRICKY = '","exit_traces":[["x"]],"flops":1} \\ \n Traceback "quoted" é'


def test_both_ways_of_reading_give_the_same_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [record(0), record(1, "error", error=TRICKY), record(2, "timeout", flops=1e300 / 3, exit_traces=())]
    chain = record(3, solved=2, subtasks=("open", "push"), subtask_steps=(30, 60), appearance=TRICKY)
    quick, slow = both(write(tmp_path, *records, chain), monkeypatch)
    assert quick == slow
    assert quick[3]["subtasks"] == ["open", "push"]
    assert quick[3]["appearance"] == TRICKY


def test_an_episode_played_again_counts_once_in_its_first_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick, slow = both(write(tmp_path, record(0, "error"), record(1), record(0, steps=99)), monkeypatch)
    assert quick == slow
    assert [(row["start"], row["steps"]) for row in quick] == [(0, 99), (1, 21)]


def test_the_first_ledgers_are_read_fast_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def age(row: dict[str, Any]) -> None:
        for part, names in (("result", ("subtasks", "subtask_steps")), ("execution", ("backbone_s", "head_s"))):
            for name in names:
                del row[part][name]

    quick, slow = both(write(tmp_path, record(0), record(1), change=age), monkeypatch)
    assert quick == slow


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path, record(0), record(1)) / EPISODES
    path.write_bytes(path.read_bytes()[:-30])
    assert len(read_columns(tmp_path)) == 1


def test_an_empty_ledger_has_no_episodes(tmp_path: Path) -> None:
    write(tmp_path)
    assert len(read_columns(tmp_path)) == 0


@pytest.mark.parametrize(
    "line",
    [b"\n", b"garbled\n", b'{"schema":1}\n', b"{}\n{}\n"],
)
def test_a_garbled_line_is_refused_with_its_number(tmp_path: Path, line: bytes) -> None:
    path = write(tmp_path, record(0)) / EPISODES
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(LedgerError, match=":2 is garbled"):
        read_columns(tmp_path)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [("result", "outcome", "victory"), ("result", "steps", None), ("execution", "cpu_s", "long")],
)
def test_a_line_that_is_not_plain_is_left_to_the_record(tmp_path: Path, part: str, name: str, value: object) -> None:
    """What the record refuses is refused; what it takes is not silently read as something else."""
    write(tmp_path, record(0), change=lambda row: row[part].update({name: value}))
    try:
        read_records(tmp_path)
    except LedgerError:
        with pytest.raises(LedgerError):
            read_columns(tmp_path)
    else:
        assert fast._parse((tmp_path / EPISODES).read_bytes()) is None


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    write(tmp_path, record(0), change=lambda row: row.update(schema=99))
    with pytest.raises(LedgerError, match="schema 99"):
        read_columns(tmp_path)
