"""``bench identity``: for every task, is an episode the same bits whatever ran before it, and upstream's own bits?

Each task's target episode (init state 0, one seed, fixed random actions) is played four times:

* ``fresh``: first in a process of its own;
* ``later``: in another process, after two other episodes of the task, with other actions, and one unfinished;
* ``again``: once more in that process, after a third;
* ``plain``: by upstream's loop (``bench_loops``), in a process of its own, every step rendered.

Compared are the simulator's state, both cameras' frames and the proprioception, after the settle steps, at each query
and after the last action.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console

from rdvla_bench.commands.bench_loops import Task, Trial, Worker
from rdvla_bench.registry import load_suite


@dataclass(frozen=True)
class Identity:
    """Play an episode of each task fresh, after others, and through upstream's loop; all bits must agree."""

    suite: str = "libero_spatial,libero_object,libero_goal,libero_10"
    """LIBERO suites, separated by commas."""
    tasks: str | None = None
    """Tasks of each suite: "0,3", "0-4" or names; all by default."""
    seed: int = 0
    """Seed of fixtures and actions."""
    out: Path | None = None
    """Also write the table to this Markdown file, after each task."""


N_ACTIONS = 40
CHUNK = 8


@dataclass(frozen=True)
class Verdict:
    """One task: which of its four performances agree with the fresh one."""

    suite: str
    task: int
    name: str
    later: bool
    again: bool
    plain: bool
    sha256: str  # of the fresh episode's frames and final state

    @property
    def is_identical(self) -> bool:
        """Return whether all four agree."""
        return self.later and self.again and self.plain


def judge(suite: str, task: int, name: str, seed: int) -> Verdict:
    """Play one task's target episode four times."""
    from rdvla_bench.envs.libero import gl

    what = Task(suite, task, with_cameras=True, chunk=CHUNK)
    rng = np.random.default_rng([seed, task])
    target, other, short = (rng.uniform(-1, 1, (n, 7)).astype(np.float32) for n in (N_ACTIONS, 24, 5))
    with TemporaryDirectory() as folder:
        choice = gl.choose()
        plain_gl = dict(choice.env) or gl.link_bundled(Path(folder))
        fresh = _once(Worker("ours", what, gl.worker_env()), [(0, seed, target)])[-1]
        history = [
            (1, seed + 1, other),
            (2, seed + 2, short),
            (0, seed, target),
            (3, seed + 3, other),
            (0, seed, target),
        ]
        later = _once(Worker("ours", what, gl.worker_env()), history)
        plain = _once(Worker("plain", what, plain_gl), [(0, seed, target)])[-1]
    return Verdict(
        suite,
        task,
        name,
        later=_same(fresh, later[2]),
        again=_same(fresh, later[4]),
        plain=_same(fresh, plain),
        sha256=f"{fresh.frames[:16]} {fresh.state[:16]}",
    )


def _once(worker: Worker, episodes: Iterable[tuple[int, int, np.ndarray]]) -> list[Trial]:
    try:
        return [worker.run(*episode) for episode in episodes]
    finally:
        worker.close()


def _same(a: Trial, b: Trial) -> bool:
    return (a.start_state, a.frames, a.state, a.n_steps) == (b.start_state, b.frames, b.state, b.n_steps)


def sweep(options: Identity) -> int:
    """Judge every task; return 0 iff all are identical. ``out`` is written after each task."""
    verdicts = []
    console = Console()
    for suite in map(load_suite, options.suite.split(",")):
        for task in suite.task_ids(options.tasks):
            verdict = judge(suite.name, task, suite.tasks[task].name, options.seed)
            verdicts.append(verdict)
            words = "identical" if verdict.is_identical else "DIFFERS"
            console.print(f"{suite.name} {task}: {words} {verdict.sha256}", highlight=False)
            if options.out:
                options.out.write_text(markdown(verdicts))
    n_same = sum(verdict.is_identical for verdict in verdicts)
    console.print(f"{n_same} of {len(verdicts)} tasks bit-identical in all four performances")
    return 0 if n_same == len(verdicts) else 1


def markdown(verdicts: Iterable[Verdict]) -> str:
    """Return the table for the docs."""
    header = ("suite", "task", "name", "later = fresh", "again = fresh", "upstream = fresh", "frames, state (SHA-256)")
    lines = [header, ("---",) * len(header)]
    for v in verdicts:
        marks = ("yes" if same else "**NO**" for same in (v.later, v.again, v.plain))
        lines.append((v.suite, str(v.task), v.name, *marks, f"`{v.sha256}`"))
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
