from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rdvla_bench import Culprit, Episode, Outcome
from rdvla_bench.errors import LedgerError
from rdvla_bench.ledger import EPISODES, Ledger, actions_path, read_records, read_run
from rdvla_bench.record import Execution, Record, Result

ACTIONS = np.arange(14, dtype=np.float32).reshape(2, 7)


def record(start: int, outcome: Outcome = Outcome.SUCCESS) -> Record:
    culprit = Culprit.INFRA if outcome is Outcome.ERROR else None
    result = Result(
        outcome, steps=2, depths=(8,), horizons=(2,), exit_traces=((0.5, 0.25),), flops=1e9, culprit=culprit
    )
    return Record(Episode("fake_suite", 0, start, 0, 0), result, Execution(model_s=(0.1,), batch_sizes=(1,)))


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append(record(0), ACTIONS)
        ledger.append(record(1, Outcome.ERROR), ACTIONS[:0])
    assert read_records(tmp_path) == {r.episode.id: r for r in (record(0), record(1, Outcome.ERROR))}
    with np.load(actions_path(tmp_path, record(0).episode.id)) as stored:
        assert np.array_equal(stored["actions"], ACTIONS)


def test_backbone_and_head_are_kept_apart_and_ledgers_without_them_still_load() -> None:
    apart = replace(record(0).execution, backbone_s=(0.08,), head_s=(0.02,), peak_memory_bytes=1 << 30)
    new = replace(record(0), execution=apart)
    row = json.loads(json.dumps(new.to_json()))
    assert Record.from_json(row) == new
    for key in ("backbone_s", "head_s", "peak_memory_bytes"):
        del row["execution"][key]
    assert Record.from_json(row) == record(0)


def test_a_later_line_supersedes_an_earlier_one(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append(record(0, Outcome.ERROR), ACTIONS)
        ledger.append(record(0), ACTIONS)
    assert read_records(tmp_path) == {record(0).episode.id: record(0)}


@pytest.mark.parametrize("cut", [1, 5, 200])
def test_a_torn_last_line_is_recovered(tmp_path: Path, cut: int) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append(record(0), ACTIONS)
        ledger.append(record(1), ACTIONS)
    path = tmp_path / EPISODES
    path.write_bytes(path.read_bytes()[:-cut])
    assert list(read_records(tmp_path)) == [record(0).episode.id]  # a board of a run that is being written
    with Ledger(tmp_path) as ledger:
        assert ledger.recovered > 0
        ledger.append(record(1), ACTIONS)
    assert list(read_records(tmp_path)) == [record(0).episode.id, record(1).episode.id]


@pytest.mark.parametrize("garbage", ["{}", "not json", '{"schema": 99}', "\0" * 20])
def test_a_garbled_line_is_refused_with_its_number(tmp_path: Path, garbage: str) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append(record(0), ACTIONS)
        ledger.append(record(1), ACTIONS)
    path = tmp_path / EPISODES
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], garbage, lines[1]]) + "\n")
    with pytest.raises(LedgerError, match=rf"{EPISODES}:2 is garbled"):
        Ledger(tmp_path)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path), pytest.raises(LedgerError, match="another run is writing"):
        Ledger(tmp_path)


def test_a_full_disk_stops_clearly_and_loses_nothing(tmp_path: Path) -> None:
    code = f"""
import resource, sys
from pathlib import Path
from tests_ledger import record, ACTIONS, Ledger, LedgerError
ledger = Ledger(Path({str(tmp_path)!r}))
ledger.append(record(0), ACTIONS)
size = (Path({str(tmp_path)!r}) / "episodes.jsonl").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))
try:
    ledger.append(record(1), ACTIONS[:0])
except LedgerError as error:
    print(error)
"""
    link = tmp_path / "tests_ledger.py"
    link.symlink_to(__file__)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert "cannot write" in done.stdout
    assert "Every episode reported done is safe" in done.stdout
    assert list(read_records(tmp_path)) == [record(0).episode.id]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    with Ledger(tmp_path) as ledger:
        assert ledger.recovered == 0
        ledger.append(record(1), ACTIONS)


def test_a_foreign_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="is no run folder"):
        read_records(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(["not a run"]))
    with pytest.raises(LedgerError, match="was not written by"):
        read_run(tmp_path)
