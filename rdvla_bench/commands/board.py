"""``board``: print the board of one run, or several runs side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from rdvla_bench.commands.cli import command
from rdvla_bench.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from rdvla_bench.leaderboards.board import Board

Named = list[tuple[str, "Board"]]


@dataclass(frozen=True)
class Options:
    """Print the board of one run, or several runs side by side. Nothing is written.

    Runs share a table only under one protocol card, on the same tasks, with the same number of episodes a task.
    A run with errors, with missing episodes or with a privileged policy is shown, but not ranked.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders: the --out of a run."""
    format: Literal["terminal", "md", "csv", "json"] = "terminal"
    """csv and json carry every number unrounded; csv is one flat table, a row a suite and a row a task."""


@command
def main(argv: list[str] | None = None) -> int:
    """Print; return 0, or 2 where a folder cannot be read."""
    options = tyro.cli(Options, args=argv, prog="rdvla-bench board")
    if options.format == "terminal":
        _draw(load(options.runs))
    else:
        sys.stdout.write(_text(options))
    return 0


def load(folders: Sequence[Path]) -> Named:
    """Return each folder's name and board.

    Raises:
        UsageError: no folder given, one that is no run folder, or the ``board`` extra is missing.
    """
    if not folders:
        raise UsageError("no run folder given. Name the --out of one or more runs: rdvla-bench board runs/a")
    try:
        from rdvla_bench.leaderboards.board import load_board
    except ModuleNotFoundError as error:
        raise MissingExtra("a board", "board", f"no module '{error.name}'") from error
    return [(str(folder), load_board(folder)) for folder in folders]


def _text(options: Options) -> str:
    boards = load(options.runs)
    from rdvla_bench.leaderboards import render
    from rdvla_bench.leaderboards.ranking import group_runs

    if options.format == "csv":
        return render.to_csv([row for run, board in boards for row in render.all_rows(run, board)])
    if options.format == "json":
        return render.to_json({run: render.both_json(board) for run, board in boards})
    if len(boards) > 1:
        return render.groups_markdown(group_runs(boards))
    return "\n".join((render.board_markdown(boards[0][1]), render.execution_markdown(boards[0][1])))


def _draw(boards: Named) -> None:
    from rdvla_bench.leaderboards.ranking import group_runs
    from rdvla_bench.leaderboards.terminal import print_board, print_groups

    if len(boards) == 1:
        print_board(boards[0][1])
    else:
        print_groups(group_runs(boards))
