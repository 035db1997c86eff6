"""``compare``: two or more runs on their common episodes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from rdvla_bench.commands.cli import command
from rdvla_bench.errors import UsageError
from rdvla_bench.run_set import demand_single

if TYPE_CHECKING:
    from rdvla_bench.leaderboards.comparison import Comparison, Rule


@dataclass(frozen=True)
class Options:
    """Compare runs on the episodes they share: differences with intervals, exact p values, a verdict in words.

    Every two runs are compared. One policy under two seeds, or one run that plays its starts twice, shows the noise
    floor. Runs of different protocol cards, or without common episodes, are refused with the reason. Nothing is
    written.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders: the --out of two or more runs."""
    alpha: float = 0.05
    """Chance of calling a difference where there is none, over all rows of a table together."""
    margin: str = "5pp"
    """Differences in success rate smaller than this do not matter: an interval inside it says "no difference seen"."""
    length_margin: float = 0.2
    """The same for chain lengths, in instructions."""
    strict: bool = False
    """Refuse runs whose common episodes hold errors, instead of leaving those out."""
    markdown: bool = False
    """Print Markdown."""
    json: bool = False
    """Print JSON, numbers unrounded."""
    csv: bool = False
    """Print one flat table, numbers unrounded."""


@command
def main(argv: list[str] | None = None) -> int:
    """Print; return 0, or 2 where the runs cannot be compared."""
    options = tyro.cli(Options, args=argv, prog="rdvla-bench compare", config=(tyro.conf.FlagCreatePairsOff,))
    if options.markdown + options.json + options.csv > 1:
        raise UsageError("--markdown, --json and --csv exclude one another: give one, or none for the terminal")
    found, rule = _compared(options)
    _print(found, rule, options)
    return 0


def _compared(options: Options) -> tuple[list[Comparison], Rule]:
    from rdvla_bench.leaderboards.comparison import Rule, compare
    from rdvla_bench.leaderboards.margin import check_alpha, parse_margin
    from rdvla_bench.leaderboards.run_folder import read_run

    check_alpha(options.alpha)
    if not options.length_margin > 0:
        raise UsageError(f"--length-margin {options.length_margin:g}: expected a number of instructions above 0")
    rule = Rule(options.alpha, parse_margin(options.margin, 1).value, options.length_margin)
    for folder in options.runs:
        demand_single(folder)
    _refuse_doubles(options.runs)
    return compare([(str(folder), read_run(folder)) for folder in options.runs], rule, strict=options.strict), rule


def _refuse_doubles(folders: tuple[Path, ...]) -> None:
    seen: dict[Path, Path] = {}
    for folder in folders:
        if (place := folder.resolve()) in seen:
            raise UsageError(
                f"{seen[place]} and {folder} are one folder: a run compared with itself differs nowhere. For the noise "
                "floor, name it once, or compare it with a run under another --seed"
            )
        seen[place] = folder


def _print(found: list[Comparison], rule: Rule, options: Options) -> None:
    from rdvla_bench.leaderboards import render
    from rdvla_bench.leaderboards.comparison_tables import comparison_json, flat_rows, headline, remarks, tables

    if options.json:
        sys.stdout.write(render.to_json(comparison_json(found, rule)))
    elif options.csv:
        sys.stdout.write(render.to_csv(flat_rows(found)))
    elif options.markdown:
        for one in found:
            notes = "\n".join(f"- {text}" for text in remarks(one, rule))
            sys.stdout.write(f"# {headline(one)}\n\n{notes}\n\n{render.tables_markdown(tables(one, rule))}\n")
    else:
        from rich.text import Text

        from rdvla_bench.leaderboards.terminal import log_console, print_tables

        console = log_console()
        for one in found:
            console.print(Text(headline(one), style="bold"))
            for text in remarks(one, rule):
                console.print(Text(text, style="bold yellow" if text.startswith("warning") else ""))
            print_tables(tables(one, rule), console)
