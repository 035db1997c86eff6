"""``curves``: what compute buys, over several runs or a sweep, as data and as plots."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from rdvla_bench.commands.cli import command
from rdvla_bench.errors import LedgerError, MissingExtra, UsageError
from rdvla_bench.ledger import EPISODES, RUN, write_atomically
from rdvla_bench.run_set import run_folders, swept_keys

if TYPE_CHECKING:
    from rdvla_bench.leaderboards.curve_runs import Entry
    from rdvla_bench.leaderboards.curves import Curves


@dataclass(frozen=True)
class Options:
    """Draw what compute buys: success against depth, FLOPs and time; where depth is spent; adaptive against fixed.

    Runs share curves only under one protocol card and on the same tasks. Every adaptive run is shown beside the fixed
    depths 2 and 4, where they are among the runs.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders, or folders of sweeps (run --sweep)."""
    out: Path | None = None
    """Folder for curves.json, CSV files and plots; without one, only the tables are printed."""
    plots: tuple[Literal["svg", "png", "pdf", "none"], ...] = ("svg", "png", "pdf")
    """Formats of the plots; "none" writes the data alone."""


@command
def main(argv: list[str] | None = None) -> int:
    """Print tables, write files; return 0, or 2 where runs cannot share curves."""
    options = tyro.cli(Options, args=argv, prog="python -m rdvla_bench.curves")
    if options.out is not None:
        _check_out(options.out)
    entries = load(options.runs)
    from rdvla_bench.leaderboards.curve_tables import front_lines, tables
    from rdvla_bench.leaderboards.curves import make_curves
    from rdvla_bench.leaderboards.terminal import print_tables

    curves = make_curves(entries)
    if options.out is not None:
        written = [*write_data(curves, options.out), *write_plots(curves, options.out, options.plots)]
    print_tables(tables(curves))
    for line in (*front_lines(curves), *curves.notes):
        print(line)
    if options.out is not None:
        print(f"wrote {len(written)} files into {options.out}")
    return 0


def load(folders: Sequence[Path]) -> list[Entry]:
    """Return every run of the folders, those of a sweep one by one.

    Raises:
        UsageError: a folder that is no run folder, a run without episodes, or the ``board`` extra is missing.
    """
    try:
        from rdvla_bench.leaderboards.board import load_board
        from rdvla_bench.leaderboards.curve_runs import Entry
    except ModuleNotFoundError as error:
        raise MissingExtra("curves", "board", f"no module '{error.name}'") from error
    entries = []
    for folder in (run for given in folders for run in run_folders(given)):
        _require_episodes(folder)
        entries.append(Entry(str(folder), load_board(folder), swept_keys(folder)))
    return entries


def _require_episodes(folder: Path) -> None:
    ledger = folder / EPISODES
    if (folder / RUN).exists() and ledger.exists() and ledger.stat().st_size:
        return
    if not folder.is_dir():
        raise LedgerError(f"there is no folder {folder}")
    if ledger.exists():
        raise LedgerError(f"{folder} has no episode yet: there is nothing to draw. Finish the run first")
    raise LedgerError(f"{folder} is no run folder: it has no {EPISODES} (a run writes it: rdvla-bench run --out)")


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file, expected a folder")


def write_data(curves: Curves, out: Path) -> list[Path]:
    """Write ``curves.json`` and one CSV file a kind of row; return their paths."""
    from rdvla_bench.leaderboards import curve_tables
    from rdvla_bench.leaderboards.render import to_csv, to_json

    out.mkdir(parents=True, exist_ok=True)
    files = {"curves.json": to_json(curve_tables.curves_json(curves))}
    kinds = {
        "points.csv": curve_tables.point_rows(curves),
        "matched.csv": curve_tables.match_rows(curves),
        "beside.csv": curve_tables.beside_rows(curves),
        "depths.csv": curve_tables.depth_rows(curves),
        "exit-traces.csv": curve_tables.exit_rows(curves),
    }
    files |= {name: to_csv(rows) for name, rows in kinds.items() if rows}
    for name, content in files.items():
        write_atomically(out / name, content.encode())
    return [out / name for name in files]


def write_plots(curves: Curves, out: Path, formats: Sequence[str]) -> list[Path]:
    """Write every plot in every format; return their paths."""
    if "none" in formats:
        return []
    try:
        from rdvla_bench.leaderboards.plot_style import save_options, style
        from rdvla_bench.leaderboards.plots import all_plots
    except ModuleNotFoundError as error:
        raise MissingExtra("plots", "report", f"no module '{error.name}'; --plots none needs none") from error
    out.mkdir(parents=True, exist_ok=True)
    written = []
    with style():
        for name, figure in all_plots(curves).items():
            for kind in dict.fromkeys(formats):
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, **save_options(kind))
                write_atomically(out / f"{name}.{kind}", buffer.getvalue())
                written.append(out / f"{name}.{kind}")
    return written
