"""A board: what a run measured, per suite and per task, and whether its rates may be ranked.

Non-obvious:
- An ERROR is no failure. It is counted apart, and rates, depths, queries and steps are taken over the other
  episodes. Because those are then no longer the planned sample, the rate is shown but not ranked; the same
  holds while episodes are missing, and where a resumed run drew its pictures from something else than it began with.
- A suite's rate pools its episodes. The mean of suites weighs every suite alike, the mean of tasks every task.
- Depth and model time are per query, pooled over the queries of the episodes in the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from rdvla_bench.leaderboards.chains import SEED, ChainScore, SubtaskScore, chain_score, subtask_scores
from rdvla_bench.leaderboards.frame import executions_frame, results_frame
from rdvla_bench.leaderboards.intervals import Stratum, clustered_bootstrap, stratified_wilson
from rdvla_bench.leaderboards.run_folder import Manifest, Run, read_run
from rdvla_bench.leaderboards.statistics import mean, quantile, spread, wilson
from rdvla_bench.types import Outcome


@dataclass(frozen=True)
class Score:
    """The results of one suite, or of one task of it. Reproducible. None where there is nothing to average."""

    suite: str
    task: int | None  # None: the whole suite
    name: str  # of the task
    planned: int  # episodes
    done: int
    errors: int
    successes: int
    rate: float | None  # successes / (done - errors)
    low: float | None  # Wilson 95 %
    high: float | None
    depth: float | None  # mean a query; None for a policy without a recurrent core
    depth_sd: float | None  # over queries
    queries: float | None  # mean an episode
    steps: float | None  # mean an episode
    flops: float | None  # mean an episode; None unless known for each
    chain: ChainScore | None = None  # of a suite whose episodes are chains
    appearances: tuple[str, ...] = ()  # what its pictures were drawn from and with; none for a policy without cameras

    @property
    def scored(self) -> int:
        """Return the number of episodes that succeeded or timed out."""
        return self.done - self.errors

    @property
    def unranked(self) -> str:
        """Return why the rate may not be ranked, "" if it may."""
        missing = self.planned - self.done
        reasons = [f"{self.errors} error{'s' if self.errors > 1 else ''}"] if self.errors else []
        reasons += [f"{missing} of {self.planned} missing"] if missing else []
        reasons += [f"{len(self.appearances)} appearances mixed"] if len(self.appearances) > 1 else []
        return ", ".join(reasons)


@dataclass(frozen=True)
class Cost:
    """The execution of the same episodes. Differs from run to run, machine to machine."""

    suite: str
    task: int | None
    name: str
    model_ms: float | None  # mean a query
    model_ms_p50: float | None
    model_ms_p95: float | None
    backbone_ms: float | None  # mean a query, of those where it was measured apart
    head_ms: float | None
    batch_size: float | None  # mean a query
    cpu_s: float | None  # mean an episode, building the environment left out
    wall_s: float | None  # mean an episode
    build_cpu_s: float  # total
    retries: int  # total


@dataclass(frozen=True)
class Board:
    """Scores and costs of one run, in the same order: suites as configured, tasks ascending."""

    manifest: Manifest
    results: pd.DataFrame  # columns of frame.RESULTS
    executions: pd.DataFrame  # columns of frame.EXECUTIONS
    suite_scores: tuple[Score, ...]
    task_scores: tuple[Score, ...]
    suite_costs: tuple[Cost, ...]
    task_costs: tuple[Cost, ...]
    subtask_scores: tuple[SubtaskScore, ...] = ()  # of chains

    @classmethod
    def of(cls, run: Run) -> Board:
        """Build the board of ``run``."""
        results, executions = results_frame(run.records), executions_frame(run.records)
        suites, tasks = list(_suites(run.manifest)), list(_tasks(run.manifest))
        return cls(
            run.manifest,
            results,
            executions,
            tuple(_with_chain(_score(results, *row), results, run.manifest) for row in suites),
            tuple(_score(results, *row) for row in tasks),
            tuple(_cost(executions, *row) for row in suites),
            tuple(_cost(executions, *row) for row in tasks),
            tuple(score for suite, *_ in suites for score in subtask_scores(results, suite) if _is_chain(run, suite)),
        )

    @property
    def mean_of_suites(self) -> float | None:
        """Return the unweighted mean of the suites' rates, None unless every suite may be ranked and has no chains."""
        if any(s.chain for s in self.suite_scores):
            return None
        rates = [s.rate for s in self.suite_scores if s.rate is not None and not s.unranked]
        return mean(rates) if len(rates) == len(self.suite_scores) else None

    @property
    def mean_of_suites_interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of the mean of suites for these tasks: Wilson's, tasks as strata."""
        if self.mean_of_suites is None:
            return None
        pooled = {s.suite: s.scored * len(self.suite_scores) for s in self.suite_scores}
        strata = [Stratum(s.successes, s.scored, s.scored / pooled[s.suite]) for s in self.task_scores]
        return stratified_wilson(strata)

    @property
    def mean_of_tasks_interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of the mean of tasks for tasks like these, by bootstrap; None of one task."""
        rates = [s.rate for s in self.task_scores if s.rate is not None]
        if self.mean_of_suites is None or len(rates) < 2:
            return None
        return clustered_bootstrap(rates, np.random.default_rng(SEED))

    @property
    def is_untrained(self) -> bool:
        """Return whether the policy's weights were never trained."""
        return str(self.manifest["policy_card"].get("weights")) == "untrained"

    @property
    def is_privileged(self) -> bool:
        """Return whether the policy reads the simulator's state."""
        return bool(self.manifest["policy_card"].get("privileged"))

    @property
    def has_procedural_look(self) -> bool:
        """Return whether the pictures were drawn in this project's look where the benchmark has one of its own."""
        variant = self.manifest["protocol_card"].get("variant") or {}
        return bool(variant.get("look") == "procedural")


def load_board(folder: Path) -> Board:
    """Return the board of a run folder.

    Raises:
        LedgerError: ``folder`` is no run folder or its ledger is garbled.
    """
    return Board.of(read_run(folder))


def _suites(manifest: Manifest) -> Iterator[tuple[str, None, str, int]]:
    config = manifest["config"]
    for suite in config["suites"]:
        yield suite, None, "", len(config["tasks"][suite]) * config["episodes"]


def _tasks(manifest: Manifest) -> Iterator[tuple[str, int, str, int]]:
    config = manifest["config"]
    for suite in config["suites"]:
        names = manifest["task_names"].get(suite, {})
        for task in config["tasks"][suite]:
            yield suite, task, names.get(str(task), ""), config["episodes"]


def _of(frame: pd.DataFrame, suite: str, task: int | None) -> pd.DataFrame:
    chosen = frame["suite"] == suite
    return frame[chosen if task is None else chosen & (frame["task"] == task)]


def _score(results: pd.DataFrame, suite: str, task: int | None, name: str, planned: int) -> Score:
    done = _of(results, suite, task)
    scored = done[done["outcome"] != Outcome.ERROR.value]
    successes = int((scored["outcome"] == Outcome.SUCCESS.value).sum())
    low, high = wilson(successes, len(scored)) if len(scored) else (None, None)
    depths = [depth for row in scored["depths"] for depth in row]
    recurrent = any(depths)
    return Score(
        suite=suite,
        task=task,
        name=name,
        planned=planned,
        done=len(done),
        errors=len(done) - len(scored),
        successes=successes,
        rate=successes / len(scored) if len(scored) else None,
        low=low,
        high=high,
        depth=mean(depths) if recurrent else None,
        depth_sd=spread(depths) if recurrent else None,
        queries=mean(scored["queries"].tolist()),
        steps=mean(scored["steps"].tolist()),
        flops=None if scored["flops"].isna().any() else mean(scored["flops"].tolist()),
        appearances=tuple(sorted(set(done["appearance"]) - {""})),
    )


def _is_chain(run: Run, suite: str) -> bool:
    return run.manifest.get("n_instructions", {}).get(suite, 1) > 1


def _with_chain(score: Score, results: pd.DataFrame, manifest: Manifest) -> Score:
    n_instructions = manifest.get("n_instructions", {}).get(score.suite, 1)
    return replace(score, chain=chain_score(_of(results, score.suite, None), n_instructions))


def _cost(executions: pd.DataFrame, suite: str, task: int | None, name: str, planned: int) -> Cost:
    del planned
    done = _of(executions, suite, task)
    scored = done[done["outcome"] != Outcome.ERROR.value]
    model_ms = [1e3 * seconds for row in scored["model_s"] for seconds in row]
    return Cost(
        suite=suite,
        task=task,
        name=name,
        model_ms=mean(model_ms),
        model_ms_p50=quantile(model_ms, 0.50),
        model_ms_p95=quantile(model_ms, 0.95),
        backbone_ms=mean([1e3 * seconds for row in scored["backbone_s"] for seconds in row]),
        head_ms=mean([1e3 * seconds for row in scored["head_s"] for seconds in row]),
        batch_size=mean([size for row in scored["batch_sizes"] for size in row]),
        cpu_s=mean(scored["cpu_s"].tolist()),
        wall_s=mean(scored["wall_s"].tolist()),
        build_cpu_s=float(done["build_cpu_s"].sum()),
        retries=int((done["attempts"] - 1).sum()),
    )
