"""Boards as Markdown, CSV, JSON, and as the files of a run folder.

Non-obvious: ``board.md``, ``board.csv``, ``board.json``, ``results.csv`` and ``episodes.parquet`` are functions of
results and of where they come from, so the same run gives the same bytes in any order, with any number of workers and
after any crash. Times are in ``execution.*`` and ``executions.parquet``; ``board.html``, for the eye, has both.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rdvla_bench.leaderboards.board import Board, Score, load_board
from rdvla_bench.leaderboards.frame import write_frames
from rdvla_bench.leaderboards.html import page
from rdvla_bench.leaderboards.html_runs import BOARD_PAGE
from rdvla_bench.leaderboards.ranking import Group
from rdvla_bench.leaderboards.tables import Table, banners, cost_tables, group_tables, provenance, result_tables, title
from rdvla_bench.ledger import write_atomically

SCHEMA = 1  # of board.json and execution.json


def write_all(folder: Path) -> Board:
    """Write every derived file of a run folder anew from its ledger, and return the board.

    Raises:
        LedgerError: no run folder, a garbled ledger, or the file system refused.
    """
    board = load_board(folder)
    write_frames(folder, board.results, board.executions)
    texts = {
        "board.md": board_markdown(board),
        "board.csv": to_csv(score_rows(board)),
        "board.json": to_json(board_json(board)),
        "execution.md": execution_markdown(board),
        "execution.csv": to_csv(cost_rows(board)),
        "execution.json": to_json(execution_json(board)),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text.encode())
    write_atomically(folder / BOARD_PAGE, page([(str(folder), board)], folder).encode())
    return board


def board_markdown(board: Board) -> str:
    """Return the reproducible part."""
    parts = [f"# {_cell(title(board))}"]
    parts += [f"> **{_cell(banner)}**" for banner in banners(board)]
    parts += [_markdown(table) for table in result_tables(board)]
    parts.append(_markdown(Table("Provenance", ("", ""), tuple(provenance(board)), n_text=2)))
    return "\n\n".join(parts) + "\n"


def execution_markdown(board: Board) -> str:
    """Return what this execution cost."""
    machine = board.manifest.get("machine") or {}
    on = ", ".join(f"{key} {value}" for key, value in machine.items())
    parts = [f"# Execution of {_cell(title(board))}", *([_cell(on)] if on else [])]
    parts += [_markdown(table) for table in cost_tables(board)]
    return "\n\n".join(parts) + "\n"


def tables_markdown(tables: Iterable[Table]) -> str:
    """Return tables one below the other."""
    return "\n\n".join(map(_markdown, tables)) + "\n"


def groups_markdown(groups: Iterable[Group]) -> str:
    """Return several runs side by side."""
    parts = []
    for group in groups:
        results, costs = group_tables(group)
        parts += [_markdown(results), *(f"- {_cell(note)}" for note in group.notes), _markdown(costs)]
    return "\n\n".join(parts) + "\n"


def score_rows(board: Board) -> list[dict[str, Any]]:
    """Return one flat row a suite and one a task, numbers unrounded."""
    return [
        {
            "policy": board.manifest["config"]["policy"],
            "policy_hash": board.manifest["policy_hash"],
            "weights": str(board.manifest["policy_card"].get("weights", "")),
            "privileged": board.is_privileged,
            "protocol": board.manifest["config"]["protocol"],
            "protocol_hash": board.manifest["protocol_hash"],
            "seed": board.manifest["config"]["seed"],
            **score_json(score),
        }
        for score in (*board.suite_scores, *board.task_scores)
    ]


def cost_rows(board: Board) -> list[dict[str, Any]]:
    """Return one flat row a suite and one a task, in the order of ``score_rows``."""
    return [asdict(cost) for cost in (*board.suite_costs, *board.task_costs)]


def all_rows(run: str, board: Board) -> list[dict[str, Any]]:
    """Return ``score_rows`` with the execution's columns last and the run's name first."""
    pairs = zip(score_rows(board), cost_rows(board), strict=True)
    return [{"run": run, **score, **cost} for score, cost in pairs]


def score_json(score: Score) -> dict[str, Any]:
    """Return one score with what derives from it; ``unranked`` is the reason, "" if there is none."""
    flat = {key: value for key, value in asdict(score).items() if key not in {"chain", "appearances"}}
    chain = score.chain
    return {
        **flat,
        "chain_length": chain.length if chain else None,
        "chain_low": chain.low if chain else None,
        "chain_high": chain.high if chain else None,
        "in_a_row": " ".join(f"{rate:.6g}" for rate in chain.in_a_row) if chain else None,
        "in_a_row_low": " ".join(f"{low:.6g}" for low, _ in chain.in_a_row_intervals) if chain else None,
        "in_a_row_high": " ".join(f"{high:.6g}" for _, high in chain.in_a_row_intervals) if chain else None,
        "scored": score.scored,
        "unranked": score.unranked,
    }


def board_json(board: Board) -> dict[str, Any]:
    """Return the reproducible part as plain JSON data."""
    manifest = board.manifest
    keys = ("config", "policy_card", "policy_hash", "protocol_card", "protocol_hash", "versions", "gl", "git_commit")
    return {
        "schema": SCHEMA,
        **{key: value for key, value in manifest.items() if key in keys},
        "untrained": board.is_untrained,
        "privileged": board.is_privileged,
        "planned": manifest["planned"],
        "mean_of_suites": board.mean_of_suites,
        "mean_of_suites_interval": board.mean_of_suites_interval,  # for these tasks
        "mean_of_tasks_interval": board.mean_of_tasks_interval,  # for tasks like these
        "suites": [score_json(score) for score in board.suite_scores],
        "tasks": [score_json(score) for score in board.task_scores],
        "subtasks": [asdict(score) for score in board.subtask_scores],
    }


def execution_json(board: Board) -> dict[str, Any]:
    """Return what this execution cost as plain JSON data."""
    return {
        "schema": SCHEMA,
        "machine": dict(board.manifest.get("machine") or {}),
        "suites": [asdict(cost) for cost in board.suite_costs],
        "tasks": [asdict(cost) for cost in board.task_costs],
    }


def both_json(board: Board) -> dict[str, Any]:
    """Return what ``board.json`` and ``execution.json`` hold, under one key each."""
    return {"board": board_json(board), "execution": execution_json(board)}


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return ``rows`` under the keys of the first; None is an empty cell."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def to_json(data: object) -> str:
    """Return indented JSON with sorted keys; NaN and infinity are refused."""
    return json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _markdown(table: Table) -> str:
    rule = ["---" if table.is_text(i) else "--:" for i in range(len(table.columns))]
    lines = [table.columns, rule, *table.rows]
    body = "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
    legend = f"\n\n{table.legend}" if table.legend else ""
    return f"## {_cell(table.title)}\n\n{body}{legend}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
