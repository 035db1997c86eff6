"""``board``: the board of one run, or of many runs side by side, on the terminal or in a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from rdvla_bench.commands.cli import command
from rdvla_bench.errors import LedgerError, MissingExtra, UsageError
from rdvla_bench.ledger import write_atomically

if TYPE_CHECKING:
    from rdvla_bench.leaderboards.board import Board
    from rdvla_bench.leaderboards.tables import Table

Named = list[tuple[str, "Board"]]
FLAT = ("csv", "json", "parquet")
"""Formats of numbers alone: no published row may stand in them."""


@dataclass(frozen=True)
class Options:
    """Show the board of one run, or many runs side by side.

    Runs share a table only under one protocol card, on the same tasks, with the same number of episodes a task.
    A run with errors, missing episodes or mixed appearances, or of a privileged policy, is shown, but not ranked.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders (the --out of a run, or of several), folders with run folders in them, or patterns such as
    'runs/*'."""
    format: Literal["terminal", "md", "latex", "csv", "json", "parquet"] = "terminal"
    """csv, json and parquet carry every number unrounded; csv and parquet are one flat table, a row a suite and a row
    a task."""
    out: Path | None = None
    """Write the board into this file instead of printing it."""
    html: Path | None = None
    """Write it as one HTML page, which needs nothing but a browser, and print nothing."""
    published: bool = False
    """Add what was published on the same suites, in a block of its own (the HTML page always has it)."""
    protocol: str | None = None
    """Refuse runs that were not played under this one protocol card."""
    eval_results: Path | None = None
    """Write one run's results as .yaml for the .eval_results folder of a model on the Hugging Face Hub."""
    dataset: str = ""
    """With --eval-results: OWNER/NAME of the benchmark dataset on the Hub; its tasks are named like the suites."""
    source: str = ""
    """With --eval-results: the address where the run can be looked at."""


@command
def main(argv: list[str] | None = None) -> int:
    """Show the board; return 0, or 2 where a folder cannot be read or a file not written."""
    options = tyro.cli(Options, args=argv, prog="rdvla-bench board")
    _check(options)
    boards = load(options.runs)
    if options.protocol:
        from rdvla_bench.leaderboards.aggregate import demand_protocol

        demand_protocol(boards, options.protocol)
    if options.html:
        from rdvla_bench.leaderboards.html import page

        _write(options.html, page(boards, options.html.parent).encode())
    if options.eval_results:
        _export(options, options.eval_results, boards)
    if options.out:
        _write(options.out, _bytes(options, boards))
    elif options.format == "terminal":
        if not options.html and not options.eval_results:
            _draw(boards, is_with_published=options.published)
    else:
        sys.stdout.write(_bytes(options, boards).decode())
    return 0


def load(paths: Sequence[Path]) -> Named:
    """Return the name and the board of each run folder that ``paths`` name.

    Raises:
        UsageError: no folder given, one that is no run folder, or the ``board`` extra is missing.
    """
    if not paths:
        raise UsageError("no run folder given. Name the --out of one or more runs: rdvla-bench board runs/a")
    try:
        from rdvla_bench.leaderboards.aggregate import find_runs
        from rdvla_bench.leaderboards.board import load_board
    except ModuleNotFoundError as error:
        raise MissingExtra("a board", "board", f"no module '{error.name}'") from error
    return [(str(folder), load_board(folder)) for folder in find_runs(paths)]


def _check(options: Options) -> None:
    if options.format == "terminal" and options.out:
        raise UsageError(f"--out {options.out} needs a --format other than terminal: md, latex, csv, json or parquet")
    if options.format == "parquet" and not options.out:
        raise UsageError("--format parquet is no text: name a file with --out")
    if options.published and options.format in FLAT:
        raise UsageError(
            f"--published does not go with --format {options.format}: published numbers share no table with runs. "
            f"Formats with a block for them: terminal, md, latex"
        )


def _export(options: Options, path: Path, boards: Named) -> None:
    from rdvla_bench.leaderboards.eval_results import eval_results

    if len(boards) > 1:
        raise UsageError(f"--eval-results takes one run, which is one model; {len(boards)} were named")
    _write(path, eval_results(boards[0][1], options.dataset, options.source).encode())


def _write(path: Path, data: bytes) -> None:
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}")
    try:
        write_atomically(path, data)
    except LedgerError as error:
        raise UsageError(f"cannot write {path}: {error.__cause__}. Name another file") from error
    print(f"wrote {path}: {len(data) / 1e3:.0f} kB", file=sys.stderr)


def _bytes(options: Options, boards: Named) -> bytes:
    from rdvla_bench.leaderboards import aggregate, render
    from rdvla_bench.leaderboards.ranking import group_runs

    groups = group_runs(boards)
    if options.format in {"csv", "parquet"}:
        rows = aggregate.aggregate_rows(boards, groups)
        return aggregate.aggregate_parquet(rows) if options.format == "parquet" else render.to_csv(rows).encode()
    if options.format == "json":
        ranks = aggregate.ranks_of(groups)
        data = {
            run: {**render.both_json(board), "ranks": {s.suite: ranks[run, s.suite] for s in board.suite_scores}}
            for run, board in boards
        }
        return render.to_json(data).encode()
    if options.format == "latex":
        return _latex(boards, is_with_published=options.published).encode()
    if len(boards) > 1:
        text = render.groups_markdown(groups)
    else:
        text = "\n".join((render.board_markdown(boards[0][1]), render.execution_markdown(boards[0][1])))
    if options.published:
        text += "\n" + render.tables_markdown(_published(boards))
    return text.encode()


def _latex(boards: Named, *, is_with_published: bool) -> str:
    from rdvla_bench.leaderboards.latex import latex
    from rdvla_bench.leaderboards.ranking import group_runs
    from rdvla_bench.leaderboards.tables import banners, cost_tables, group_tables, result_tables

    parts: list[tuple[Table, list[str]]] = []
    if len(boards) == 1:
        board = boards[0][1]
        parts += [(table, banners(board)) for table in result_tables(board)]
        parts += [(table, []) for table in cost_tables(board)]
    else:
        for group in group_runs(boards):
            results, costs = group_tables(group)
            parts += [(results, group.notes), (costs, [])]
    if is_with_published:
        parts += [(table, []) for table in _published(boards)]
    return latex(parts)


def _published(boards: Named) -> list[Table]:
    from rdvla_bench.leaderboards.published import published_tables

    return published_tables(suite for _, board in boards for suite in board.manifest["config"]["suites"])


def _draw(boards: Named, *, is_with_published: bool) -> None:
    from rdvla_bench.leaderboards.ranking import group_runs
    from rdvla_bench.leaderboards.terminal import print_board, print_groups, print_tables

    groups = group_runs(boards)
    if any(len(group.entries) > 1 for group in groups):
        print_groups(groups)
    else:  # no two runs share a table, as those of two benchmarks
        for _, board in boards:
            print_board(board)
    if is_with_published:
        print_tables(_published(boards))
