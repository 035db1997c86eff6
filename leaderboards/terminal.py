"""Boards on a terminal, drawn with rich."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from rdvla_bench.leaderboards.board import Board
from rdvla_bench.leaderboards.ranking import Group
from rdvla_bench.leaderboards.tables import (
    NOTHING,
    Table,
    banners,
    cost_tables,
    group_tables,
    provenance,
    result_tables,
    title,
)

NARROW = 120  # columns; below, a table leaves out what it can rather than fold its numbers
NARROW_LEAVES_OUT = {
    "name",
    "settings",
    "seed",
    "steps",
    "GFLOP",
    "standing",
    "batch",
    "wall-s/episode",
    "build CPU-s",
    "p",
}
LOG_WIDTH = 160  # columns in a file or a pipe, where rich would assume 80 and fold every table


def log_console() -> Console:
    """Return a console on stdout as wide as the terminal, or as ``LOG_WIDTH`` where there is none."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else LOG_WIDTH)


def print_board(board: Board, console: Console | None = None) -> None:
    """Print one run: what must not be overlooked, results, executions, provenance."""
    console = console or log_console()
    console.print(Text(title(board), style="bold"))
    for banner in banners(board):
        console.print(Text(banner, style="bold yellow"))
    suite_costs, _ = cost_tables(board)
    for table in (*result_tables(board), suite_costs):
        _print(table, console)
    for label, text in provenance(board):
        console.print(Text.assemble((f"{label}: ", "dim"), text))


def print_groups(groups: Iterable[Group], console: Console | None = None) -> None:
    """Print several runs side by side."""
    console = console or log_console()
    for group in groups:
        results, costs = group_tables(group)
        _print(results, console)
        for note in group.notes:
            console.print(Text(note, style="bold yellow"))
        _print(costs, console)


def print_tables(tables: Iterable[Table], console: Console | None = None) -> None:
    """Print tables one below the other."""
    console = console or log_console()
    for table in tables:
        _print(table, console)


def _print(table: Table, console: Console) -> None:
    left_out = NARROW_LEAVES_OUT if console.width < NARROW else set()
    shown = [
        i
        for i, column in enumerate(table.columns)
        if column not in left_out and any(row[i] not in ("", NOTHING) for row in table.rows)
    ]
    drawn = RichTable(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0) if left_out else (0, 1),
    )
    for i in shown:
        is_text = table.is_text(i)
        drawn.add_column(table.columns[i], justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
    for row in table.rows:
        drawn.add_row(*(Text(row[i]) for i in shown))
    console.print(drawn)
    if table.legend:
        console.print(Text(table.legend, style="dim"))
