"""What a finished call shows: one board a run, a sweep's runs side by side, and the way to the full benchmark."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rdvla_bench.commands.run_arguments import RunArguments, command_line, make_plans
from rdvla_bench.run_set import Point, Runs
from rdvla_bench.slices import FULL, QUICK

if TYPE_CHECKING:
    from rdvla_bench.leaderboards.board import Board
    from rdvla_bench.plan import Plan


def show_boards(arguments: RunArguments, runs: Runs) -> list[Board]:
    """Write every run's board and print it, a sweep's together; return them in the order of the runs."""
    boards: list[Board] = []
    for part in runs.parts:
        if boards:
            print()
        boards += _show(part)
    if arguments.suite == QUICK:
        for line in full_lines(arguments, runs):
            print(line)
    return boards


def _show(part: Sequence[Point]) -> list[Board]:
    from rdvla_bench.leaderboards.ranking import group_runs
    from rdvla_bench.leaderboards.render import write_all
    from rdvla_bench.leaderboards.terminal import print_board, print_groups

    boards = [(point.name, write_all(point.out)) for point in part]
    if part[0].name:
        print_groups(group_runs(boards))
        print(f"curves: python -m rdvla_bench.curves {shlex.quote(str(part[0].out.parent))} --out curves")
    else:
        print_board(boards[0][1])
    return [board for _, board in boards]


def full_lines(arguments: RunArguments, runs: Runs) -> Iterator[str]:
    """Yield what the quick slice was, and what plays all of it."""
    whole = replace(arguments, suite=FULL, episodes="full", out=None, retry_errors=False)
    played = "; ".join(_size(part[0].plan) for part in runs.parts)
    full = "; ".join(_size(plan) for plan in make_plans(whole, runs.points[0].plan.settings))
    yield f"\nThis was a quick slice ({played}). The full benchmark ({full}) is"
    yield f"    {command_line(whole)}"


def _size(plan: Plan) -> str:
    what = "chains" if plan.suites[0].n_instructions > 1 else "episodes"
    return f"{plan.benchmark}: {plan.n_planned} {what}, {plan.n_episodes} a task"
