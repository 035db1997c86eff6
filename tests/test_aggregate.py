"""Claims about boards over many runs: how runs are found, what their flat tables hold, which are left unranked."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from synthetic_runs import adaptive, fixed, plain, play, write, write_sweep

from rdvla_bench.commands.board import main
from rdvla_bench.leaderboards.board import load_board
from rdvla_bench.leaderboards.ranking import group_runs
from rdvla_bench.ledger import read_run, write_run
from rdvla_bench.types import Episode

SMALL = {"n_tasks": 2, "n_episodes": 3}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    write_sweep(folder, [fixed(1), fixed(8)], "depth", **SMALL)
    write(folder / "broken", adaptive(1e-3), n_errors=1, **SMALL)
    (folder / "notes.txt").write_text("no run")
    (folder / "videos").mkdir()
    return folder


def rows_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


@pytest.mark.parametrize("how", ["folder", "pattern", "each", "twice"])
def test_runs_are_found_in_a_folder_by_pattern_or_one_by_one_and_each_once(
    how: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    each = [runs / name for name in ("broken", "depth=1", "depth=8")]
    paths = {"folder": [runs], "pattern": [runs / "*"], "each": each, "twice": [runs / "depth=1", runs]}[how]
    assert main([*map(str, paths), "--format", "csv"]) == 0
    assert {Path(row["run"]).name for row in rows_of(capsys)} == {"broken", "depth=1", "depth=8"}


def test_a_run_folder_is_not_searched_for_others(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(runs / "depth=1" / "inner", plain(), **SMALL)
    main([str(runs / "depth=1"), "--format", "csv"])
    assert {row["run"] for row in rows_of(capsys)} == {str(runs / "depth=1")}


def test_flat_tables_carry_ranks_of_suites_and_none_for_a_run_with_errors(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(runs), "--format", "csv"])
    found = {Path(row["run"]).name: (row["rank"], row["unranked"]) for row in rows_of(capsys) if row["task"] == ""}
    assert found["broken"] == ("", "1 error")
    assert {found["depth=1"][0], found["depth=8"][0]} <= {"1", "2"}
    main([str(runs), "--format", "json"])
    data = json.loads(capsys.readouterr().out)
    assert data[str(runs / "broken")]["ranks"] == {"libero_object": None}


def test_parquet_holds_what_csv_holds_with_types_that_do_not_depend_on_the_values(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schemas = []
    for name, where in (("all", runs), ("one", runs / "depth=1")):
        assert main([str(where), "--format", "parquet", "--out", str(tmp_path / name)]) == 0
        schemas.append(pq.read_schema(tmp_path / name))
    assert schemas[0] == schemas[1]
    capsys.readouterr()
    main([str(runs), "--format", "csv"])
    rows, table = rows_of(capsys), pq.read_table(tmp_path / "all").to_pylist()
    assert [list(row) for row in table] == [list(row) for row in rows]
    for mine, theirs in zip(table, rows, strict=True):
        assert mine["run"] == theirs["run"]
        assert mine["rank"] == (int(theirs["rank"]) if theirs["rank"] else None)
        assert mine["rate"] == pytest.approx(float(theirs["rate"]))


def test_a_run_that_changed_its_appearance_is_shown_but_not_ranked(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", fixed(4), n_tasks=1, n_episodes=4)
    records = [play(fixed(4), Episode("libero_object", 0, start, 0, 0)) for start in range(4)]
    looks = ["assets A", "assets A", "assets B", ""]
    mixed = [replace(r, result=replace(r.result, appearance=look)) for r, look in zip(records, looks, strict=True)]
    (folder / "episodes.jsonl").write_text("".join(json.dumps(r.to_json()) + "\n" for r in mixed))
    (group,) = group_runs([("a", load_board(folder))])
    assert group.ranks == (None,)
    assert group.entries[0].standing == "unranked: 2 appearances mixed"


def test_one_protocol_card_can_be_demanded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = str(write(tmp_path / "one", fixed(4), **SMALL))
    two = str(write(tmp_path / "two", fixed(4), protocol="libero/openpi@1", **SMALL))
    assert main([one, two]) == 0
    assert main([one, "--protocol", "libero/paired@1"]) == 0
    capsys.readouterr()
    assert main([one, two, "--protocol", "libero/paired@1"]) == 2
    err = capsys.readouterr().err
    assert f"{two} was played under libero/openpi@1, not libero/paired@1" in err
    assert err.count("\n") == 1


def test_two_editions_of_a_demanded_card_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write(tmp_path / name, fixed(4), **SMALL) for name in ("old", "new")]
    write_run(folders[0], read_run(folders[0]) | {"protocol_hash": "an older edition"})
    assert main([*map(str, folders), "--protocol", "libero/paired@1"]) == 2
    assert "two editions of libero/paired@1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["empty"], "empty is no run folder: neither it nor a folder in it has a run.json"),
        (["absent"], "absent names no run folder"),
        (["run", "none-*"], "none-* names no run folder"),
        ([], "no run folder given"),
        (["run", "--format", "md", "--out", "absent/x.md"], "there is no folder absent"),
        (["run", "--format", "md", "--out", "empty"], "cannot write empty"),
        (["run", "--html", "empty"], "cannot write empty"),
        (["run", "--format", "parquet"], "name a file with --out"),
        (["run", "--out", "x"], "needs a --format other than terminal"),
    ],
    ids=str,
)
def test_a_call_that_cannot_be_answered_gets_one_line_and_exit_code_2(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("run"), fixed(4), n_tasks=1, n_episodes=1)
    Path("empty").mkdir()
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
