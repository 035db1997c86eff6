"""``python -m rdvla_bench.film RUN [RUN ...]``: small films of a run's first successes and failures, with an index."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from rdvla_bench.commands.cli import command
from rdvla_bench.commands.film_choice import Choice, choose
from rdvla_bench.commands.film_episode import Caption
from rdvla_bench.commands.film_index import INDEX, Entry, Page, demand_ours, strangers, write_index
from rdvla_bench.commands.film_small import PICTURES_HZ, SPEED, demand_encoder, every, holds, write_small
from rdvla_bench.commands.replay import COMPARED, hint_at_arithmetic, replay_episode
from rdvla_bench.errors import UsageError
from rdvla_bench.ledger import ACTIONS, actions_path, read_records, read_run
from rdvla_bench.record import Record
from rdvla_bench.registry import load_suite
from rdvla_bench.run_set import demand_single, kind_of, read_set

DECISIVE = tuple(name for name in COMPARED if name != "frames_sha256")
"""What must agree for a film to show what was recorded. Another renderer draws the same states in other pixels."""


@dataclass(frozen=True)
class FilmArguments:
    """Film the first successes and failures of each suite of one or more runs, small enough for a repository.

    The recorded actions are played again; no policy is loaded. The same command again makes what is missing.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders of different suites; also one of several benchmarks (OUT/libero, OUT/calvin)."""
    outcomes: int = 5
    """How many successes, and how many failures, of each suite."""
    out: Path | None = None
    """Folder of the films and of their index.md; by default RUN/videos, to which boards link. Needed for several."""
    spread: bool = False
    """Take one episode of every task before a second of any, instead of the first ones of the plan."""


@dataclass(frozen=True)
class Source:
    """One run folder, read."""

    folder: Path
    run: dict[str, Any]
    choices: tuple[Choice, ...]  # one a suite, in the order of the plan

    def entries(self) -> list[Entry]:
        """Return the rows of the index, in order."""
        return [
            Entry(shown, record, choice.n_instructions, f"{record.episode.id}.mp4")
            for choice in self.choices
            for shown, record in choice.shown
        ]


@command
def main(argv: list[str] | None = None) -> int:
    """Film what is missing; 0, 1 if a replay differs from its recording, 2 with the reason."""
    arguments = tyro.cli(
        FilmArguments, args=argv, prog="python -m rdvla_bench.film", config=(tyro.conf.FlagCreatePairsOff,)
    )
    if arguments.outcomes < 1:
        raise UsageError(f"--outcomes {arguments.outcomes}: expected at least 1")
    out = _out(arguments)
    folders = [folder for run in arguments.runs for folder in _folders(run)]
    sources = [_read(folder, arguments.outcomes, is_spread=arguments.spread) for folder in folders]
    _demand_different_suites(sources)
    missing = _missing(sources, out)
    if missing:
        demand_encoder()
    done = [
        _film(source, entry, out) if (source.folder, entry.film) in missing else entry
        for source in sources
        for entry in source.entries()
    ]
    choices = tuple(choice for source in sources for choice in source.choices)
    page = Page(tuple(source.run for source in sources), choices, tuple(done), is_spread=arguments.spread)
    write_index(out / INDEX, page)
    n_differing = sum(bool(entry.trouble) for entry in done)
    n_made, n_kept = len(missing) - n_differing, len(done) - len(missing)
    print(
        f"{out / INDEX}: films: {n_made} made, {n_kept} there before" + f", {n_differing} not made" * bool(n_differing)
    )
    others = strangers(out, done)
    if others:
        print(f"not in the index, of other runs or choices, yours to delete: {', '.join(others)}")
    return 1 if n_differing else 0


def _out(arguments: FilmArguments) -> Path:
    """Return the folder of the films.

    Raises:
        UsageError: no run is named, or several and no folder.
    """
    if not arguments.runs:
        raise UsageError("no run to film: name a run folder (python -m rdvla_bench.film RUN)")
    if arguments.out is None and len(arguments.runs) > 1:
        raise UsageError(f"films of {len(arguments.runs)} runs have no folder of their own: name it with --out")
    return arguments.out or arguments.runs[0] / "videos"


def _demand_different_suites(sources: list[Source]) -> None:
    """Check that no two runs have episodes of one name.

    Raises:
        UsageError: a suite is in two runs.
    """
    first: dict[str, Path] = {}
    for source in sources:
        for choice in source.choices:
            if (other := first.setdefault(choice.suite, source.folder)) != source.folder:
                raise UsageError(
                    f"{other} and {source.folder} both hold {choice.suite}, and films are named by episode: film them "
                    "into two folders, each with an --out of its own"
                )


def _folders(run: Path) -> list[Path]:
    """Return the single runs of ``run``.

    Raises:
        UsageError: it holds a sweep, whose episodes bear the same names.
    """
    if kind_of(run) != "mix":
        demand_single(run)
        return [run]
    folders = [run / name for name in read_set(run, "mix")["points"]]
    for folder in folders:
        demand_single(folder)
    return folders


def _read(folder: Path, n: int, *, is_spread: bool) -> Source:
    run, records = read_run(folder), read_records(folder).values()
    lengths = run.get("n_instructions", {})
    choices = tuple(
        choose(suite, records, n, n_instructions=lengths.get(suite, 1), is_spread=is_spread)
        for suite in run["config"]["suites"]
    )
    if not any(choice.shown for choice in choices):
        errors = sum(choice.n_errors for choice in choices)
        raise UsageError(f"{folder} holds no finished episode to film, only {errors} errors: play more of it first")
    return Source(folder, run, choices)


def _missing(sources: list[Source], out: Path) -> set[tuple[Path, str]]:
    """Return (run folder, film) of what must be made; everything that can be refused is refused here.

    Raises:
        UsageError: ``out`` cannot be written, holds another's file in our place, or a recording is gone.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file, expected a folder")
    demand_ours(out / INDEX)
    missing = {
        (source.folder, entry.film): entry.record
        for source in sources
        for entry in source.entries()
        if not holds(out / entry.film, _identity(entry.record))
    }
    for (folder, _), record in missing.items():
        path = actions_path(folder, record.episode.id)
        if not path.exists():
            raise UsageError(
                f"{folder} has no recorded actions of {record.episode.id}: {path} is not there. "
                f"A run writes it; copy the folder '{ACTIONS}' too, or play the run again"
            )
    return set(missing)


def _identity(record: Record) -> str:
    """Return what a film shows: one episode, and what was done in it."""
    return f"{record.episode.id} seed {record.episode.seed} actions {record.result.actions_sha256}"


def _film(source: Source, entry: Entry, out: Path) -> Entry:
    """Film one episode, unless its replay differs; say so in one line."""
    record = entry.record
    step = every(load_suite(record.episode.suite).control_hz)
    replayed, frames = replay_episode(source.folder, source.run, record, every=step)
    differing = [name for name in DECISIVE if getattr(replayed, name) != getattr(record.result, name)]
    if differing:
        last = replayed.error.strip().splitlines()[-1:]
        trouble = " ".join([f"the replay differs in {', '.join(differing)}", *last, *hint_at_arithmetic(source.run)])
        print(f"{record.episode.id}: not filmed, {trouble}")
        return replace(entry, trouble=trouble)
    caption = Caption("", record.result.outcome, record.result.steps, record.result.depths, PICTURES_HZ * SPEED)
    size = write_small(out / entry.film, frames, caption, _identity(record))
    print(f"{record.episode.id}: {entry.shown}, {record.result.steps} steps, {size / 1000:.0f} kB", flush=True)
    return entry
