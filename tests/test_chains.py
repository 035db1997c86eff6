"""Claims about chains: how an episode of several instructions is played, written down and put on the board."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rdvla_fakes import CARD, FakeEnv

from rdvla_bench import ActionChunk, Episode, Outcome, Policy, PolicyCard
from rdvla_bench.leaderboards.board import load_board
from rdvla_bench.leaderboards.chains import length_interval
from rdvla_bench.leaderboards.frame import results_csv
from rdvla_bench.leaderboards.ranking import group_runs
from rdvla_bench.leaderboards.render import board_markdown
from rdvla_bench.ledger import read_run, write_run
from rdvla_bench.record import Record, Result
from rdvla_bench.rollout import play

NAMES = ("open", "lift", "place", "push", "close")


class ChainEnv(FakeEnv):
    """Two subtasks of one step each, then one that never ends; a chunk is cut where a subtask is done."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        obs, info = super().reset(**kwargs)
        return obs, info | {"subtask": 0, "task": NAMES[0]}

    def step_chunk(self, actions: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        done = min(self.steps, 2)
        info = {"steps": self.steps, "subtask": done, "task": NAMES[done]}
        return self._obs(), 1.0, False, self.steps == 4, info


class Counting(Policy):
    """Its state counts queries since it was told of a new subtask."""

    def __init__(self) -> None:
        self.card = PolicyCard("counting", "none")
        self.seen: list[int] = []

    def initial_state(self, episode: Episode) -> int:
        return 0

    def act(self, obs: Any, state: int, rng: np.random.Generator) -> tuple[ActionChunk, int]:
        self.seen.append(state)
        return ActionChunk(np.zeros((3, 2), np.float32)), state + 1


def chain(start: int, solved: int, *, outcome: str | None = None) -> Record:
    """Return a chain with ``solved`` instructions done, each in 10 x its place steps."""
    n = min(solved + 1, 5)
    result = Result(
        Outcome(outcome or ("success" if solved == 5 else "timeout")),
        steps=100,
        solved=solved,
        subtasks=NAMES[:n],
        subtask_steps=tuple(10 * (k + 1) for k in range(n)),
    )
    return Record(Episode("calvin_d", 0, start, 0, 0), result)


def write_folder(folder: Path, records: list[Record], policy: str = "tiny") -> Path:
    folder.mkdir()
    card = {"name": policy, "weights": "none"}
    write_run(
        folder,
        {
            "schema": 1,
            "status": "complete",
            "config": {
                "policy": policy, "settings": {}, "suites": ["calvin_d"], "tasks": {"calvin_d": [0]},
                "episodes": len(records), "seed": 0, "protocol": "calvin/procedural@1",
            },
            "n_instructions": {"calvin_d": 5},
            "policy_card": card,
            "protocol_card": {"name": "calvin/procedural@1", "summary": "the rules"},
            "policy_hash": "p", "protocol_hash": "h", "planned": len(records), "versions": {},
            "gl": {"renderer": "tiny", "canary_sha256": ""}, "task_names": {"calvin_d": {"0": "chain"}},
            "git_commit": "",
        },
    )  # fmt: skip
    (folder / "episodes.jsonl").write_text("".join(json.dumps(r.to_json()) + "\n" for r in records))
    return folder


def test_a_chain_is_played_by_the_one_loop_and_the_policy_is_told_of_each_new_subtask() -> None:
    policy = Counting()
    result, _ = play(
        lambda: ChainEnv("fake_suite", 0, CARD),
        policy,
        Episode("fake_suite", 0, 0, 0, 0),
        start_option="start",
        max_horizon=None,
    )
    assert (result.outcome, result.solved) == (Outcome.TIMEOUT, 2)
    assert (result.subtasks, result.subtask_steps) == (NAMES[:3], (1, 1, 2))
    assert result.horizons == (1, 1, 1, 1)  # three were asked for each time
    assert policy.seen == [0, 0, 0, 1]
    assert result.appearance == "grey"


def test_a_chain_survives_the_ledger() -> None:
    record = chain(3, 4)
    assert Record.from_json(record.to_json()) == record


def test_an_error_is_no_chain(tmp_path: Path) -> None:
    board = load_board(write_folder(tmp_path / "a", [chain(0, 5), chain(1, 1), chain(2, 4, outcome="error")]))
    score = board.suite_scores[0].chain
    assert score is not None
    assert score.length == 3.0
    assert score.in_a_row == (1.0, 0.5, 0.5, 0.5, 0.5)
    assert {s.name: (s.successes, s.attempts) for s in board.subtask_scores} == {
        "open": (2, 2), "lift": (1, 2), "place": (1, 1), "push": (1, 1), "close": (1, 1)
    }  # fmt: skip


def test_a_subtasks_steps_are_those_of_its_successes(tmp_path: Path) -> None:
    board = load_board(write_folder(tmp_path / "a", [chain(0, 1), chain(1, 0)]))
    steps = {s.name: s.steps for s in board.subtask_scores}
    assert steps == {"open": 10.0, "lift": None}


def test_the_board_shows_lengths_and_subtasks_but_no_mean_of_suites(tmp_path: Path) -> None:
    board = load_board(write_folder(tmp_path / "a", [chain(k, k) for k in range(4)]))
    text = board_markdown(board)
    assert "| calvin_d | 4 | 1.500 | [0.500, 3.333] | 75.0 % | 50.0 % | 25.0 % | 0.0 % | 0.0 % | ranked |" in text
    assert "| calvin_d | open | 3/4 | 75.0 % |" in text
    assert board.mean_of_suites is None
    assert b"open lift" in results_csv(board.results)


def test_runs_of_chains_are_ranked_by_length_not_by_complete_chains(tmp_path: Path) -> None:
    long = write_folder(tmp_path / "long", [chain(k, 4) for k in range(4)], "steady")
    short = write_folder(tmp_path / "short", [chain(0, 5), *(chain(k, 1) for k in range(1, 4))], "lucky")
    (group,) = group_runs([(folder.name, load_board(folder)) for folder in (short, long)])
    assert [entry.run for entry in group.entries] == ["long", "short"]
    assert group.ranks == (1, 2)


def test_a_ledger_without_chains_still_makes_a_board(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", [replace(chain(0, 0), result=Result(Outcome.SUCCESS))])
    manifest = read_run(folder)
    del manifest["n_instructions"]
    write_run(folder, manifest)
    board = load_board(folder)
    assert board.suite_scores[0].chain is None
    assert not board.subtask_scores


def test_the_interval_covers_the_true_mean_nineteen_times_of_twenty() -> None:
    rng = np.random.default_rng(0)
    p = (0.3, 0.2, 0.2, 0.1, 0.1, 0.1)
    truth = float(np.dot(range(6), p))
    hits = 0
    for _ in range(500):
        low, high = length_interval(rng.choice(6, size=100, p=p).tolist(), 5, rng, resamples=1000)
        hits += low <= truth <= high
    assert 0.92 <= hits / 500 <= 0.975  # 500 trials leave two points of chance around 95 %


def test_equal_chains_leave_some_doubt_and_none_have_no_interval() -> None:
    low, high = length_interval([2, 2, 2], 5, np.random.default_rng(0))
    assert low < 2 < high
    with pytest.raises(ValueError, match="no chains"):
        length_interval([], 5, np.random.default_rng(0))
