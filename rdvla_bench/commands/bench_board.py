"""``bench board``: what a board of many full runs costs, on synthetic ledgers."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rdvla_bench.errors import UsageError
from rdvla_bench.ledger import EPISODES, write_run
from rdvla_bench.protocol import protocol
from rdvla_bench.record import SCHEMA, Execution, Record, Result
from rdvla_bench.types import Episode, Outcome

_SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
_TASKS = 10
_DISTINCT = 10
"""Ledgers that are made; further runs are links to them, which reading does not notice."""


@dataclass(frozen=True)
class Boards:
    """Make synthetic full runs of the four LIBERO suites, and measure ``rdvla-bench board`` over all of them."""

    runs: int = 100
    """Runs side by side."""
    episodes: int = 2000
    """Episodes a run, a multiple of 40: four suites of ten tasks."""
    queries: int = 25
    """Queries an episode, each with its depth, model times and an exit trace of 4 to 12 numbers."""
    format: str = "md"
    """Format of the board: md, csv, json or latex."""
    seed: int = 0
    """Seed of the synthetic numbers."""


def board_speed(options: Boards) -> int:
    """Measure and print.

    Raises:
        UsageError: an impossible number, or the board failed.
    """
    if min(options.runs, options.queries) < 1 or options.episodes < 40 or options.episodes % 40:
        raise UsageError("--runs and --queries are at least 1, --episodes a positive multiple of 40")
    with TemporaryDirectory() as folder:
        root = Path(folder)
        made = [_make(options, root / f"run{i:03d}", i) for i in range(min(options.runs, _DISTINCT))]
        for i in range(len(made), options.runs):
            _link(made[i % len(made)], root / f"run{i:03d}")
        n_bytes = sum((root / f"run{i:03d}" / EPISODES).stat().st_size for i in range(options.runs))
        command = [sys.executable, "-m", "rdvla_bench.board", str(root), "--format", options.format]
        begun = time.perf_counter()
        done = subprocess.run([*command, "--out", str(root / "out")], capture_output=True, text=True, check=False)
        wall_s = time.perf_counter() - begun
        if done.returncode:
            raise UsageError(f"the board failed: {done.stderr.strip()}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s, peak_mib = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(f"{options.runs} runs of {options.episodes} episodes, {n_bytes / 1e6:.0f} MB of ledgers, {options.format}:")
    print(f"{cpu_s:.1f} CPU s, {wall_s:.1f} s by the clock, {peak_mib:.0f} MiB at most")
    return 0


def _link(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.iterdir():
        os.link(path, target / path.name)


def _make(options: Boards, folder: Path, index: int) -> Path:
    """Write one run folder as a run does."""
    folder.mkdir()
    rng = np.random.default_rng([options.seed, index])
    per_task = options.episodes // (len(_SUITES) * _TASKS)
    episodes = [
        Episode(suite, task, start, 0, 0) for suite in _SUITES for task in range(_TASKS) for start in range(per_task)
    ]
    with (folder / EPISODES).open("w") as file:
        for episode in episodes:
            record = _record(episode, options.queries, rng)
            file.write(json.dumps(record.to_json(), separators=(",", ":"), allow_nan=False) + "\n")
    write_run(folder, _manifest(per_task, index))
    return folder


def _record(episode: Episode, n_queries: int, rng: np.random.Generator) -> Record:
    depths = rng.integers(4, 13, n_queries)
    outcome = Outcome.SUCCESS if rng.random() < 0.9 else Outcome.TIMEOUT
    hashes = [rng.bytes(32).hex() for _ in range(4)]
    backbone_s, head_s = rng.normal(0.03, 0.001, n_queries), rng.normal(0.002, 0.0001, n_queries) * depths
    return Record(
        episode,
        Result(
            outcome,
            steps=8 * n_queries,
            instruction="pick up the black bowl between the plate and the ramekin and place it on the plate",
            depths=tuple(depths.tolist()),
            horizons=(8,) * n_queries,
            exit_traces=tuple(tuple(rng.exponential(1e-3, depth).tolist()) for depth in depths),
            flops=float(depths.sum() * 1e9),
            appearance="mujoco 3.3.2 llvmpipe",
            scene_sha256=hashes[0],
            frames_sha256=hashes[1],
            actions_sha256=hashes[2],
            state_sha256=hashes[3],
        ),
        Execution(
            worker="worker-0",
            wall_s=float(rng.normal(20, 1)),
            cpu_s=float(rng.normal(15, 1)),
            model_s=tuple((backbone_s + head_s).tolist()),
            batch_sizes=(1,) * n_queries,
            backbone_s=tuple(backbone_s.tolist()),
            head_s=tuple(head_s.tolist()),
        ),
    )


def _manifest(per_task: int, index: int) -> dict[str, object]:
    card = protocol("libero/paired@1")
    tasks = {suite: list(range(_TASKS)) for suite in _SUITES}
    return {
        "schema": SCHEMA,
        "status": "complete",
        "config": {
            "policy": f"synthetic-{index}",
            "settings": {},
            "suites": list(_SUITES),
            "tasks": tasks,
            "episodes": per_task,
            "seed": 0,
            "protocol": card.name,
        },
        "planned": per_task * _TASKS * len(_SUITES),
        "task_names": {suite: {str(task): f"task {task}" for task in ids} for suite, ids in tasks.items()},
        "policy_card": {"name": f"synthetic-{index}", "weights": "drawn"},
        "policy_hash": f"{index:012x}",
        "protocol_card": card.to_json(),
        "protocol_hash": card.hash,
        "versions": {},
        "gl": {"renderer": "", "canary_sha256": ""},
        "git_commit": "",
    }
