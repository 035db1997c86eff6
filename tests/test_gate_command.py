"""Claims about the gate command: exit codes, reports, and the sequential mode that plays."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from rdvla_bench.commands.baseline import main as freeze
from rdvla_bench.commands.gate import Options
from rdvla_bench.commands.gate import main as gate
from rdvla_bench.commands.run import main as run
from rdvla_bench.leaderboards.render import write_all
from rdvla_bench.ledger import EPISODES, read_records

FAKE = ["--policy", "fake", "--suite", "fake_suite", "--workers", "0"]
PLAY = ["--sequential", "--policy", "fake", "--workers", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "a"
    assert run([*FAKE, "--episodes", "20", "--out", str(out)]) == 0
    return out


@pytest.fixture
def frozen(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert freeze([str(folder)]) == 0
    (tmp_path / "base.json").write_text(capsys.readouterr().out)
    return str(tmp_path / "base.json")


def edited(path: str, change: Callable[[list[object]], object]) -> str:
    """Return a copy of the baseline in which ``change`` was applied to each episode's row."""
    data = json.loads(Path(path).read_text())
    for row in data["episodes"]:
        change(row)
    other = Path(path).with_name("edited.json")
    other.write_text(json.dumps(data))
    return str(other)


def lines(out: Path) -> int:
    return (out / EPISODES).read_bytes().count(b"\n")


def test_the_same_run_passes_a_margin_that_its_size_can_show(
    folder: Path, frozen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(["--baseline", frozen, str(folder), "--margin", "5pp"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("PASS: success rate ")
    assert out.count("\n") == 1


def test_too_few_episodes_are_undecided_and_said_to_be(
    folder: Path, frozen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(["--baseline", frozen, str(folder), "--margin", "2pp"]) == 2
    out = capsys.readouterr().out
    assert out.startswith("UNDECIDED: ")
    assert "60 common episodes are fewer than the 133" in out
    assert out.count("\n") == 1


def broken(folder: Path, out: Path) -> str:
    """Return a copy of the run in which every success is a failure."""
    shutil.copytree(folder, out)
    text = (out / EPISODES).read_text()
    (out / EPISODES).write_text(text.replace('"success"', '"timeout"'))
    return str(out)


def test_a_worse_run_is_a_regression(
    folder: Path, frozen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(["--baseline", frozen, broken(folder, tmp_path / "worse")]) == 1
    assert capsys.readouterr().out.startswith("REGRESSION: success rate 88.3 % -> 0.0 %")


def test_exact_and_ceilings_decide_together(folder: Path, frozen: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(["--baseline", frozen, str(folder), "--exact", "--max-mean-depth", "8"]) == 0
    assert gate(["--baseline", frozen, str(folder), "--exact", "--max-mean-depth", "3"]) == 1
    assert "mean depth" in capsys.readouterr().out
    changed = edited(frozen, lambda row: row.__setitem__(6, 7))
    assert gate(["--baseline", changed, str(folder), "--exact"]) == 1
    assert "60 of 60 episodes have another result, 0 of them another outcome" in capsys.readouterr().out


def test_reports_are_written_and_added_to_the_jobs_page(
    folder: Path, frozen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    paths = [tmp_path / "j.xml", tmp_path / "s.md"]
    command = ["--baseline", frozen, str(folder), "--exact", "--junit", str(paths[0]), "--summary", str(paths[1])]
    assert gate(command) == 0
    assert 'tests="1" failures="0"' in paths[0].read_text()
    assert page.read_text() == "before\n" + paths[1].read_text()


def test_a_gate_that_cannot_be_asked_is_an_error_in_the_reports(frozen: str, tmp_path: Path) -> None:
    paths = [tmp_path / "j.xml", tmp_path / "s.md"]
    assert gate(["--baseline", frozen, "nowhere", "--junit", str(paths[0]), "--summary", str(paths[1])]) == 2
    assert 'errors="1"' in paths[0].read_text()
    assert "nowhere is no run folder" in paths[0].read_text()
    assert "nowhere is no run folder" in paths[1].read_text()


def test_the_example_workflow_uses_options_that_exist() -> None:
    example = Path(__file__).parents[1] / "examples" / "github-actions" / "gate.yml"
    command = example.read_text().partition("python -m rdvla_bench.gate ")[2].partition("\n\n")[0]
    used = set(re.findall(r"--([a-z-]+)", command))
    assert {"sequential", "baseline", "policy", "junit"} <= used
    assert used <= {field.name.replace("_", "-") for field in fields(Options)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN"], "no --baseline given"),
        (["--baseline", "BASE"], "give either a run folder"),
        (["--baseline", "BASE", "RUN", "--policy", "fake"], "give either a run folder"),
        (["--baseline", "BASE", "--policy", "fake"], "plays with --sequential only"),
        (["--baseline", "BASE", "RUN", "--margin", "2"], 'Did you mean "2pp"?'),
        (["--baseline", "BASE", "RUN", "--alpha", "0.6"], "expected a chance of error"),
        (["--baseline", "BASE", "RUN", "--exact", "--margin", "1pp"], "--exact allows no margin"),
        (["--baseline", "BASE", "RUN", "--exact", "--sequential"], "leave out --sequential"),
        (["--baseline", "nothing.json", "RUN"], "cannot be read"),
        (["--baseline", __file__, "RUN"], "is no JSON"),
        (["--baseline", "BASE", "nowhere"], "is no run folder"),
        (["--baseline", "BASE", *PLAY, "--suite", "libero_object"], "the baseline has only fake_suite"),
        (["--baseline", "BASE", *PLAY, "--set", "falt=nan"], "Did you mean 'fault'?"),
        (["--baseline", "BASE", *PLAY, "--workers", "-1"], "expected 0"),
        (["--baseline", "BASE", *PLAY], "60 episodes cannot pass this margin at alpha 0.05 even if nothing changed"),
        (["--baseline", "BASE", "RUN", "--junit", "/nowhere/j.xml"], "the report could not be written"),
    ],
)
def test_a_wrong_call_gets_one_line_and_exit_code_2(
    folder: Path, frozen: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    known = {"RUN": str(folder), "BASE": frozen}
    assert gate([known.get(text, text) for text in arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_run_with_errors_is_not_judged(frozen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "bad")
    run([*FAKE, "--episodes", "2", "--set", "fault=raise", "--out", out])
    capsys.readouterr()
    assert gate(["--baseline", frozen, out]) == 2
    assert "1 ERROR episode" in capsys.readouterr().err
    play = [*PLAY, "--set", "fault=raise", "--set", "at=101", "--out", str(tmp_path / "played"), "--margin", "10pp"]
    assert gate(["--baseline", frozen, *play]) == 2
    assert "1 ERROR episode (fake_suite-t01-s001-r" in capsys.readouterr().err


def test_sequential_stops_early_and_an_ordinary_run_finishes_its_folder(
    folder: Path, frozen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "played"
    assert gate(["--baseline", frozen, *PLAY, "--out", str(out), "--margin", "20pp"]) == 0
    assert "PASS: success rate difference +0.0 pp after " in capsys.readouterr().out
    assert 10 < lines(out) < 40
    assert run([*FAKE, "--episodes", "20", "--out", str(out)]) == 0
    assert (out / "results.csv").read_bytes() == (write_all(folder) and (folder / "results.csv").read_bytes())


def test_sequential_finds_a_broken_policy_in_a_few_episodes(
    folder: Path, frozen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(["--baseline", frozen, broken(folder, tmp_path / "worse"), "--sequential"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("REGRESSION: ")
    assert int(out.partition(" after ")[2].partition(" of 60")[0]) < 12


def test_only_the_named_tasks_are_played(frozen: str, tmp_path: Path) -> None:
    out = tmp_path / "played"
    assert gate(["--baseline", frozen, *PLAY, "--tasks", "2", "--out", str(out), "--margin", "20pp"]) == 0
    assert {record.episode.task for record in read_records(out).values()} == {2}


def test_the_same_sequential_command_again_plays_nothing_and_says_the_same(
    frozen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "played"
    command = ["--baseline", frozen, *PLAY, "--out", str(out), "--margin", "20pp"]
    assert gate(command) == 0
    first, n = capsys.readouterr().out.splitlines()[-1], lines(out)
    assert gate(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == first
    assert lines(out) == n


def test_an_interrupted_sequential_gate_goes_on_to_the_same_verdict(
    frozen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = ["--baseline", frozen, *PLAY, "--margin", "10pp"]
    gate([*command, "--out", str(whole)])
    verdict = capsys.readouterr().out.splitlines()[-1]
    shutil.copytree(whole, cut)
    kept = (whole / EPISODES).read_bytes().splitlines(keepends=True)[:9]
    (cut / EPISODES).write_bytes(b"".join(kept) + b'{"torn')
    gate([*command, "--out", str(cut)])
    assert capsys.readouterr().out.splitlines()[-1] == verdict
    assert lines(cut) == lines(whole)


def test_sequential_reads_a_finished_run_in_the_order_of_the_test(
    folder: Path, frozen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(["--baseline", frozen, str(folder), "--sequential", "--margin", "20pp"]) == 0
    assert "of 60 common episodes" in capsys.readouterr().out
    assert gate(["--baseline", frozen, str(folder), "--sequential", "--margin", "0.5pp"]) == 2
    assert "a baseline of more episodes, or a wider margin, would decide" in capsys.readouterr().out
    assert gate(["--baseline", frozen, str(folder), "--sequential", "--margin", "0.5pp", "--claim", "episodes"]) == 0


def test_sequential_needs_common_episodes(frozen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "other")
    run([*FAKE, "--episodes", "2", "--seed", "1", "--out", out])
    capsys.readouterr()
    assert gate(["--baseline", frozen, out, "--sequential"]) == 2
    assert "seed 0 there, 1 here" in capsys.readouterr().err


@pytest.mark.ray
def test_workers_on_ray_reach_the_same_verdict(frozen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    command = ["--baseline", frozen, "--sequential", "--policy", "fake", "--margin", "20pp"]
    assert gate([*command, "--workers", "0", "--out", str(tmp_path / "a")]) == 0
    alone = capsys.readouterr().out.splitlines()[-1]
    assert gate([*command, "--workers", "2", "--out", str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == alone
