"""``bench calvin``: what a chain costs here, in the plain loop, and in the original environment itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Column, Table

from rdvla_bench import registry
from rdvla_bench.commands.bench_calvin_loops import Actions, Loop, Request, Settings, Trial, Worker
from rdvla_bench.errors import MissingExtra, UsageError

_WORKERS_OF_ESTIMATE, _CHAINS_OF_ESTIMATE = 2, 1000


@dataclass(frozen=True)
class Calvin:
    """Run the same chains through CALVIN's plain loop and through this harness, alternating, and compare."""

    suite: str = "calvin_d"
    """A CALVIN suite."""
    chains: int = 3
    """Chains a loop: 0, 1, ..."""
    steps: int = 360
    """Control steps a chain at most; 360 is a chain whose first subtask fails."""
    chunk: int = 8
    """Control steps between two queries."""
    actions: Actions = "random"
    """Uniform in [-1, 1], or none at all."""
    repeats: int = 1
    """How often to run all chains; the median is reported."""
    seed: int = 0
    """Seed of the actions."""
    only: Loop | None = None
    """Run one loop alone: original, plain, ours or state."""
    orders: bool = False
    """Instead: run the chains forwards in one process, backwards in another, and compare (loop state, or --only)."""
    assets: Path | None = None
    """A checkout of mees/calvin_env, to draw its meshes and textures instead of the procedural look."""
    upstream: Path | None = None
    """A checkout of mees/calvin_env, to time the original too."""
    upstream_python: Path = Path(sys.executable)
    """The interpreter that has this package and what the original needs."""
    out: Path | None = None
    """Also write the table to this file: .md or .json."""


@dataclass(frozen=True)
class Row:
    """One loop's measurement, medians over chains, process CPU time."""

    loop: Loop
    n_trials: int
    n_steps: int  # of one chain
    n_queries: int  # of one chain
    n_solved: int  # of all chains
    chain_s: float
    start_s: float  # reset and first observation
    step_ms: float
    rss_mb: float  # peak
    frames: tuple[str, ...]  # SHA-256 of each chain's pictures and proprioception at its queries
    states: tuple[str, ...]  # SHA-256 of each chain's final state


def compare(options: Calvin) -> int:
    """Measure and print; return 0, or 1 if two loops on one world computed anything else than the same.

    Raises:
        UsageError: options that cannot be carried out, or a loop whose process ended.
    """
    _check(options)
    if options.orders:
        return _compare_orders(options)
    rows = _measure(options)
    Console().print(_table(rows))
    for line in _conclusions(rows):
        print(line)
    if options.out:
        options.out.write_text(_markdown(rows) if options.out.suffix == ".md" else _json(rows, options))
    return 0 if _are_equal(rows) else 1


def _check(options: Calvin) -> None:
    if find_spec("pybullet") is None:
        raise MissingExtra("CALVIN", "calvin")
    suite = registry.load_suite(options.suite)
    if suite.extra != "calvin":
        raise UsageError(f"{options.suite} is no CALVIN suite")
    if not 1 <= options.chains <= suite.n_starts:
        raise UsageError(f"--chains {options.chains} is outside 1..{suite.n_starts} of {suite.name}")
    if min(options.steps, options.chunk, options.repeats) < 1:
        raise UsageError("--steps, --chunk and --repeats are at least 1")
    if options.only == "original" and options.upstream is None:
        raise UsageError("--only original needs --upstream, a checkout of mees/calvin_env")
    if options.out and options.out.suffix not in (".md", ".json"):
        raise UsageError(f"--out {options.out} ends neither in .md nor in .json")


def _compare_orders(options: Calvin) -> int:
    """Run each chain in two processes with different chains before it; return 0 if nothing depends on that."""
    loop: Loop = options.only or "state"
    workers = _start(options, loop), _start(options, loop)
    forwards, backwards = {}, {}
    try:
        for chain in range(options.chains):
            forwards[chain] = workers[0].run(_request(options, chain))
            other = options.chains - 1 - chain
            backwards[other] = workers[1].run(_request(options, other))
    finally:
        for worker in workers:
            worker.close()
    differing = [chain for chain in forwards if _outcome(forwards[chain]) != _outcome(backwards[chain])]
    n_states = len({trial.state for trial in forwards.values()})
    print(f"{options.chains} chains of {options.suite}, loop {loop}, forwards in one process, backwards in another:")
    print(f"{options.chains - len(differing)} end equal, in {n_states} different states")
    for chain in differing:
        print(f"chain {chain} DIFFERS")
    return 1 if differing else 0


def _outcome(trial: Trial) -> tuple[str, str, int]:
    return trial.state, trial.frames, trial.n_steps


def _request(options: Calvin, chain: int) -> Request:
    return Request(chain, options.steps, options.actions, options.seed)


def _start(options: Calvin, loop: Loop) -> Worker:
    assets, root = (str(path.resolve()) if path else "" for path in (options.assets, options.upstream))
    python = str(options.upstream_python) if loop == "original" else sys.executable
    return Worker(loop, Settings(options.suite, options.chunk, assets, root), python)


def _measure(options: Calvin) -> list[Row]:
    loops: list[Loop] = ["original"] if options.upstream else []
    loops += ["plain", "ours", "state"]
    if options.only:
        loops = [options.only]
    workers = {loop: _start(options, loop) for loop in loops}
    trials: dict[Loop, list[Trial]] = {loop: [] for loop in loops}
    try:
        for _ in range(options.repeats):
            for chain in range(options.chains):
                for loop in loops:
                    trials[loop].append(workers[loop].run(_request(options, chain)))
    finally:
        for worker in workers.values():
            worker.close()
    return [_row(loop, trials[loop]) for loop in loops]


def _row(loop: Loop, trials: list[Trial]) -> Row:
    return Row(
        loop=loop,
        n_trials=len(trials),
        n_steps=round(median(t.n_steps for t in trials)),
        n_queries=round(median(t.n_queries for t in trials)),
        n_solved=sum(t.n_solved for t in trials),
        chain_s=median(t.start_cpu_s + t.steps_cpu_s for t in trials),
        start_s=median(t.start_cpu_s for t in trials),
        step_ms=1e3 * median(t.steps_cpu_s / t.n_steps for t in trials),
        rss_mb=max(t.rss_mb for t in trials),
        frames=tuple(t.frames for t in trials),
        states=tuple(t.state for t in trials),
    )


def _are_equal(rows: Iterable[Row]) -> bool:
    """Whether all loops on our world ended in the same states, and those that draw saw the same frames."""
    ours = [row for row in rows if row.loop != "original"]
    frames = {row.frames for row in ours if row.loop != "state"}
    return len({row.states for row in ours}) <= 1 and len(frames) <= 1


def _conclusions(rows: list[Row]) -> Iterator[str]:
    by_loop = {row.loop: row for row in rows}
    ours, state = by_loop.get("ours"), by_loop.get("state")
    for name in ("original", "plain"):
        other = by_loop.get(name)  # type: ignore[call-overload]
        if ours and other:
            yield f"a chain costs {other.chain_s / ours.chain_s:.1f} times less CPU than in the {name} loop"
    if state:
        minutes = _CHAINS_OF_ESTIMATE * state.chain_s / _WORKERS_OF_ESTIMATE / 60
        yield f"{_CHAINS_OF_ESTIMATE} such chains without cameras on {_WORKERS_OF_ESTIMATE} cores: {minutes:.1f} min"
    if len(rows) > 1:
        yield "frames and final states: " + ("equal" if _are_equal(rows) else "DIFFER")


_HEADER = ("loop", "pictures", "s/chain", "s/start", "ms/step", "steps", "queries", "solved", "MB")
_PICTURES = {"original": "every step", "plain": "every step", "ours": "queries", "state": "none"}
_CAPTION = "process CPU time, medians over chains; MB: peak of resident memory"


def _cells(row: Row) -> tuple[str, ...]:
    costs = (f"{row.chain_s:.2f}", f"{row.start_s:.3f}", f"{row.step_ms:.2f}")
    counts = (row.n_steps, row.n_queries, row.n_solved, round(row.rss_mb))
    return (row.loop, _PICTURES[row.loop], *costs, *map(str, counts))


def _table(rows: Iterable[Row]) -> Table:
    table = Table(*(Column(name, no_wrap=True) for name in _HEADER), caption=_CAPTION, padding=(0, 0))
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _markdown(rows: list[Row]) -> str:
    lines = [_HEADER, ("---",) * len(_HEADER), *map(_cells, rows)]
    table = "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
    return table + "".join(f"\n{line}\n" for line in _conclusions(rows))


def _json(rows: list[Row], options: Calvin) -> str:
    versions = {name: version(name) for name in ("rdvla-bench", "pybullet", "numpy")}
    paths = ("out", "assets", "upstream", "upstream_python")
    settings = {key: value for key, value in asdict(options).items() if key not in paths}
    measured = {"options": settings, "versions": versions, "rows": [asdict(row) for row in rows]}
    return json.dumps({**measured, "are_equal": _are_equal(rows)}, indent=2) + "\n"
