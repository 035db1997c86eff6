"""Claims about comparing runs: what is said, what is left out, what is refused."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdvla_bench.commands.compare import main
from rdvla_bench.leaderboards.comparison import Comparison, Rule, compare
from rdvla_bench.leaderboards.run_folder import read_run
from rdvla_bench.ledger import write_run
from rdvla_bench.policy import PolicyCard
from rdvla_bench.record import Record, Result
from rdvla_bench.types import Culprit, Episode, Outcome

NAMES = {"s": Outcome.SUCCESS, "t": Outcome.TIMEOUT, "e": Outcome.ERROR}


def folder(
    path: Path,
    played: Mapping[tuple[str, int], str],
    *,
    policy: str = "",
    depth: int = 8,
    seed: int = 0,
    n_starts: int = 10_000,
    protocol: Mapping[str, Any] | None = None,
    **card: Any,
) -> Path:
    """Write a run folder as a run does: one letter an episode, s, t or e, or a digit for a chain."""
    tasks: dict[str, list[int]] = {}
    for suite, task in played:
        tasks.setdefault(suite, []).append(task)
    policy_card = PolicyCard(policy or path.name, **{"weights": "trained", **card})
    chained = {suite for (suite, _), text in played.items() if text[:1].isdigit()}
    path.mkdir(parents=True)
    rules = {"name": "toy@1", "summary": "", "max_steps": {"toy": 10}, **(protocol or {})}
    write_run(
        path,
        {
            "schema": 1,
            "status": "complete",
            "config": {
                "policy": policy or path.name,
                "settings": {},
                "suites": list(tasks),
                "tasks": tasks,
                "episodes": max(map(len, played.values())),
                "seed": seed,
                "protocol": rules["name"],
            },
            "policy_card": policy_card.to_json(),
            "protocol_card": rules,
            "policy_hash": policy_card.hash,
            "protocol_hash": str(hash(json.dumps(rules))),
            "planned": sum(map(len, played.values())),
            "versions": {"mujoco": "3.3.2"},
            "gl": None,
            "task_names": {suite: {str(i): f"task_{i}" for i in ids} for suite, ids in tasks.items()},
            "n_instructions": dict.fromkeys(chained, 5),
            "started": "2026-01-01T00:00:00Z",
            "git_commit": "abcdef0",
        },
    )
    lines = []
    for (suite, task), text in played.items():
        for i, letter in enumerate(text):
            solved = int(letter) if letter.isdigit() else None
            outcome = NAMES.get(letter, Outcome.SUCCESS if solved == 5 else Outcome.TIMEOUT)
            result = Result(
                outcome, steps=9, depths=(depth,), horizons=(9,), flops=1e9 * depth, solved=solved,
                culprit=Culprit.ENV if letter == "e" else None, error="EnvFault: boom" if letter == "e" else "",
            )  # fmt: skip
            lines.append(json.dumps(Record(Episode(suite, task, i % n_starts, i // n_starts, seed), result).to_json()))
    (path / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    return path


def compared(*folders: Path, rule: Rule | None = None) -> list[Comparison]:
    return compare([(path.name, read_run(path)) for path in folders], rule or Rule())


def refused(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    assert main([str(word) for word in argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    return err


TOY = ("toy", 0)


def test_the_better_run_is_named(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", {TOY: "s" * 20 + "t" * 20}), folder(tmp_path / "b", {TOY: "s" * 36 + "t" * 4})
    (forth,), (back,) = compared(a, b), compared(b, a)
    suite, task = forth.rows
    assert (suite.first, suite.second, suite.verdict) == (0.5, 0.9, "B better")
    assert (suite.counts.only_a, suite.counts.only_b) == (0, 16) if suite.counts else False
    assert suite.p == pytest.approx(2 / 2**16)
    assert back.rows[0].verdict == "A better"
    assert (suite.low, suite.high) == pytest.approx((-back.rows[0].high, -back.rows[0].low))
    assert (task.task, task.name) == (0, "task_0")


def test_no_difference_seen_is_said_only_of_an_interval_inside_the_margin(tmp_path: Path) -> None:
    few = compared(folder(tmp_path / "a", {TOY: "s" * 20}), folder(tmp_path / "b", {TOY: "s" * 20}))
    many = compared(folder(tmp_path / "c", {TOY: "s" * 400}), folder(tmp_path / "d", {TOY: "s" * 400}))
    assert few[0].rows[0].verdict == "undecided"
    assert many[0].rows[0].verdict == "no difference seen; differences beyond 1.0 pp are excluded"


def test_p_values_are_corrected_over_all_tasks_and_pairs_of_runs(tmp_path: Path) -> None:
    played = {("toy", k): "t" * 10 for k in range(5)}
    a, c = folder(tmp_path / "a", played), folder(tmp_path / "c", played, policy="c")
    b = folder(tmp_path / "b", {**played, ("toy", 2): "s" * 7 + "ttt"})
    (one,) = compared(a, b)
    task = one.table("tasks")[2]
    assert task.p == pytest.approx(2 / 2**7)
    assert task.p_holm == pytest.approx(5 * task.p)
    assert task.verdict == "undecided"
    three = compared(a, b, c)
    assert [(x.first.letter, x.second.letter) for x in three] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert three[0].table("tasks")[2].p_holm == pytest.approx(15 * task.p)


def test_several_suites_are_pooled_into_one_row(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", {TOY: "sst", ("play", 0): "ss"})
    b = folder(tmp_path / "b", {TOY: "stt", ("play", 0): "st"})
    rows = compared(a, b)[0].table("suites")
    assert [(row.suite, row.n) for row in rows] == [("toy", 3), ("play", 2), ("all suites", 5)]
    assert rows[2].difference == pytest.approx(-2 / 5)


def test_errors_are_left_out_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = folder(tmp_path / "a", {TOY: "sest"}), folder(tmp_path / "b", {TOY: "sset"})
    assert main([str(a), str(b)]) == 0
    said = capsys.readouterr().out
    assert "2 common episodes" in said
    assert "2 that ended in an error in either run: toy-t00-s001-r0, toy-t00-s002-r0" in said
    assert "2 common episodes" in refused(capsys, a, b, "--strict")


def test_other_protocol_cards_are_refused_with_the_fields_that_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = folder(tmp_path / "a", {TOY: "s"})
    b = folder(tmp_path / "b", {TOY: "s"}, protocol={"name": "toy@2", "max_steps": {"toy": 12}})
    said = refused(capsys, a, b)
    assert "toy@1 and toy@2" in said
    assert "max_steps.toy: 10 / 12" in said


def test_other_seeds_of_other_policies_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = folder(tmp_path / "a", {TOY: "s"}), folder(tmp_path / "b", {TOY: "s"}, seed=1)
    assert "seed 0" in (said := refused(capsys, a, b))
    assert "seed 1" in said


def test_one_policy_under_two_seeds_is_its_noise_floor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = folder(tmp_path / "a", {TOY: "sstt"}, policy="p")
    b = folder(tmp_path / "b", {TOY: "stst"}, policy="p", seed=1)
    assert main([str(a), str(b)]) == 0
    assert "2 of 4 episodes (50.0 %) end differently" in capsys.readouterr().out


def test_one_run_that_plays_its_starts_twice_is_its_noise_floor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = folder(tmp_path / "a", {TOY: "sstt" + "ssst"}, n_starts=4)
    (one,) = compared(a)
    assert one.is_noise_floor
    assert (one.rows[0].n, one.rows[0].difference) == (4, 0.25)
    assert "plays no start twice" in refused(capsys, folder(tmp_path / "b", {TOY: "sstt"}))


def test_runs_without_common_episodes_are_refused_with_what_they_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = folder(tmp_path / "a", {("toy", 0): "ss"}), folder(tmp_path / "b", {("toy", 3): "ss"})
    said = refused(capsys, a, b)
    assert "share no episodes" in said
    assert "toy tasks 3" in said


def test_episodes_of_one_run_alone_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = folder(tmp_path / "a", {TOY: "ssts"}), folder(tmp_path / "b", {TOY: "st"})
    assert main([str(a), str(b)]) == 0
    assert "left out: 2 only in A, 0 only in B" in capsys.readouterr().out


def test_a_privileged_run_against_one_that_sees_is_warned_of(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", {TOY: "ss"}, privileged=True), folder(tmp_path / "b", {TOY: "ss"})
    assert any("A is privileged" in text for text in compared(a, b)[0].warnings)
    assert any("B is privileged" in text for text in compared(b, a)[0].warnings)


def test_an_untrained_run_is_warned_of(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", {TOY: "ss"}, weights="untrained"), folder(tmp_path / "b", {TOY: "ss"})
    assert any("A was never trained" in text for text in compared(a, b)[0].warnings)


def test_runs_that_calculated_otherwise_are_warned_of(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", {TOY: "ss"}), folder(tmp_path / "b", {TOY: "ss"})
    assert not any("arithmetic" in text for text in compared(a, b)[0].warnings)
    file = b / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"machine": {"arithmetic": "portable"}}))
    assert any("A was calculated with native arithmetic, B with portable" in t for t in compared(a, b)[0].warnings)


def test_chains_are_compared_by_length_with_their_shares_in_a_row(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 4, 100)
    a = folder(tmp_path / "a", {("rows", 0): "".join(map(str, lengths))})
    b = folder(tmp_path / "b", {("rows", 0): "".join(map(str, lengths + rng.integers(0, 3, 100)))})
    (one,) = compared(a, b)
    (row,) = one.rows
    assert row.kind == "chains"
    assert row.low < row.difference < row.high
    assert row.difference == pytest.approx(row.second - row.first)
    assert row.low > 0
    assert row.verdict == "B better"
    assert len(row.in_a_row) == 5
    assert row.in_a_row[0][0] == pytest.approx(float((lengths >= 1).mean()))


def test_depth_and_flops_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = folder(tmp_path / "a", {TOY: "ss"}, depth=16), folder(tmp_path / "b", {TOY: "ss"}, depth=4)
    row = compared(a, b)[0].rows[0]
    assert (row.depths, row.flops) == ((16.0, 4.0), (16e9, 4e9))
    assert main([str(a), str(b), "--markdown"]) == 0
    assert "| toy | 16.00 | 4.00 | 16 | 4 |" in capsys.readouterr().out


def test_json_and_csv_carry_every_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = folder(tmp_path / "a", {TOY: "sst"}), folder(tmp_path / "b", {TOY: "sts"})
    assert main([str(a), str(b), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert main([str(a), str(b), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    told = data["comparisons"][0]["rows"]
    assert len(told) == len(rows) == 2
    assert float(rows[0]["low"]) == told[0]["low"]
    assert (told[0]["only_first_succeeded"], told[0]["only_second_succeeded"]) == (1, 1)


def test_an_undecided_row_says_how_many_episodes_would_decide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = folder(tmp_path / "a", {TOY: "st" * 10}), folder(tmp_path / "b", {TOY: "ts" * 5 + "st" * 5})
    assert main([str(a), str(b)]) == 0
    assert "for 5 pp it takes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--alpha", "0.7"], "--alpha"),
        (["--margin", "0pp"], "--margin"),
        (["--length-margin", "-1"], "--length-margin -1"),
        (["--json", "--csv"], "exclude one another"),
    ],
)
def test_wrong_calls_exit_with_2_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    a, b = folder(tmp_path / "a", {TOY: "sst"}), folder(tmp_path / "b", {TOY: "sts"})
    assert message in refused(capsys, a, b, *argv)


def test_a_folder_named_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = folder(tmp_path / "a", {TOY: "sst"})
    assert "one folder" in refused(capsys, a, tmp_path / "." / "a")


def test_a_foreign_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(tmp_path) in refused(capsys, tmp_path, folder(tmp_path / "a", {TOY: "s"}))


def test_no_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "0 runs" in refused(capsys)
