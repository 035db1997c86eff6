"""Claims about boards: what is counted, what is ranked, what is said in plain sight, what the command answers."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rdvla_bench.commands.board import main
from rdvla_bench.leaderboards.board import Board, load_board
from rdvla_bench.leaderboards.ranking import group_runs
from rdvla_bench.leaderboards.render import board_markdown, write_all
from rdvla_bench.leaderboards.tables import COST_COLUMNS, cost_cells
from rdvla_bench.leaderboards.terminal import print_board
from rdvla_bench.ledger import write_run
from rdvla_bench.policy import PolicyCard
from rdvla_bench.record import Execution, Record, Result
from rdvla_bench.types import Culprit, Episode, Outcome

REPRODUCIBLE = ("board.md", "board.csv", "board.json", "results.csv", "episodes.parquet")


def record(outcome: str, start: int, *, task: int = 0, suite: str = "libero_object", seed: int = 0) -> Record:
    """Return an episode of two queries with depths 8 and 6 and model times of 10 and 30 ms."""
    error = outcome == "error"
    result = Result(
        Outcome(outcome),
        steps=100,
        depths=(8, 6),
        horizons=(50, 50),
        flops=2e9,
        culprit=Culprit.ENV if error else None,
        error="EnvFault: boom" if error else "",
    )
    execution = Execution(cpu_s=2.0 + start, wall_s=3.0, model_s=(0.010, 0.030), batch_sizes=(1, 1))
    return Record(Episode(suite, task, start, 0, seed), result, execution)


def outcomes(text: str, **where: Any) -> list[Record]:
    """Return one episode a letter: s(uccess), t(imeout), e(rror)."""
    names = {"s": "success", "t": "timeout", "e": "error"}
    return [record(names[letter], start, **where) for start, letter in enumerate(text)]


def write_folder(
    folder: Path,
    records: Iterable[Record],
    *,
    tasks: dict[str, list[int]] | None = None,
    episodes: int = 4,
    weights: str = "none",
    privileged: bool = False,
    protocol_name: str = "libero/paired@1",
    policy: str = "tiny",
) -> Path:
    """Write a run folder as a run does."""
    tasks = tasks or {"libero_object": [0]}
    card = PolicyCard(policy, weights, privileged=privileged)
    config = {
        "policy": policy,
        "settings": {"depth": "8"},
        "suites": list(tasks),
        "tasks": tasks,
        "episodes": episodes,
        "seed": 0,
        "protocol": protocol_name,
    }
    folder.mkdir(parents=True)
    write_run(
        folder,
        {
            "schema": 1,
            "status": "complete",
            "config": config,
            "policy_card": card.to_json(),
            "protocol_card": {"name": protocol_name, "summary": "the rules"},
            "policy_hash": "0123456789ab",
            "protocol_hash": f"hash-of-{protocol_name}",
            "planned": episodes * sum(map(len, tasks.values())),
            "versions": {"mujoco": "3.3.2", "robosuite": "1.4.0"},
            "gl": {"renderer": "llvmpipe", "canary_sha256": "c0ffee"},
            "task_names": {suite: {str(i): f"task_{i}" for i in ids} for suite, ids in tasks.items()},
            "started": "2026-01-01T00:00:00Z",
            "git_commit": "abcdef0",
        },
    )
    lines = (json.dumps(r.to_json()) + "\n" for r in records)
    (folder / "episodes.jsonl").write_text("".join(lines))
    return folder


def board_of(folder: Path, text: str, **options: Any) -> Board:
    return load_board(write_folder(folder, outcomes(text), **options))


def test_error_episodes_are_not_counted_as_failures(tmp_path: Path) -> None:
    score = board_of(tmp_path / "a", "ssse").suite_scores[0]
    assert (score.successes, score.scored, score.errors, score.rate) == (3, 3, 1, 1.0)
    assert score.unranked == "1 error"


def test_error_episodes_move_no_mean(tmp_path: Path) -> None:
    records = outcomes("sst")
    wild = replace(record("error", 3).result, steps=9999, depths=(99,) * 50, flops=None)
    board = load_board(write_folder(tmp_path / "a", [*records, replace(record("error", 3), result=wild)]))
    score = board.suite_scores[0]
    assert (score.depth, score.queries, score.steps, score.flops) == (7.0, 2.0, 100.0, 2e9)


def test_board_refuses_to_rank_an_incomplete_run(tmp_path: Path) -> None:
    board = board_of(tmp_path / "a", "sst")
    assert board.suite_scores[0].unranked == "1 of 4 missing"
    assert board.suite_scores[0].rate == pytest.approx(2 / 3)  # shown all the same
    assert board.mean_of_suites is None
    assert "**not ranked: libero_object, 1 of 4 missing.**" in board_markdown(board)


def test_a_run_without_any_episode_still_has_a_board(tmp_path: Path) -> None:
    score = board_of(tmp_path / "a", "").suite_scores[0]
    assert {score.rate, score.low, score.high, score.depth, score.queries, score.flops} == {None}
    assert score.unranked == "4 of 4 missing"


def test_a_suite_pools_its_episodes_and_the_mean_of_suites_weighs_suites_alike(tmp_path: Path) -> None:
    records = [*outcomes("ss"), *outcomes("tt", task=1), *outcomes("ss", suite="libero_goal")]
    folder = write_folder(tmp_path / "a", records, tasks={"libero_object": [0, 1], "libero_goal": [0]}, episodes=2)
    board = load_board(folder)
    assert [s.rate for s in board.suite_scores] == [0.5, 1.0]
    assert [(s.suite, s.task, s.rate) for s in board.task_scores] == [
        ("libero_object", 0, 1.0), ("libero_object", 1, 0.0), ("libero_goal", 0, 1.0)
    ]  # fmt: skip
    assert board.mean_of_suites == 0.75
    low, high = board.mean_of_suites_interval or (0.75, 0.75)
    assert low < 0.75 < high
    assert f"[{100 * low:.1f}, {100 * high:.1f}]" in board_markdown(board)


def test_depth_and_model_time_are_per_query(tmp_path: Path) -> None:
    board = board_of(tmp_path / "a", "sttt")
    score, cost = board.suite_scores[0], board.suite_costs[0]
    assert score.depth == 7.0
    assert score.depth_sd == pytest.approx((8 / 7) ** 0.5)  # eight values, each 1 from their mean
    assert (cost.model_ms, cost.model_ms_p50, cost.model_ms_p95) == pytest.approx((20.0, 20.0, 30.0))
    assert cost.cpu_s == 3.5
    assert (cost.backbone_ms, cost.head_ms) == (None, None)  # not measured apart


def test_backbone_and_head_have_columns_of_their_own(tmp_path: Path) -> None:
    records = [
        replace(r, execution=replace(r.execution, backbone_s=(0.008, 0.024), head_s=(0.002, 0.006)))
        for r in outcomes("ss")
    ]
    board = load_board(write_folder(tmp_path / "a", [*records, record("timeout", 2)]))
    cost = board.suite_costs[0]
    assert (cost.backbone_ms, cost.head_ms) == pytest.approx((16.0, 4.0))
    cells = dict(zip(COST_COLUMNS, cost_cells(cost), strict=True))
    assert (cells["backbone ms"], cells["head ms"]) == ("16.00", "4.00")


def test_a_policy_without_a_core_has_no_depth(tmp_path: Path) -> None:
    records = [replace(r, result=replace(r.result, depths=(0, 0))) for r in outcomes("ssss")]
    score = load_board(write_folder(tmp_path / "a", records)).suite_scores[0]
    assert (score.depth, score.depth_sd, score.queries) == (None, None, 2.0)


def test_a_later_line_of_an_episode_supersedes_an_earlier_one(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", [*outcomes("esss"), record("success", 0)])
    assert load_board(folder).suite_scores[0].errors == 0


def test_board_files_are_equal_byte_for_byte_in_any_order_with_other_timings(tmp_path: Path) -> None:
    records = [*outcomes("stst"), *outcomes("ttss", task=3)]
    other = [
        replace(r, execution=Execution(attempts=2, cpu_s=random.Random(i).random())) for i, r in enumerate(records)
    ]
    random.Random(1).shuffle(other)
    tasks = {"libero_object": [0, 3]}
    write_all(write_folder(tmp_path / "a", records, tasks=tasks))
    write_all(write_folder(tmp_path / "b", [record("error", 0), *other], tasks=tasks))
    for name in REPRODUCIBLE:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert (tmp_path / "a/execution.csv").read_bytes() != (tmp_path / "b/execution.csv").read_bytes()


def test_untrained_and_privileged_are_said_in_plain_sight(tmp_path: Path) -> None:
    board = board_of(tmp_path / "a", "ssss", weights="untrained", privileged=True)
    first = board_markdown(board).split("## ")[0]
    assert "untrained" in first
    assert "privileged" in first


def test_markdown_of_a_tiny_run_is_this_text(tmp_path: Path) -> None:
    board = board_of(tmp_path / "a", "ssts", weights="untrained")
    golden = Path(__file__).parent / "data" / "board_tiny.md"
    assert board_markdown(board) == golden.read_text(encoding="utf-8")


def test_runs_are_ranked_by_rate_and_equal_rates_share_a_rank(tmp_path: Path) -> None:
    texts = {"low": "sttt", "high": "ssss", "twin": "ssss", "broken": "sse"}
    (group,) = group_runs((name, board_of(tmp_path / name, text)) for name, text in texts.items())
    assert [e.run for e in group.entries] == ["high", "twin", "low", "broken"]
    assert group.ranks == (1, 1, 3, None)


def test_a_privileged_policy_is_shown_but_takes_no_rank(tmp_path: Path) -> None:
    pairs = [
        ("expert", board_of(tmp_path / "e", "ssss", privileged=True)),
        ("seeing", board_of(tmp_path / "s", "sttt")),
    ]
    (group,) = group_runs(pairs)
    assert [e.run for e in group.entries] == ["seeing", "expert"]
    assert group.ranks == (1, None)


def test_the_board_of_a_privileged_run_alone_calls_it_unranked_too(tmp_path: Path) -> None:
    assert "| unranked: privileged |" in board_markdown(board_of(tmp_path / "a", "ssss", privileged=True))


def test_runs_of_different_protocols_tasks_or_lengths_never_share_a_table(tmp_path: Path) -> None:
    boards = [
        ("a", board_of(tmp_path / "a", "ssss")),
        ("b", board_of(tmp_path / "b", "ssss", protocol_name="libero/openpi@1")),
        ("c", board_of(tmp_path / "c", "sss", episodes=3)),
        ("d", load_board(write_folder(tmp_path / "d", outcomes("ssss", task=5), tasks={"libero_object": [5]}))),
    ]
    assert sorted([e.run for e in group.entries] for group in group_runs(boards)) == [["a"], ["b"], ["c"], ["d"]]


@pytest.mark.parametrize("format", ["terminal", "md", "csv", "json"])
def test_the_command_prints_one_run_and_several(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    one = str(write_folder(Path("one"), outcomes("ssts"), weights="untrained"))
    two = str(write_folder(Path("two"), outcomes("sse"), policy="other"))
    for runs in ([one], [one, two]):
        assert main([*runs, "--format", format]) == 0
        printed = capsys.readouterr().out
        assert "untrained" in printed
        assert "libero_object" in printed
    assert "1 error, 1 of 4 missing" in " ".join(printed.split())


def test_no_number_is_folded_on_a_terminal_of_80_columns(tmp_path: Path) -> None:
    board = board_of(tmp_path / "one", "ssts")
    console = Console(width=80, file=io.StringIO(), record=True)
    print_board(board, console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if "3/4" in line)
    assert " ".join(row.split()) == "libero_object 3/4 75.0 % [30.1, 95.4] 0 7.0 ± 1.1 2.0"


def test_json_and_csv_carry_unrounded_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(write_folder(tmp_path / "one", outcomes("sst"), episodes=3))
    main([folder, "--format", "json"])
    data = json.loads(capsys.readouterr().out)[folder]
    assert data["board"]["suites"][0]["rate"] == 2 / 3
    main([folder, "--format", "csv"])
    assert repr(2 / 3) in capsys.readouterr().out


def garbled_middle(folder: Path) -> None:
    write_folder(folder, [])
    good = json.dumps(record("success", 0).to_json())
    (folder / "episodes.jsonl").write_text(f"{good}\n{{half a\n{good}\n")


def unplanned(folder: Path) -> None:
    write_folder(folder, outcomes("s", task=9))


def foreign(folder: Path) -> None:
    folder.mkdir()
    (folder / "run.json").write_text('{"config": {"learning_rate": 1}}')


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: None, "run.json"),
        (lambda folder: folder.mkdir(), "is no run folder"),
        (foreign, "it lacks"),
        (garbled_middle, "episodes.jsonl:2"),
        (unplanned, "libero_object-t09-s000-r0"),
    ],
    ids=["absent", "empty", "foreign", "garbled", "unplanned"],
)
def test_what_is_no_run_is_answered_with_one_line_and_exit_code_2(
    spoil: Callable[[Path], object],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(tmp_path / "x")
    assert main([str(tmp_path / "x")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert err.startswith("LedgerError: ")


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", outcomes("ssss"))
    with (folder / "episodes.jsonl").open("a") as ledger:
        ledger.write('{"schema": 1, "id": "libe')
    assert load_board(folder).suite_scores[0].done == 4


def test_help_imports_no_heavy_library() -> None:
    code = "import sys, rdvla_bench.commands.board; print(*{'pandas', 'pyarrow', 'scipy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
