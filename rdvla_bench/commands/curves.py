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
    from rdvla_bench.leaderboards.phases import PhaseProfile


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
    phases: bool = False
    """Tell depth in free motion from depth in contact: replays the episodes of runs whose depth varies, once."""


@command
def main(argv: list[str] | None = None) -> int:
    """Print tables, write files; return 0, or 2 where runs cannot share curves."""
    options = tyro.cli(Options, args=argv, prog="python -m rdvla_bench.curves", config=(tyro.conf.FlagCreatePairsOff,))
    if options.out is not None:
        _check_out(options.out)
    entries = load(options.runs)
    from rdvla_bench.leaderboards.curve_tables import front_lines, tables
    from rdvla_bench.leaderboards.curves import make_curves
    from rdvla_bench.leaderboards.phases import phase_notes, phase_tables
    from rdvla_bench.leaderboards.terminal import print_tables

    curves = make_curves(entries)
    profiles = find_phases(entries) if options.phases else []
    if options.out is not None:
        written = [
            *write_data(curves, options.out, profiles),
            *write_plots(curves, options.out, options.plots, profiles),
        ]
    print_tables([*tables(curves), *phase_tables(profiles)])
    for line in (*front_lines(curves), *curves.notes, *phase_notes(profiles)):
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


def find_phases(entries: Sequence[Entry]) -> list[PhaseProfile]:
    """Return depth by phase of every run whose depth varies, replaying what no earlier call replayed.

    Raises:
        UsageError: no such run, or one that cannot be replayed here.
    """
    from rdvla_bench.commands.curves_contacts import contacts_of
    from rdvla_bench.leaderboards.curve_runs import kind_of
    from rdvla_bench.leaderboards.phases import phase_profiles

    kinds = {entry.run: kind_of(entry.board) for entry in entries}
    varying = [run for run, kind in kinds.items() if kind == "adaptive"]
    if not varying:
        found = ", ".join(f"{run} ({'no depth' if kind == 'plain' else 'fixed'})" for run, kind in kinds.items())
        raise UsageError(
            f"--phases: no run's depth varies: {found}. Name a run of rdvla-adaptive, or leave --phases out"
        )
    return phase_profiles(entries, {run: contacts_of(Path(run)) for run in varying})


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


def write_data(curves: Curves, out: Path, profiles: Sequence[PhaseProfile] = ()) -> list[Path]:
    """Write ``curves.json`` and one CSV file a kind of row; return their paths."""
    from rdvla_bench.leaderboards import curve_tables
    from rdvla_bench.leaderboards.phases import phase_rows
    from rdvla_bench.leaderboards.render import to_csv, to_json

    out.mkdir(parents=True, exist_ok=True)
    phases = {"phases": phase_rows(profiles)} if profiles else {}
    files = {"curves.json": to_json({**curve_tables.curves_json(curves), **phases})}
    kinds = {
        "points.csv": curve_tables.point_rows(curves),
        "matched.csv": curve_tables.match_rows(curves),
        "beside.csv": curve_tables.beside_rows(curves),
        "depths.csv": curve_tables.depth_rows(curves),
        "exit-traces.csv": curve_tables.exit_rows(curves),
        "phases.csv": phases.get("phases", []),
    }
    files |= {name: to_csv(rows) for name, rows in kinds.items() if rows}
    for name, content in files.items():
        write_atomically(out / name, content.encode())
    return [out / name for name in files]


def write_plots(curves: Curves, out: Path, formats: Sequence[str], profiles: Sequence[PhaseProfile] = ()) -> list[Path]:
    """Write every plot in every format; return their paths."""
    if "none" in formats:
        return []
    try:
        from rdvla_bench.leaderboards.phase_plot import phase_plot
        from rdvla_bench.leaderboards.plot_style import save_options, style
        from rdvla_bench.leaderboards.plots import all_plots, source_of
    except ModuleNotFoundError as error:
        raise MissingExtra("plots", "report", f"no module '{error.name}'; --plots none needs none") from error
    out.mkdir(parents=True, exist_ok=True)
    written = []
    figures = all_plots(curves)
    by_phase = phase_plot(profiles, source_of(curves))
    if by_phase is not None:
        figures["depth-phases"] = by_phase
    with style():
        for name, figure in figures.items():
            for kind in dict.fromkeys(formats):
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, **save_options(kind))
                write_atomically(out / f"{name}.{kind}", buffer.getvalue())
                written.append(out / f"{name}.{kind}")
    return written
