"""Suites of several benchmarks in one call: one ordinary run folder each, one resumable whole; the quick slice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rdvla_bench import slices
from rdvla_bench.commands.board import main as board
from rdvla_bench.commands.compare import main as compare
from rdvla_bench.commands.gate import main as gate
from rdvla_bench.commands.run import main
from rdvla_bench.commands.run_arguments import RunArguments, command_line, make_plans
from rdvla_bench.ledger import EPISODES, read_records, read_run
from rdvla_bench.run_set import run_folders

MIX = ["--policy", "fake", "--suite", "fake_suite,fake_pair"]
TABLE = ("results.csv", "episodes.parquet", "board.csv")  # board.md names the commit, which may move


def run(out: Path, *more: str, workers: int = 0) -> int:
    return main([*MIX, "--workers", str(workers), "--out", str(out), *more])


def lines(out: Path, folder: str = "*") -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob(f"{folder}/{EPISODES}"))


def table(out: Path) -> dict[str, bytes]:
    paths = sorted(path for folder in run_folders(out) for path in folder.iterdir() if path.name in TABLE)
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def break_off(out: Path, folder: str, n: int, number: signal.Signals, *more: str) -> tuple[int, str]:
    """Signal a run once ``folder`` holds ``n`` episodes; return its exit code and what it said."""
    command = [sys.executable, "-m", "rdvla_bench.run", *MIX, "--workers", "0", "--out", str(out), *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while lines(out, folder) < n:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    os.kill(process.pid, number)
    said = process.communicate(timeout=30)[0]
    return process.returncode, said


def test_two_benchmarks_in_one_call_make_two_ordinary_run_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "mix", "--episodes", "2") == 0
    shown = capsys.readouterr().out
    assert "fake on fake_suite under fake/fake@1" in shown
    assert "fake on fake_pair under pair/pair@1" in shown
    assert [folder.name for folder in run_folders(tmp_path / "mix")] == ["fake", "pair"]
    for suite, folder, card in (("fake_suite", "fake", "fake/fake@1"), ("fake_pair", "pair", "pair/pair@1")):
        alone = ["--policy", "fake", "--suite", suite, "--workers", "0", "--episodes", "2"]
        assert main([*alone, "--out", str(tmp_path / folder)]) == 0
        stored = read_run(tmp_path / "mix" / folder)
        assert (stored["config"]["protocol"], stored["status"]) == (card, "complete")
        assert stored["config"] == read_run(tmp_path / folder)["config"]
        mixed = (tmp_path / "mix" / folder / "results.csv").read_bytes()
        assert mixed == (tmp_path / folder / "results.csv").read_bytes()


def test_the_same_call_resumes_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    before = lines(tmp_path)
    for folder in ("fake", "pair"):
        path = tmp_path / folder / EPISODES
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    capsys.readouterr()
    assert run(tmp_path) == 0
    assert "3 of 5 episodes are done" in capsys.readouterr().out
    assert lines(tmp_path) == before == 5
    assert run(tmp_path) == 0
    assert "to play" not in capsys.readouterr().out


def test_killed_between_the_two_it_plays_only_what_is_missing(tmp_path: Path) -> None:
    more = ["--episodes", "4", "--set", "query_s=0.02"]
    run(tmp_path / "whole", *more)
    break_off(tmp_path / "broken", "pair", 1, signal.SIGKILL, *more)
    first = (tmp_path / "broken" / "fake" / EPISODES).read_bytes()
    assert first.count(b"\n") == 12
    assert run(tmp_path / "broken", *more) == 0
    assert (tmp_path / "broken" / "fake" / EPISODES).read_bytes() == first
    assert table(tmp_path / "broken") == table(tmp_path / "whole")
    assert lines(tmp_path / "broken") == 20


def test_ctrl_c_keeps_what_is_done_of_both_and_says_how_to_resume(tmp_path: Path) -> None:
    code, said = break_off(tmp_path, "pair", 1, signal.SIGINT, "--episodes", "8", "--set", "query_s=0.05")
    assert code == 130
    assert f"of 40 episodes are safe in {tmp_path}" in said
    assert "resume: python -m rdvla_bench.run --policy fake --suite fake_suite,fake_pair" in said
    assert [read_run(folder)["status"] for folder in run_folders(tmp_path)] == ["complete", "interrupted"]


def test_an_error_in_either_benchmark_is_exit_code_1(tmp_path: Path) -> None:
    assert run(tmp_path, "--set", "fault=nan", "--set", "at=0") == 1


def test_each_benchmark_is_swept_in_its_own_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--sweep", "at=1,2") == 0
    shown = capsys.readouterr().out
    assert f"curves: python -m rdvla_bench.curves {tmp_path / 'fake'} " in shown
    assert f"curves: python -m rdvla_bench.curves {tmp_path / 'pair'} " in shown
    names = [str(folder.relative_to(tmp_path)) for folder in run_folders(tmp_path)]
    assert names == ["fake/at=1", "fake/at=2", "pair/at=1", "pair/at=2"]
    assert all(read_run(folder)["status"] == "complete" for folder in run_folders(tmp_path))


def test_episodes_full_is_what_each_card_says(tmp_path: Path) -> None:
    fake, pair = make_plans(RunArguments("fake", suite="fake_suite,fake_pair", episodes="full"))
    assert (fake.n_episodes, pair.n_episodes) == (10, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "fake/fake@1"], "--protocol fake/fake@1 beside suites of fake and pair: a protocol card holds"),
        (["--suite", "quick,fake_suite"], "'quick' is a fixed slice and stands alone"),
        (["--suite", "quick", "--episodes", "full"], "name suites too, such as --suite libero,calvin --episodes full"),
        (["--suite", "quick", "--tasks", "0"], "--tasks 0 beside --suite quick (the default)"),
        (["--suite", "quik"], "no suite 'quik'. Did you mean 'quick'?"),
        (["--suite", "libero,libero_goal"], "names a suite twice"),
        (["--env", "asets=x"], "no environment setting 'asets'"),
        (["--tasks", "2"], "suite 'fake_pair' has no task 2"),
    ],
)
def test_a_wrong_mix_gets_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(tmp_path / "out", *arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_settings_of_one_benchmark_do_not_disturb_the_other() -> None:
    mixed = RunArguments("hold", suite="libero_object,calvin_d", env=("backend=upstream",))
    assert [dict(plan.env) for plan in make_plans(mixed)] == [{}, {"backend": "upstream"}]


def test_the_benchmark_of_a_policy_is_not_set_for_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--policy", "rdvla-fixed", "--suite", "libero,calvin", "--set", "benchmark=calvin"]) == 2
    assert "--set benchmark calvin beside suites of libero and calvin" in capsys.readouterr().err


def test_a_policy_that_does_not_fit_the_second_benchmark_is_told_before_the_first_is_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--policy", "pair-hater", *MIX[2:], "--workers", "0", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "this policy does not play pair (nothing was played yet; without pair: --suite fake_suite)" in said
    assert said.count("\n") == 1
    assert lines(tmp_path) == 0
    assert run(tmp_path) == 0  # a mix that never played may be corrected


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (["--seed", "3"], "seed: 0 there, 3 here"),
        (["--episodes", "2"], "fake episodes: 1 there, 2 here; pair episodes: 1 there, 2 here"),
        (["--suite", "fake_suite"], "holds runs of several benchmarks: give its --suite too"),
        (["--suite", "fake_suite", "--sweep", "at=1,2"], "holds runs of several benchmarks, not a sweep"),
    ],
)
def test_another_configuration_is_refused_with_the_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], second: list[str], message: str
) -> None:
    run(tmp_path)
    capsys.readouterr()
    assert run(tmp_path, *second) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_mix_into_the_folder_of_a_run_or_a_sweep_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "run", "--suite", "fake_suite")
    run(tmp_path / "sweep", "--suite", "fake_suite", "--sweep", "at=1,2")
    capsys.readouterr()
    assert run(tmp_path / "run") == 2
    assert "holds a single run, not runs of several benchmarks" in capsys.readouterr().err
    assert run(tmp_path / "sweep") == 2
    assert "holds a sweep, not runs of several benchmarks" in capsys.readouterr().err


def test_the_board_of_a_mix_is_that_of_each_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "mix")
    capsys.readouterr()
    for given in (tmp_path / "mix", tmp_path):
        assert board([str(given)]) == 0
        shown = capsys.readouterr().out
        assert shown.index("fake on fake_suite") < shown.index("fake on fake_pair")
    assert board([str(tmp_path / "mix"), "--format", "json"]) == 0
    assert sorted(json.loads(capsys.readouterr().out)) == [str(tmp_path / "mix" / name) for name in ("fake", "pair")]


def test_what_takes_one_run_names_those_of_a_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    capsys.readouterr()
    choice = f"name one of them: {tmp_path / 'fake'}, {tmp_path / 'pair'}"
    assert compare([str(tmp_path), str(tmp_path / "fake")]) == 2
    assert choice in capsys.readouterr().err
    assert gate([str(tmp_path), "--baseline", str(tmp_path / "none.json")]) == 2
    assert choice in capsys.readouterr().err


def test_the_quick_slice_is_what_it_says() -> None:
    libero, calvin = make_plans(RunArguments("hold"))
    assert [suite.name for suite in libero.suites] == list(slices.GROUPS["libero"])
    assert set(libero.tasks.values()) == {(0, 3, 6, 9)}
    assert (libero.n_episodes, libero.n_planned) == (1, 16)
    assert [suite.name for suite in calvin.suites] == ["calvin_d"]
    assert (calvin.n_episodes, calvin.n_planned) == (12, 12)


def test_the_full_benchmark_is_what_the_quick_slice_is_cut_from() -> None:
    full = make_plans(RunArguments("hold", suite=slices.FULL, episodes="full"))
    assert [plan.n_planned for plan in full] == [4 * 10 * 50, 1000]
    for plan, cut in zip(full, slices.QUICK_CUTS, strict=True):
        assert {suite.name for suite in plan.suites} == set(cut.suites)
        assert cut.n_episodes < plan.n_episodes


def test_the_default_run_plays_both_and_says_how_to_play_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = (slices.Cut(("fake_suite",), "0,2", 1), slices.Cut(("fake_pair",), None, 3))
    monkeypatch.setattr(slices, "QUICK_CUTS", cuts)
    monkeypatch.chdir(tmp_path)
    assert main(["--policy", "fake", "--workers", "0", "--set", "at=5"]) == 0
    shown = capsys.readouterr().out
    (out,) = (tmp_path / "runs").iterdir()
    assert out.name.startswith("fake-quick-")
    assert [len(read_records(folder)) for folder in run_folders(out)] == [2, 6]
    assert "quick slice (fake: 2 episodes, 1 a task; pair: 6 episodes, 3 a task)" in shown
    assert "(libero: 2000 episodes, 50 a task; calvin: 1000 chains, 1000 a task)" in shown
    last = "    python -m rdvla_bench.run --policy fake --suite libero,calvin --episodes full --set at=5 --workers 0"
    assert shown.splitlines()[-1] == last


def test_a_command_line_gives_its_arguments_again() -> None:
    asked = RunArguments("fake", set=("at=1", "marker=a b"), retry_errors=True, policy_batch=4, out=Path("runs/a"))
    assert command_line(asked) == (
        "python -m rdvla_bench.run --policy fake --set at=1 --set 'marker=a b' --out runs/a --policy-batch 4 "
        "--retry-errors"
    )


@pytest.mark.ray
def test_a_mix_runs_in_one_ray_session_with_the_same_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    sessions: list[dict[str, object]] = []
    init = ray.init
    monkeypatch.setattr(ray, "init", lambda **options: (sessions.append(options), init(**options)))
    assert run(tmp_path / "local", "--episodes", "2") == 0
    assert run(tmp_path / "ray", "--episodes", "2", workers=2) == 0
    assert len(sessions) == 1
    assert table(tmp_path / "ray") == table(tmp_path / "local")
