"""Claims about ``rdvla-bench bench calvin``: what it refuses, and what it proves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pybullet")

from rdvla_bench.commands.bench import main
from rdvla_bench.commands.bench_calvin import Row, _are_equal
from rdvla_bench.commands.bench_calvin_loops import Request, draw_actions


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--suite", "calvin_e"], "calvin_"),
        (["--suite", "libero_object"], "libero_object is no CALVIN suite"),
        (["--chains", "1001"], "--chains 1001 is outside 1..1000"),
        (["--steps", "0"], "at least 1"),
        (["--only", "original"], "--upstream"),
        (["--out", "figures.txt"], ".md"),
        (["--only", "original", "--upstream", "nowhere", "--steps", "1"], "is no checkout of mees/calvin_env"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calvin", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_all_loops_compute_the_same_and_ours_costs_less(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.json"
    assert main(["calvin", "--chains", "2", "--steps", "20", "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    plain, ours, state = written["rows"]
    assert [row["loop"] for row in written["rows"]] == ["plain", "ours", "state"]
    assert plain["frames"] == ours["frames"] != state["frames"]
    assert plain["states"] == ours["states"] == state["states"]
    assert len(set(ours["states"])) == 2
    assert all(row["n_steps"] == 20 and row["n_queries"] == 4 for row in written["rows"])  # 0, 8, 16, 20
    assert plain["chain_s"] > 2 * ours["chain_s"]  # 6 at full length; CPU time is noisy, and CI is not quiet
    assert "frames and final states: equal" in capsys.readouterr().out


@pytest.mark.parametrize("differing", [{"frames": ("a", "x")}, {"states": ("s", "x")}])
def test_a_loop_that_computes_anything_else_is_found_out(differing: dict[str, tuple[str, ...]]) -> None:
    plain = Row("plain", 2, 8, 2, 0, 1.0, 0.1, 1.0, 80.0, ("a", "b"), ("s", "t"))
    ours = replace(plain, loop="ours")
    assert _are_equal([plain, ours])
    assert not _are_equal([plain, replace(ours, **differing)])


def test_the_original_is_not_held_to_our_numbers() -> None:
    ours = Row("ours", 1, 8, 2, 0, 1.0, 0.1, 1.0, 80.0, ("a",), ("s",))
    assert _are_equal([replace(ours, loop="original", frames=("b",), states=("t",)), ours])


def test_actions_are_fixed_by_seed_and_chain() -> None:
    request = Request(chain=3, steps=5, actions="random", seed=7)
    assert (draw_actions(request) == draw_actions(request)).all()
    assert (draw_actions(request) != draw_actions(replace(request, chain=4))).all()
    assert (draw_actions(replace(request, actions="hold"))[:, :6] == 0).all()
