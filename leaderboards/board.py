"""A board: what a run measured, per suite and per task, and whether its rates may be ranked.

Non-obvious:
- An ERROR is no failure. It is counted apart, and rates, depths, queries and steps are taken over the other
  episodes. Because those are then no longer the planned sample, the rate is shown but not ranked; the same
  holds while episodes are missing, and where a resumed run drew its pictures from something else than it began with.
- A suite's rate pools its episodes. The mean of suites weighs every suite alike, the mean of tasks every task.
- Depth and model time are per query, pooled over the queries of the episodes in the row.
- A board keeps no episode: a hundred of them fit in memory. ``results`` and ``executions`` read the ledger again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rdvla_bench.leaderboards.chains import SEED, ChainScore, SubtaskScore, chain_score, subtask_scores
from rdvla_bench.leaderboards.columns import Columns, read_columns
from rdvla_bench.leaderboards.frame import executions_frame, results_frame
from rdvla_bench.leaderboards.intervals import Stratum, clustered_bootstrap, stratified_wilson
from rdvla_bench.leaderboards.run_folder import Manifest, check_plan, read_manifest, read_run
from rdvla_bench.leaderboards.statistics import mean, quantile, wilson
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
    folder: Path
    suite_scores: tuple[Score, ...]
    task_scores: tuple[Score, ...]
    suite_costs: tuple[Cost, ...]
    task_costs: tuple[Cost, ...]
    subtask_scores: tuple[SubtaskScore, ...] = ()  # of chains

    @cached_property
    def _frames(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        records = read_run(self.folder).records
        return results_frame(records), executions_frame(records)

    @property
    def results(self) -> pd.DataFrame:
        """Return one row an episode with the columns of ``frame.RESULTS``."""
        return self._frames[0]

    @property
    def executions(self) -> pd.DataFrame:
        """Return one row an episode with the columns of ``frame.EXECUTIONS``."""
        return self._frames[1]

    @property
    def done(self) -> int:
        """Return the number of episodes played."""
        return sum(score.done for score in self.suite_scores)

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

    def standing(self, score: Score) -> str:
        """Return why one of its scores has no rank, "" if it may have one."""
        reasons = [score.unranked] if score.unranked else []
        reasons += ["privileged"] if self.is_privileged else []
        return f"unranked: {', '.join(reasons)}" if reasons else ""

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
    manifest, columns = read_manifest(folder), read_columns(folder)
    check_plan(folder, manifest, columns)
    suites, tasks = list(_suites(manifest)), list(_tasks(manifest))
    chained = [suite for suite, *_ in suites if manifest.get("n_instructions", {}).get(suite, 1) > 1]
    chains = columns.chains() if chained else None
    scores, costs = _Scores(columns), _Costs(columns)
    return Board(
        manifest,
        folder,
        tuple(_with_chain(scores.of(*row), chains, manifest) for row in suites),
        tuple(scores.of(*row) for row in tasks),
        tuple(costs.of(*row) for row in suites),
        tuple(costs.of(*row) for row in tasks),
        tuple(score for suite in chained if chains is not None for score in subtask_scores(chains, suite)),
    )


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


class _Scores:
    """The columns of results, taken apart once for all rows of a board."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._depths = columns.ragged("depths")
        self._steps, self._flops = columns.plain("steps"), columns.plain("flops").astype(np.float64)
        self._appearance = columns.plain("appearance")

    def of(self, suite: str, task: int | None, name: str, planned: int) -> Score:
        done = self._columns.of(suite, task)
        scored = done & (self._columns.outcome != Outcome.ERROR.value)
        n_done, n_scored = int(done.sum()), int(scored.sum())
        successes = int((self._columns.outcome[scored] == Outcome.SUCCESS.value).sum())
        low, high = wilson(successes, n_scored) if n_scored else (None, None)
        depths, flops = self._depths.of(scored), self._flops[scored]
        recurrent = bool(depths.any())
        return Score(
            suite=suite,
            task=task,
            name=name,
            planned=planned,
            done=n_done,
            errors=n_done - n_scored,
            successes=successes,
            rate=successes / n_scored if n_scored else None,
            low=low,
            high=high,
            depth=_mean(depths) if recurrent else None,
            depth_sd=_spread_of_integers(depths) if recurrent else None,
            queries=_mean(self._depths.lengths[scored]),
            steps=_mean(self._steps[scored]),
            flops=None if np.isnan(flops).any() else _mean(flops),
            appearances=tuple(sorted(set(self._appearance[done].tolist()) - {""})),
        )


def _with_chain(score: Score, chains: pd.DataFrame | None, manifest: Manifest) -> Score:
    n_instructions = manifest.get("n_instructions", {}).get(score.suite, 1)
    if chains is None:
        return score
    return replace(score, chain=chain_score(chains[chains["suite"] == score.suite], n_instructions))


class _Costs:
    """The columns of executions, taken apart once for all rows of a board."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._per_query = {name: columns.ragged(name) for name in ("model_s", "backbone_s", "head_s", "batch_sizes")}
        names = ("cpu_s", "wall_s", "build_cpu_s", "attempts")
        self._per_episode = {name: columns.plain(name) for name in names}

    def of(self, suite: str, task: int | None, name: str, planned: int) -> Cost:
        del planned
        done = self._columns.of(suite, task)
        scored = done & (self._columns.outcome != Outcome.ERROR.value)
        episode, query = self._per_episode, self._per_query
        model_ms = np.sort(1e3 * query["model_s"].of(scored)).tolist()  # sorted once for both quantiles
        return Cost(
            suite=suite,
            task=task,
            name=name,
            model_ms=mean(model_ms),
            model_ms_p50=quantile(model_ms, 0.50),
            model_ms_p95=quantile(model_ms, 0.95),
            backbone_ms=_mean(1e3 * query["backbone_s"].of(scored)),
            head_ms=_mean(1e3 * query["head_s"].of(scored)),
            batch_size=_mean(query["batch_sizes"].of(scored)),
            cpu_s=_mean(episode["cpu_s"][scored]),
            wall_s=_mean(episode["wall_s"][scored]),
            build_cpu_s=float(episode["build_cpu_s"][done].sum()),
            retries=int((episode["attempts"][done] - 1).sum()),
        )


def _mean(values: NDArray[Any]) -> float | None:
    """Return the mean; of integers, whose sum is exact as it is, without going through a list."""
    if np.issubdtype(values.dtype, np.integer):
        return int(values.sum(dtype=np.int64)) / len(values) if len(values) else None
    return mean(values.tolist())


def _spread_of_integers(values: NDArray[np.integer[Any]]) -> float | None:
    """Return ``spread`` of integers, each distinct one squared once."""
    center = _mean(values)
    if center is None or len(values) < 2:
        return None
    distinct, counts = np.unique(values, return_counts=True)
    squares = np.repeat([(value - center) ** 2 for value in distinct.tolist()], counts)
    return math.sqrt(math.fsum(squares.tolist()) / (len(values) - 1))
