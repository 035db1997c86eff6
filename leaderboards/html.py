"""A board as one HTML page that opens from disk: no network, no library, sortable, with every episode behind its task.

Non-obvious:
- Names of policies, instructions, tasks and runs are other people's texts. They are escaped on their way into the page,
  the page's script only ever makes text nodes of them, and the page's policy runs no script but its own (by hash).
- The frame is a plain file with seven holes for ``string.Template``; tables and figures are loops and conditions over
  typed rows, which are Python here rather than a second language in a template.
- Without its script the page shows everything but the episodes of a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rdvla_bench.leaderboards.board import Board
from rdvla_bench.leaderboards.episode_data import episode_data
from rdvla_bench.leaderboards.html_frame import filled, run_title
from rdvla_bench.leaderboards.html_run import run_body
from rdvla_bench.leaderboards.html_runs import runs_body


def page(boards: Sequence[tuple[str, Board]], folder: Path) -> str:
    """Return the page of one run, or of many side by side; links are relative to ``folder``, where it will stand."""
    if len(boards) == 1:
        run, board = boards[0]
        return filled(run_title(board), run_body(run, board), episode_data(run, board, folder))
    policies = dict.fromkeys(board.manifest["config"]["policy"] for _, board in boards)
    title = f"{len(boards)} runs of {', '.join(policies)}" if len(policies) <= 3 else f"{len(boards)} runs"
    return filled(title, runs_body(title, boards, folder), {})
