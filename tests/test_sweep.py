"""A sweep is one run folder a value: the same episodes, one session, one resumable whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rdvla_bench.commands.run import main
from rdvla_bench.ledger import EPISODES, read_records, read_run
from rdvla_bench.run_set import run_folders, swept_keys

FAKE = ["--policy", "fake", "--suite", "fake_suite"]
TABLE = ("results.csv", "episodes.parquet", "board.csv")  # board.md names the commit, which may move


def run(out: Path, *more: str, workers: int = 0) -> int:
    return main([*FAKE, "--workers", str(workers), "--out", str(out), *more])


def table(out: Path) -> dict[str, bytes]:
    paths = sorted(path for folder in run_folders(out) for path in folder.iterdir() if path.name in TABLE)
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def lines(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob(f"*/{EPISODES}"))


def test_a_sweep_is_one_ordinary_run_folder_a_value_with_the_same_episodes(tmp_path: Path) -> None:
    assert run(tmp_path / "sweep", "--episodes", "2", "--sweep", "at=1,101") == 0
    assert run(tmp_path / "alone", "--episodes", "2", "--set", "at=101") == 0
    first, second = run_folders(tmp_path / "sweep")
    assert (first.name, second.name) == ("at=1", "at=101")
    assert list(read_records(first)) == list(read_records(second)) == list(read_records(tmp_path / "alone"))
    assert (second / "board.csv").read_bytes() == (tmp_path / "alone" / "board.csv").read_bytes()
    assert read_run(second)["config"]["settings"] == {"at": "101"}
    assert swept_keys(second) == ("at",)
    assert swept_keys(tmp_path / "alone") == ()


def test_several_keys_make_their_product(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--tasks", "0", "--sweep", "at=1,2", "--sweep", "fault=none,nan") == 0
    assert [folder.name for folder in run_folders(tmp_path)] == [
        "at=1,fault=none", "at=1,fault=nan", "at=2,fault=none", "at=2,fault=nan",
    ]  # fmt: skip
    assert "curves: python -m rdvla_bench.curves" in capsys.readouterr().out


def test_a_finished_sweep_plays_nothing_and_shows_all_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "--sweep", "at=1,2")
    before = lines(tmp_path)
    capsys.readouterr()
    assert run(tmp_path, "--sweep", "at=1,2") == 0
    assert lines(tmp_path) == before == 6
    shown = capsys.readouterr().out
    assert "at=1" in shown
    assert "at=2" in shown
    assert "episodes to play" not in shown


def test_an_error_in_any_run_of_a_sweep_is_exit_code_1(tmp_path: Path) -> None:
    assert run(tmp_path, "--tasks", "0", "--episodes", "2", "--sweep", "fault=none,nan") == 1
    assert {read_run(folder)["status"] for folder in run_folders(tmp_path)} == {"complete"}


def test_kill_9_and_resume_give_the_undisturbed_tables_byte_for_byte(tmp_path: Path) -> None:
    more = ["--episodes", "3", "--set", "query_s=0.02", "--sweep", "at=1,101"]
    run(tmp_path / "whole", *more)
    for n in (3, 12):  # in the first run, in the second
        command = [sys.executable, "-m", "rdvla_bench.run", *FAKE, "--workers", "0", "--out", str(tmp_path / "broken")]
        process = subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while lines(tmp_path / "broken") < n:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert run(tmp_path / "broken", *more) == 0
    assert table(tmp_path / "broken") == table(tmp_path / "whole")
    assert lines(tmp_path / "broken") == 18


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (["--sweep", "at=1,2,3"], 'sweep: {"at": ["1", "2"]} there, {"at": ["1", "2", "3"]} here'),
        (["--sweep", "at=1,2", "--seed", "3"], "seed: 0 there, 3 here"),
        (["--sweep", "at=1,2", "--set", "fault=nan"], 'settings: {} there, {"fault": "nan"} here'),
        ([], "holds a sweep"),
    ],
)
def test_another_configuration_is_refused_with_the_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], second: list[str], message: str
) -> None:
    run(tmp_path, "--sweep", "at=1,2")
    capsys.readouterr()
    assert run(tmp_path, *second) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_sweep_that_never_played_may_be_corrected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = ["--policy", "rdvla-fixed", "--suite", "fake_suite", "--workers", "0", "--out", str(tmp_path)]
    fixed += ["--set", "benchmark=libero"]
    assert main([*fixed, "--sweep", "depth=0,2"]) == 2
    assert "depth must be a whole number from 1" in capsys.readouterr().err
    assert run(tmp_path, "--sweep", "at=1,2") == 0
    assert run_folders(tmp_path) == [tmp_path / "at=1", tmp_path / "at=2"]


def test_a_sweep_into_the_folder_of_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    assert run(tmp_path, "--sweep", "at=1,2") == 2
    assert "holds a single run" in capsys.readouterr().err
    assert not (tmp_path / "sweep.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sweep", "att=1,2"], "no setting 'att'. Did you mean 'at'? (policy 'fake' takes fault, at, marker"),
        (["--sweep", "at="], "without empty values"),
        (["--sweep", "at=1,,2"], "without empty values"),
        (["--sweep", "at"], "expected KEY=VALUE,VALUE,..."),
        (["--sweep", "=1,2"], "expected KEY=VALUE,VALUE,..."),
        (["--sweep", "at=1,2,1"], "1 and 1 are the same value"),
        (["--sweep", "query_s=1e-4,0.0001"], "1e-4 and 0.0001 are the same value"),
        (["--sweep", "at=1,x"], "at=x: expected a whole number"),
        (["--sweep", "at=1", "--sweep", "at=2"], "--sweep at is given twice"),
        (["--sweep", "at=1", "--set", "at=2"], "contradict each other"),
        (["--sweep", "at=1,2,3,4,5,6,7,8,9", "--sweep", "query_s=0,1,2,3,4,5,6,7"], "9 x 8 = 72 runs; at most 64"),
        (["--sweep", "marker=a/b,a:b"], "two values would both be kept in"),
    ],
)
def test_a_wrong_sweep_gets_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(tmp_path / "out", *arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
def test_a_sweep_runs_in_one_ray_session_with_the_same_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    sessions: list[dict[str, object]] = []
    init = ray.init
    monkeypatch.setattr(ray, "init", lambda **options: (sessions.append(options), init(**options)))
    more = ["--episodes", "2", "--sweep", "at=1,2,3"]
    assert run(tmp_path / "local", *more) == 0
    assert run(tmp_path / "ray", *more, "--policy-placement", "shared", workers=2) == 0
    assert len(sessions) == 1
    assert not ray.is_initialized()
    assert table(tmp_path / "ray") == table(tmp_path / "local")


def test_sweep_json_says_what_is_swept(tmp_path: Path) -> None:
    run(tmp_path, "--sweep", "at=1,2")
    stored = json.loads((tmp_path / "sweep.json").read_text())
    assert stored["config"]["sweep"] == {"at": ["1", "2"]}
    assert stored["points"] == ["at=1", "at=2"]
    assert stored["config"]["settings"] == {}
