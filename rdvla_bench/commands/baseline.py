"""``baseline RUN > FILE``: freeze a finished run, to hold later ones against it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from rdvla_bench.commands.cli import command
from rdvla_bench.run_set import demand_single


@dataclass(frozen=True)
class Options:
    """Print a finished run as one JSON file, for ``gate --baseline``: outcomes, cards, depth, times, versions."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder: the --out of a run without errors and without missing episodes."""


@command
def main(argv: list[str] | None = None) -> int:
    """Print; return 0, or 2 where the run cannot be frozen."""
    options = tyro.cli(Options, args=argv, prog="rdvla-bench baseline")
    from rdvla_bench.leaderboards.baseline import check_complete, check_errors, dumps, freeze
    from rdvla_bench.leaderboards.run_folder import read_run

    demand_single(options.run)
    run = read_run(options.run)
    check_errors(options.run, run)
    check_complete(options.run, run)
    sys.stdout.write(dumps(freeze(run)))
    return 0
