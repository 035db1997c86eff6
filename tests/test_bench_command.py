"""Claims about ``rdvla-bench bench``: what it refuses, and what it proves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rdvla_bench.commands.bench import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--suite", "libero_objct"], "libero_object"),
        (["--task", "10"], "10"),
        (["--episodes", "0"], "--episodes 0 is outside 1..50"),
        (["--steps", "0"], "at least 1"),
        (["--out", "figures.txt"], ".md"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["libero", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_scaling_refuses_an_odd_number_of_episodes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scaling", "--episodes", "5"]) == 2
    assert "expected an even number" in capsys.readouterr().err


@pytest.mark.libero
@pytest.mark.slow
def test_both_loops_compute_the_same_and_ours_costs_less(tmp_path: Path) -> None:
    pytest.importorskip("libero")
    out = tmp_path / "figures.json"
    assert main(["libero", "--suite", "libero_object", "--episodes", "1", "--steps", "16", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [row["cameras"] for row in rows] == [True, False]
    assert all(row["frames_equal"] and row["states_equal"] and row["n_steps"] == 16 for row in rows)
    assert rows[0]["ratio"] > 3  # 8 on long episodes; CPU time is noisy, and CI is not quiet


@pytest.mark.libero
@pytest.mark.slow
@pytest.mark.parametrize(("suite", "task"), [("libero_goal", 7), ("libero_object", 0)])
def test_an_episode_is_upstreams_bit_for_bit_whatever_ran_before(tmp_path: Path, suite: str, task: int) -> None:
    """A task whose fixtures are drawn, and one that feels the solver's warm start (docs/identity-libero.md has all)."""
    pytest.importorskip("libero")
    out = tmp_path / "table.md"
    assert main(["identity", "--suite", suite, "--tasks", str(task), "--out", str(out)]) == 0
    assert out.read_text().count("| yes | yes | yes |") == 1


def test_the_model_benchmark_compares_both_ways_and_writes_its_table(tmp_path, capsys) -> None:
    pytest.importorskip("transformers")
    out = tmp_path / "model.md"
    command = ["model", "--cases", "nano,nano-head", "--queries", "3", "--repeats", "1", "--batches", "1,2"]
    assert main([*command, "--latency", "nano", "--out", str(out)]) == 0
    text = out.read_text()
    assert text.count("3 of 3") == 6  # query, head and drawn head, at two batch sizes
    assert "| 32 |" in text  # the latency at depth 32
    assert main(["model", "--batches", "0"]) == 2
    assert "--batches 0: expected whole numbers" in capsys.readouterr().err
    assert main(["model", "--cases", "nanno"]) == 2


def test_the_model_benchmark_refuses_a_gpu_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["model", "--device", "cuda"]) == 2
    assert "PyTorch finds no GPU here" in capsys.readouterr().err
