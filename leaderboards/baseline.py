"""A baseline: one run frozen into one JSON file that later runs are held against.

Non-obvious:
- The same run folder gives the same bytes, whatever the order in which its episodes were played. Only ``timing`` and
  ``versions`` differ between two executions of one configuration.
- ``digest`` covers everything of an episode's result, down to the hashes of frames, actions and final state.
- An ERROR is no outcome: a run with errors or missing episodes is not frozen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypedDict

from rdvla_bench.errors import UsageError
from rdvla_bench.leaderboards.run_folder import Run
from rdvla_bench.leaderboards.statistics import quantile
from rdvla_bench.record import Record
from rdvla_bench.types import Episode, Outcome

SCHEMA = 1
KIND = "rdvla_bench baseline"


@dataclass(frozen=True)
class Frozen:
    """What is kept of one episode's result."""

    suite: str
    task: int
    start: int
    repetition: int
    success: bool
    solved: int | None  # instructions of a chain done in a row; None for a single task
    steps: int
    queries: int
    iterations: int  # depths of all queries together; 0 for a policy without a recurrent core
    digest: str  # the first 12 hex digits of SHA-256 over the whole result

    def episode(self, seed: int) -> Episode:
        """Return which episode this is of a run with ``seed``."""
        return Episode(self.suite, self.task, self.start, self.repetition, seed)


class Named(TypedDict):
    """A card by name and hash."""

    name: str
    hash: str


class PolicyName(Named):
    """A policy card, with what must be known of it in plain sight."""

    weights: str
    settings: Mapping[str, str]  # --set texts
    privileged: bool


class Timing(TypedDict):
    """Model time a query in ms; never compared bit for bit."""

    model_ms_p50: float | None
    model_ms_p95: float | None
    model_ms_p99: float | None


@dataclass(frozen=True)
class Baseline:
    """One run, as later ones are compared with it."""

    policy: PolicyName
    protocol: Named
    seed: int
    tasks: Mapping[str, tuple[int, ...]]  # suite -> task indices, suites in the run's order
    episodes_per_task: int
    task_names: Mapping[str, Mapping[str, str]]  # suite -> task index as text -> name
    n_instructions: Mapping[str, int]  # suite -> an episode's; above 1 it is a chain
    appearances: tuple[str, ...]  # what its pictures were drawn from and with; none for a policy without cameras
    versions: Mapping[str, str]
    git_commit: str
    timing: Timing
    episodes: tuple[Frozen, ...]  # by suite, task, start, repetition

    @property
    def is_chain(self) -> bool:
        """Return whether the episodes are chains of instructions."""
        return all(self.n_instructions.get(suite, 1) > 1 for suite in self.tasks)

    @property
    def mean_depth(self) -> float | None:
        """Return the mean depth a query, None for a policy without a recurrent core."""
        queries = sum(e.queries for e in self.episodes)
        iterations = sum(e.iterations for e in self.episodes)
        return iterations / queries if iterations else None

    def find(self) -> dict[Episode, Frozen]:
        """Return episode -> what is kept of it."""
        return {e.episode(self.seed): e for e in self.episodes}


class NotFreezable(UsageError):
    """A run whose rates would be those of another sample than the planned one."""

    def __init__(self, where: object, n: int, what: str, ids: Iterable[str], remedy: str) -> None:
        """Name the first episodes and what to do."""
        shown = list(ids)
        named = ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")
        super().__init__(f"{where} has {n} {what}{'s' if n > 1 else ''} ({named}): {remedy}")


class ForeignBaseline(UsageError):
    """A file that is no baseline of this version."""


def freeze(run: Run) -> Baseline:
    """Return ``run`` as a baseline, whatever it lacks; ``check_errors`` and ``check_complete`` say what that is."""
    manifest = run.manifest
    config, card = manifest["config"], manifest["policy_card"]
    scored = [r for r in run.records if r.result.outcome is not Outcome.ERROR]
    model_ms = [1e3 * seconds for r in scored for seconds in r.execution.model_s]
    return Baseline(
        policy={
            "name": config["policy"],
            "hash": manifest["policy_hash"],
            "weights": str(card.get("weights", "")),
            "settings": {key: str(value) for key, value in config["settings"].items()},
            "privileged": bool(card.get("privileged")),
        },
        protocol={"name": config["protocol"], "hash": manifest["protocol_hash"]},
        seed=config["seed"],
        tasks={suite: tuple(config["tasks"][suite]) for suite in config["suites"]},
        episodes_per_task=config["episodes"],
        task_names=manifest["task_names"],
        n_instructions={suite: manifest.get("n_instructions", {}).get(suite, 1) for suite in config["suites"]},
        appearances=tuple(sorted({r.result.appearance for r in scored} - {""})),
        versions=manifest["versions"],
        git_commit=manifest["git_commit"],
        timing={
            "model_ms_p50": _rounded(quantile(model_ms, 0.50)),
            "model_ms_p95": _rounded(quantile(model_ms, 0.95)),
            "model_ms_p99": _rounded(quantile(model_ms, 0.99)),
        },
        episodes=tuple(sorted((frozen(r) for r in scored), key=_place)),
    )


def check_errors(where: object, run: Run) -> None:
    """Refuse a run with errors.

    Raises:
        NotFreezable: naming them.
    """
    ids = sorted(r.episode.id for r in run.records if r.result.outcome is Outcome.ERROR)
    if ids:
        remedy = "an ERROR is no failure and no success. Play them again: rdvla-bench run --retry-errors"
        raise NotFreezable(where, len(ids), "ERROR episode", ids, remedy)


def check_complete(where: object, run: Run) -> None:
    """Refuse a run that is not finished.

    Raises:
        NotFreezable: saying how much is missing.
    """
    missing = run.manifest["planned"] - len(run.records)
    if missing:
        raise NotFreezable(
            where, missing, "missing episode", [f"of {run.manifest['planned']} planned"],
            "give the run's command again to finish it",
        )  # fmt: skip


def frozen(record: Record) -> Frozen:
    """Return what is kept of one record."""
    result = record.result
    episode = record.episode
    return Frozen(
        suite=episode.suite,
        task=episode.task,
        start=episode.start,
        repetition=episode.repetition,
        success=result.outcome is Outcome.SUCCESS,
        solved=result.solved,
        steps=result.steps,
        queries=len(result.depths),
        iterations=sum(result.depths),
        digest=hashlib.sha256(json.dumps(asdict(result), sort_keys=True).encode()).hexdigest()[:12],
    )


_COLUMNS = tuple(field.name for field in fields(Frozen))


def dumps(baseline: Baseline) -> str:
    """Return the text of the file: sorted keys, one line an episode, so that a diff shows what changed."""
    head = {
        "kind": KIND,
        "schema": SCHEMA,
        **{k: v for k, v in vars(baseline).items() if k not in ("episodes", "tasks")},
    }
    head["suites"] = {suite: list(tasks) for suite, tasks in baseline.tasks.items()}
    head["suite_order"] = list(baseline.tasks)
    head["columns"] = _COLUMNS
    text = json.dumps(head, indent=2, sort_keys=True, allow_nan=False)
    rows = ",\n".join("    " + json.dumps([getattr(e, name) for name in _COLUMNS]) for e in baseline.episodes)
    return f'{text[:-2]},\n  "episodes": [\n{rows}\n  ]\n}}\n'


def loads(text: str, where: object) -> Baseline:
    """Read what ``dumps`` wrote.

    Raises:
        ForeignBaseline: other JSON, no JSON, or a baseline of another schema version.
    """
    make = "make one with rdvla-bench baseline RUN > FILE"
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ForeignBaseline(f"{where} is no JSON ({error}): {make}") from error
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise ForeignBaseline(f"{where} is JSON, but no baseline: {make}")
    if data.get("schema") != SCHEMA:
        raise ForeignBaseline(
            f"{where} is a baseline of schema {data.get('schema')}, this version reads {SCHEMA}: "
            f"freeze its run again with this version: rdvla-bench baseline RUN > FILE"
        )
    try:
        return _parse(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ForeignBaseline(f"{where} is a damaged baseline ({type(error).__name__}: {error}): {make}") from error


def _parse(data: Mapping[str, Any]) -> Baseline:
    if tuple(data["columns"]) != _COLUMNS:
        raise ValueError(f"columns {data['columns']}")
    names = {field.name for field in fields(Baseline)} - {"episodes", "tasks", "appearances"}
    if sorted(data["suite_order"]) != sorted(data["suites"]):
        raise ValueError("suites and suite_order differ")
    episodes = tuple(Frozen(*row) for row in data["episodes"])
    baseline = Baseline(
        **{name: data[name] for name in names},
        tasks={suite: tuple(data["suites"][suite]) for suite in data["suite_order"]},
        appearances=tuple(data["appearances"]),
        episodes=episodes,
    )
    if not episodes or len({_place(e) for e in episodes}) < len(episodes):
        raise ValueError("no episodes, or one of them twice")
    if not {(e.suite, e.task) for e in episodes} <= {(s, t) for s, ids in baseline.tasks.items() for t in ids}:
        raise ValueError("episodes of tasks that are not listed")
    return baseline


def _place(e: Frozen) -> tuple[str, int, int, int]:
    return e.suite, e.task, e.start, e.repetition


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
