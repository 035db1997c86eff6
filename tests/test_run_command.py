"""The run command in process (``--workers 0``): everything but Ray."""

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

FAKE = ["--policy", "fake", "--suite", "fake_suite"]


def run(out: Path, *more: str, workers: int = 0) -> int:
    return main([*FAKE, "--workers", str(workers), "--out", str(out), *more])


def spawn(out: Path, *more: str, workers: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rdvla_bench.run", *FAKE, "--workers", str(workers), "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_lines(out: Path, n: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    path = out / EPISODES
    while not path.exists() or path.read_bytes().count(b"\n") < n:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def table(out: Path) -> bytes:
    return b"".join((out / name).read_bytes() for name in ("results.csv", "episodes.parquet", "board.csv"))


def test_a_run_writes_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--episodes", "2") == 0
    assert "fake_suite" in capsys.readouterr().out
    names = {path.name for path in tmp_path.iterdir()}
    assert {"run.json", "episodes.jsonl", "episodes.parquet", "actions", "board.md", "board.csv", "board.json"} <= names
    stored = read_run(tmp_path)
    assert stored["status"] == "complete"
    assert stored["planned"] == len(read_records(tmp_path)) == 6
    assert {"policy_card", "protocol_card", "versions", "gl", "machine", "git_commit"} <= set(stored)


def test_a_finished_run_just_prints_its_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    before = (tmp_path / EPISODES).read_bytes()
    first = capsys.readouterr().out
    assert run(tmp_path) == 0
    assert (tmp_path / EPISODES).read_bytes() == before
    assert capsys.readouterr().out.splitlines()[-5:] == first.splitlines()[-5:]


def test_another_configuration_is_refused_with_the_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    assert run(tmp_path, "--seed", "1", "--set", "at=5") == 2
    line = capsys.readouterr().err
    assert "seed: 0 there, 1 here" in line
    assert 'settings: {} there, {"at": "5"} here' in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "fak"], "no policy 'fak'. Did you mean 'fake'?"),
        (["--suite", "libero_objct"], "no suite 'libero_objct'. Did you mean 'libero_object'?"),
        (["--tasks", "9"], "suite 'fake_suite' has no task 9: tasks are 0..2"),
        (["--protocol", "libero/opnpi@1"], "Did you mean 'libero/openpi@1'?"),
        (["--protocol", "libero/openpi@1"], "does not cover suite 'fake_suite'"),
        (["--set", "falt=nan"], "Did you mean 'fault'?"),
        (["--set", "fault"], "expected KEY=VALUE"),
        (["--episodes", "0"], "expected at least 1"),
        (["--workers", "-1"], "expected 0"),
        (["--policy-timeout", "0"], "must be > 0"),
        (["--suite", "fake_suite,fake_suite"], "names a suite twice"),
        (["--out", __file__], "is a file"),
    ],
)
def test_a_wrong_call_gets_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    base = {"--policy": "fake", "--suite": "fake_suite", "--workers": "0", "--out": str(tmp_path / "out")}
    base |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert main([text for pair in base.items() for text in pair]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out" / EPISODES).exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_policy_that_cannot_be_made_is_told_before_a_run_is_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--policy", "pair-hater", "--suite", "fake_pair", "--workers", str(workers)]) == 2
    said = capsys.readouterr()
    assert said.err == "UsageError: this policy does not play pair (nothing was played yet)\n"
    assert said.out == ""
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("fault", ["nan", "raise"])
def test_the_run_goes_on_after_a_policy_error_and_is_not_ranked(tmp_path: Path, fault: str) -> None:
    assert run(tmp_path, "--episodes", "3", "--tasks", "0", "--set", f"fault={fault}") == 1
    outcomes = [record.result.outcome for record in read_records(tmp_path).values()]
    assert outcomes.count("error") == 1
    assert len(outcomes) == 3
    assert "unranked: 1 error" in (tmp_path / "board.md").read_text()


def test_a_hanging_policy_is_interrupted_in_process(tmp_path: Path) -> None:
    assert run(tmp_path, "--tasks", "0", "--episodes", "2", "--set", "fault=hang", "--policy-timeout", "0.3") == 1
    error = read_records(tmp_path)["fake_suite-t00-s001-r0"].result
    assert error.culprit == "policy"
    assert "no answer within 0.3 s" in error.error


def test_an_error_is_played_again_only_on_request(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    more = ["--tasks", "0", "--episodes", "2", "--set", "fault=raise"]
    assert run(tmp_path / "out", *more) == 1
    lines = (tmp_path / "out" / EPISODES).read_bytes().count(b"\n")
    assert run(tmp_path / "out", *more) == 1
    assert (tmp_path / "out" / EPISODES).read_bytes().count(b"\n") == lines
    assert run(tmp_path / "out", *more, "--retry-errors") == 1
    assert (tmp_path / "out" / EPISODES).read_bytes().count(b"\n") == lines + 1
    assert not marker.exists()


def test_kill_9_and_resume_give_the_undisturbed_table_byte_for_byte(tmp_path: Path) -> None:
    more = ["--episodes", "6", "--set", "query_s=0.02"]
    run(tmp_path / "whole", *more)
    for n in (3, 8, 13):
        process = spawn(tmp_path / "broken", *more)
        wait_for_lines(tmp_path / "broken", n, process)
        process.kill()
        process.wait()
    assert run(tmp_path / "broken", *more) == 0
    assert table(tmp_path / "broken") == table(tmp_path / "whole")
    ids = [json.loads(line)["id"] for line in (tmp_path / "broken" / EPISODES).read_text().splitlines()]
    assert len(ids) == len(set(ids)) == 18


def test_ctrl_c_ends_soon_and_says_how_to_resume(tmp_path: Path) -> None:
    process = spawn(tmp_path, "--episodes", "8", "--set", "query_s=0.05")
    wait_for_lines(tmp_path, 1, process)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "resume: python -m rdvla_bench.run --policy fake" in output
    assert read_run(tmp_path)["status"] == "interrupted"


def test_a_second_run_into_the_same_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = spawn(tmp_path, "--episodes", "8", "--set", "query_s=0.05")
    try:
        wait_for_lines(tmp_path, 1, process)
        assert run(tmp_path, "--episodes", "8", "--set", "query_s=0.05") == 2
        assert "another run is writing" in capsys.readouterr().err
    finally:
        process.kill()
        process.wait()


def test_a_garbled_ledger_is_refused_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "--episodes", "2")
    path = tmp_path / EPISODES
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:40], *lines[2:]]) + "\n")
    assert run(tmp_path, "--episodes", "2") == 2
    assert f"{EPISODES}:2 is garbled" in capsys.readouterr().err


def test_another_policy_card_or_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "--episodes", "2")
    stored = read_run(tmp_path)
    path = tmp_path / EPISODES
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    stored["versions"]["mujoco"] = "3.17.0"
    (tmp_path / "run.json").write_text(json.dumps(stored))
    assert run(tmp_path, "--episodes", "2") == 2
    assert 'mujoco: "3.17.0" there' in capsys.readouterr().err


def test_the_default_folder_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main([*FAKE, "--workers", "0"])
    main([*FAKE, "--workers", "0"])
    assert len(list((tmp_path / "runs").iterdir())) == 1
