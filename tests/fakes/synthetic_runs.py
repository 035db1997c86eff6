"""Run folders made up for tests and pictures: success saturates in depth, some phases of an episode need more of it.

No simulator and no model: an episode succeeds where the depth spent suffices for what its queries need, by one draw
that all runs share. Never a result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

from rdvla_bench.ledger import write_run
from rdvla_bench.policy import PolicyCard
from rdvla_bench.record import Execution, Record, Result
from rdvla_bench.types import Culprit, Episode, Outcome

NORMAL = NormalDist()
CHAIN = ("open_drawer", "lift_red_block_table", "place_in_slider", "turn_on_lightbulb", "push_blue_block_left")


@dataclass(frozen=True)
class Synthetic:
    """One run: a policy with one exit rule."""

    policy: str
    settings: dict[str, str]
    exit_rule: dict[str, object]
    spend: Callable[[float, np.random.Generator], tuple[int, tuple[float, ...]]]  # need -> depth, exit trace
    horizon: int = 5


def fixed(depth: int) -> Synthetic:
    """Return ``rdvla-fixed`` at one depth."""
    rule = {"rule": "fixed-depth", "depth": depth}
    return Synthetic("rdvla-fixed", {"depth": str(depth)}, rule, lambda need, rng: (depth, ()))


def adaptive(delta: float) -> Synthetic:
    """Return ``rdvla-adaptive``: the criterion falls by a factor an iteration, the slower the more is needed."""

    def spend(need: float, rng: np.random.Generator) -> tuple[int, tuple[float, ...]]:
        trace: list[float] = []
        while len(trace) < 31:
            trace.append(float(0.08 * np.exp(-(len(trace) + 1) * 2.8 / need) * rng.lognormal(0, 0.35)))
            if trace[-1] < delta:
                break
        return len(trace) + 1, tuple(trace)

    rule = {"rule": "mean-squared-change", "delta": delta, "max_depth": 32, "min_depth": 2}
    return Synthetic("rdvla-adaptive", {"delta": f"{delta:g}"}, rule, spend)


def plain(name: str = "hold") -> Synthetic:
    """Return a policy without a recurrent core."""
    return Synthetic(name, {}, {}, lambda need, rng: (0, ()))


def need(task: int, fraction: float) -> float:
    """Return the iterations that a query needs: many where the gripper closes and where it places."""
    grasp, place = np.exp(-(((fraction - 0.4) / 0.10) ** 2)), np.exp(-(((fraction - 0.85) / 0.08) ** 2))
    return float(1.2 + 0.12 * task + 2.6 * grasp + 1.8 * place)


def play(run: Synthetic, episode: Episode, *, is_chain: bool = False) -> Record:
    """Make up one episode; its luck is partly the start's, which all runs share, and partly the run's own."""
    place = [sum(map(ord, episode.suite)), episode.task, episode.start, episode.repetition]
    luck, rng = np.random.default_rng([*place, 7]), np.random.default_rng([*place, *map(ord, str(run.settings))])
    length = 200 if is_chain else 100
    base, depths, traces = int(luck.integers(length * 6 // 10, length)), [], []
    for query in range(base // run.horizon + 1):
        needed = need(episode.task, query * run.horizon / base)
        depth, trace = run.spend(needed, rng)
        depths.append(depth)
        traces.append(trace)
    needs = [need(episode.task, q * run.horizon / base) for q in range(len(depths))]
    fit = np.mean([1 - np.exp(-1.6 * d / n) for d, n in zip(depths, needs, strict=True)])
    chance = 0.95 * fit**2.2 if run.exit_rule else 0.03
    horizons = [run.horizon] * (len(depths) - 1) + [base - run.horizon * (len(depths) - 1)]
    draws = 0.75 * luck.normal(size=5) + 0.66 * rng.normal(size=5)  # variance 1
    succeeded = bool(draws[0] < NORMAL.inv_cdf(chance))
    solved = int(sum(np.cumprod(draws < NORMAL.inv_cdf(chance**0.25)))) if is_chain else None
    if is_chain:
        succeeded = solved == len(CHAIN)
    elif not succeeded:  # a failure goes on until its cap
        horizons = [run.horizon] * len(depths)
    steps = sum(horizons)
    attempted = CHAIN[: min((solved or 0) + 1, len(CHAIN))] if is_chain else ()
    cuts = np.linspace(0, steps, len(attempted) + 1).astype(int)
    result = Result(
        Outcome.SUCCESS if succeeded else Outcome.TIMEOUT,
        steps=steps,
        instruction="pick up the thing",
        depths=tuple(depths),
        horizons=tuple(horizons),
        exit_traces=tuple(traces),
        flops=float(sum(60e9 + 4e9 * d + 0.6e9 * len(t) for d, t in zip(depths, traces, strict=True))),
        solved=solved,
        subtasks=attempted,
        subtask_steps=tuple(int(n) for n in np.diff(cuts)) if is_chain else (),
    )
    slow = rng.lognormal(0, 0.08, len(depths)) * (1 + 0.6 * (rng.random(len(depths)) < 0.02))
    seconds = tuple(float(s) for s in slow * (0.021 + 0.0031 * np.array(depths)))
    return Record(episode, result, Execution(model_s=seconds, batch_sizes=(1,) * len(depths), cpu_s=1.0, wall_s=1.0))


def broken(record: Record) -> Record:
    """Return the same episode ended by an ERROR."""
    result = Result(Outcome.ERROR, culprit=Culprit.ENV, error="EnvFault: made up")
    return Record(record.episode, result, record.execution)


def write(
    folder: Path,
    run: Synthetic,
    *,
    suites: Sequence[str] = ("libero_object",),
    n_tasks: int = 10,
    n_episodes: int = 20,
    seed: int = 0,
    protocol: str = "libero/paired@1",
    n_errors: int = 0,
    privileged: bool = False,
) -> Path:
    """Write the run folder; the first ``n_errors`` episodes are errors."""
    is_chain = suites[0].startswith("calvin")
    tasks = {suite: [0] if is_chain else list(range(n_tasks)) for suite in suites}
    episodes = [Episode(s, t, k, 0, seed) for s in suites for t in tasks[s] for k in range(n_episodes)]
    records = [play(run, episode, is_chain=is_chain) for episode in episodes]
    records = [broken(r) if i < n_errors else r for i, r in enumerate(records)]
    card = PolicyCard(run.policy, "synthetic", privileged=privileged, exit_rule=run.exit_rule)
    folder.mkdir(parents=True)
    write_run(
        folder,
        {
            "schema": 1,
            "status": "complete",
            "config": {
                "policy": run.policy,
                "settings": run.settings,
                "env": {},
                "suites": list(suites),
                "tasks": tasks,
                "episodes": n_episodes,
                "seed": seed,
                "protocol": protocol,
                "protocol_hash": f"made up: {protocol}",
            },
            "policy_card": card.to_json(),
            "policy_hash": card.hash,
            "protocol_card": {"name": protocol, "summary": "made up", "n_trials": n_episodes},
            "protocol_hash": f"made up: {protocol}",
            "planned": len(episodes),
            "full": True,
            "n_instructions": {suite: 5 if is_chain else 1 for suite in suites},
            "task_names": {s: {str(t): f"pick up thing {t}" for t in ids} for s, ids in tasks.items()},
            "versions": {"mujoco": "3.3.2"},
            "gl": {"renderer": "none", "canary_sha256": ""},
            "machine": {"cpu": "made up", "cores": 2},
            "git_commit": "",
            "started": "2026-01-01T00:00:00+00:00",
        },
    )
    (folder / "episodes.jsonl").write_text("".join(json.dumps(r.to_json()) + "\n" for r in records))
    return folder


def write_sweep(folder: Path, runs: Sequence[Synthetic], key: str, **options: object) -> Path:
    """Write a sweep folder with one run a value of ``key``."""
    names = [f"{key}={run.settings[key]}" for run in runs]
    for name, run in zip(names, runs, strict=True):
        write(folder / name, run, **options)  # type: ignore[arg-type]
    config = {"policy": runs[0].policy, "sweep": {key: [run.settings[key] for run in runs]}}
    (folder / "sweep.json").write_text(json.dumps({"schema": 1, "config": config, "points": names}))
    return folder


DEPTHS = (1, 2, 4, 8, 12, 16)
DELTAS = (1e-2, 3e-3, 1e-3, 2e-4)


def write_example(folder: Path, **options: object) -> tuple[Path, Path]:
    """Write the two sweeps of the pictures in the docs."""
    return (
        write_sweep(folder / "fixed", [fixed(depth) for depth in DEPTHS], "depth", **options),
        write_sweep(folder / "adaptive", [adaptive(delta) for delta in DELTAS], "delta", **options),
    )


if __name__ == "__main__":  # the pictures of docs/curves.md: python tests/fakes/synthetic_runs.py DIR
    import sys

    write_example(Path(sys.argv[1]), n_episodes=50, protocol="SYNTHETIC")
