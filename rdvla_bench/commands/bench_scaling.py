"""``bench scaling``: how episodes a second grow with workers, through the ``run`` command itself, Ray included."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rdvla_bench.errors import UsageError
from rdvla_bench.ledger import read_records

_POLL_S = 0.02


@dataclass(frozen=True)
class Scaling:
    """Play the same episodes with one worker and with two, in turns, and beside that without Ray, for the bound.

    The bound is what this machine grants two processes that know nothing of each other: two runs without Ray at the
    same time against one. On shared or hyper-threaded cores it is below 2, and no harness can exceed it.
    """

    policy: str = "rdvla-adaptive"
    """Name of the policy."""
    suite: str = "libero_object"
    """One LIBERO suite."""
    task: int = 0
    """Its task."""
    episodes: int = 8
    """Episodes a measurement: an even number, at least 4."""
    repeats: int = 3
    """Measurements of each kind; the median is reported."""


@dataclass(frozen=True)
class Pace:
    """One run, its start-up left out."""

    rate: float  # episodes a second of wall time, all workers together
    busy: float  # share of the workers' wall time spent in an episode; the rest is waiting for the driver
    cpu_s: float  # mean CPU seconds an episode


def scale(options: Scaling) -> int:
    """Measure and print.

    Raises:
        UsageError: an odd or too small number of episodes, or a run that failed.
    """
    if options.episodes < 4 or options.episodes % 2:
        raise UsageError(f"--episodes {options.episodes}: expected an even number, at least 4")
    turns = []
    for _ in range(options.repeats):
        alone, *both = _paces(options, [0]) + _paces(options, [0, 0])
        one, two = _paces(options, [1])[0], _paces(options, [2])[0]
        turns.append((two.rate / one.rate, sum(p.rate for p in both) / alone.rate, two.busy, two.cpu_s / one.cpu_s))
        print("{:.2f}x on Ray, {:.2f}x bound, {:.1%} busy, {:.2f}x CPU an episode".format(*turns[-1]), flush=True)
    on_ray, bound, busy, cpu = (median(values) for values in zip(*turns, strict=True))
    print(f"{options.suite} {options.task}, {options.policy}, medians of {options.repeats}:")
    print(f"two workers finish {on_ray:.2f} times the episodes of one;")
    print(f"the machine's bound: two processes without Ray finish {bound:.2f} times those of one;")
    print(f"two workers are in an episode {busy:.1%} of the time, at {cpu:.2f} times the CPU seconds an episode of one")
    return 0


def _paces(options: Scaling, workers: list[int]) -> list[Pace]:
    """Start one run for each number of workers, all at once; return each one's pace.

    Start-up (imports, Ray, building environments) is left out: a run's clock starts when as many episodes are in its
    ledger as it has workers, and stops at the last one.
    """
    with TemporaryDirectory() as folder:
        runs = [_Run(options, n, Path(folder, str(i))) for i, n in enumerate(workers)]
        while sum(run.is_watched() for run in runs):  # a sum looks at every run
            time.sleep(_POLL_S)
        return [run.pace() for run in runs]


class _Run:
    """A run command in a process of its own, and when the lines of its ledger appeared."""

    def __init__(self, options: Scaling, workers: int, folder: Path) -> None:
        folder.mkdir()
        self._episodes, self._parallel = options.episodes, max(workers, 1)
        self._ledger, self._log = folder / "run" / "episodes.jsonl", folder / "log"
        flags = {"policy": options.policy, "suite": options.suite, "tasks": options.task, "episodes": options.episodes}
        flags |= {"workers": workers, "out": folder / "run"}
        self._command = [sys.executable, "-m", "rdvla_bench.run"]
        self._command += [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        self._arrivals: list[float] = []

    def is_watched(self) -> bool:
        """Note new lines; return whether the run goes on."""
        is_over = self._process.poll() is not None  # looked at first: what was written before the end is still read
        n_lines = self._ledger.read_bytes().count(b"\n") if self._ledger.exists() else 0
        self._arrivals += [time.perf_counter()] * (n_lines - len(self._arrivals))
        return not is_over

    def pace(self) -> Pace:
        """Return what the run achieved between its first episodes and its last."""
        if len(self._arrivals) < self._episodes:
            said = " ".join(self._log.read_text(errors="replace").split()[-40:])
            done = f"{len(self._arrivals)} of {self._episodes}"
            raise UsageError(f"{' '.join(self._command)} finished {done} episodes: {said}")
        span = self._arrivals[-1] - self._arrivals[self._parallel - 1]
        timed = [r.execution for r in list(read_records(self._ledger.parent).values())[self._parallel :]]
        return Pace(
            rate=len(timed) / span,
            busy=sum(e.wall_s for e in timed) / (self._parallel * span),
            cpu_s=sum(e.cpu_s for e in timed) / len(timed),
        )
