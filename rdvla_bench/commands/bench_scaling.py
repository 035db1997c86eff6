"""How episodes a second grow with workers, measured through the ``run`` command itself, Ray included."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rdvla_bench.errors import UsageError

_POLL_S = 0.05


def episodes_per_s(suite: str, task: int, *, workers: int, episodes: int, seed: int) -> float:
    """Return the rate at which a run of the random policy finishes episodes, by the wall clock.

    Start-up (imports, Ray, building environments) is left out: the clock starts when as many episodes are in the
    ledger as there are workers, and stops at the last one.

    Raises:
        UsageError: The run failed; the message ends with what it said.
    """
    with TemporaryDirectory() as folder:
        out = Path(folder, "run")
        flags = {"policy": "random", "suite": suite, "tasks": task, "episodes": episodes, "seed": seed, "out": out}
        command = [sys.executable, "-m", "rdvla_bench.run", "--workers", str(workers)]
        command += [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        log = Path(folder, "log")
        with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT) as run:
            finished = _arrivals(out / "episodes.jsonl", episodes, run)
        if len(finished) < episodes:
            raise UsageError(f"{' '.join(command)} finished {len(finished)} of {episodes} episodes: {_tail(log)}")
    return (episodes - workers) / (finished[-1] - finished[workers - 1])


def _arrivals(ledger: Path, episodes: int, run: subprocess.Popen[bytes]) -> list[float]:
    """Return when each line of the ledger appeared, in seconds on a monotonic clock."""
    arrivals: list[float] = []
    is_over = False
    while len(arrivals) < episodes and not is_over:
        is_over = run.poll() is not None  # looked at first: what was written before the end is still read
        n_lines = ledger.read_bytes().count(b"\n") if ledger.exists() else 0
        arrivals += [time.perf_counter()] * (n_lines - len(arrivals))
        time.sleep(_POLL_S)
    return arrivals


def _tail(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").split()[-40:])
