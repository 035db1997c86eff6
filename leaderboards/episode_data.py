"""The episodes of a run as compact JSON data, from which the page draws the rows under a task when it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from os.path import relpath
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rdvla_bench.leaderboards.board import Board
from rdvla_bench.leaderboards.frame import last_line

MAX_DEPTHS = 64
"""Depths kept an episode; more are averaged in so many bins, which is what a small curve can show."""
VIDEOS = "videos"


def episode_data(run: str, board: Board, page_folder: Path) -> dict[str, Any]:
    """Return the run's name and, per suite and task, one list an episode (see ``_row``)."""
    folder = Path(run)
    films = {path.stem: _link(path, page_folder) for path in sorted((folder / VIDEOS).glob("*.mp4"))}
    found: dict[str, dict[str, list[list[Any]]]] = {}
    names = ["suite", "task", "id", "outcome", "steps", "depths", "queries", "solved", "subtasks", "error"]
    for suite, task, *rest in board.results[names].itertuples(index=False):
        found.setdefault(suite, {}).setdefault(str(task), []).append(_row(*rest, films=films))
    return {"run": run, "videos": VIDEOS, "episodes": found}


def _row(
    name: str,
    outcome: str,
    steps: int,
    depths: Sequence[int],
    queries: int,
    solved: float,
    subtasks: Sequence[str],
    error: str,
    *,
    films: dict[str, str],
) -> list[Any]:
    """Return [id, outcome, steps, queries, mean depth, depths, film, solved, subtask that ended the chain, error]."""
    is_recurrent = len(depths) > 0 and any(depths)
    is_chain = solved == solved  # NaN for a single task
    failed = subtasks[int(solved)] if is_chain and int(solved) < len(subtasks) else ""
    return [
        name,
        outcome[0],
        int(steps),
        int(queries),
        round(sum(depths) / len(depths), 2) if is_recurrent else None,
        _thinned(depths) if is_recurrent else [],
        films.get(name, ""),
        int(solved) if is_chain else None,
        failed,
        last_line(error),
    ]


def _thinned(depths: Sequence[int]) -> list[float]:
    n = len(depths)
    if n <= MAX_DEPTHS:
        return [int(depth) for depth in depths]
    edges = [i * n // MAX_DEPTHS for i in range(MAX_DEPTHS + 1)]
    return [round(sum(depths[a:b]) / (b - a), 1) for a, b in pairwise(edges)]


def _link(path: Path, page_folder: Path) -> str:
    """Return a relative link from a page in ``page_folder`` to ``path``."""
    return quote(Path(relpath(path, page_folder)).as_posix())
