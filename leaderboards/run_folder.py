"""One run folder as a board needs it: a manifest whose keys are there, and records that it plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

from rdvla_bench.errors import LedgerError
from rdvla_bench.leaderboards.columns import Columns
from rdvla_bench.ledger import EPISODES, RUN, read_records
from rdvla_bench.ledger import read_run as read_json
from rdvla_bench.record import Record


class RunConfig(TypedDict):
    """The part of ``run.json`` that fixes which episodes are run."""

    policy: str
    settings: Mapping[str, Any]
    suites: list[str]
    tasks: Mapping[str, list[int]]
    episodes: int  # a task
    seed: int
    protocol: str


class Renderer(TypedDict):
    """Who drew the frames, and the hash of a frame it always draws."""

    renderer: str
    canary_sha256: str


class _Required(TypedDict):
    """The keys without which there is no board."""

    config: RunConfig
    policy_card: Mapping[str, Any]
    protocol_card: Mapping[str, Any]
    policy_hash: str
    protocol_hash: str
    planned: int
    versions: Mapping[str, str]
    gl: Renderer
    task_names: Mapping[str, Mapping[str, str]]  # suite -> task index as text -> name
    git_commit: str


class Manifest(_Required, total=False):
    """The keys of ``run.json`` that a board reads; others are left alone."""

    machine: Mapping[str, Any]
    started: str  # ISO 8601
    n_instructions: Mapping[str, int]  # suite -> an episode's; 1 where it is missing


@dataclass(frozen=True)
class Run:
    """One run folder."""

    manifest: Manifest
    records: tuple[Record, ...]  # one an episode, the newest


def read_run(folder: Path) -> Run:
    """Read ``folder``; a run that is still going on is read as far as it got.

    Raises:
        LedgerError: no run folder, or a ledger that is garbled or holds episodes the manifest does not plan.
    """
    run = Run(read_manifest(folder), tuple(read_records(folder).values()))
    _check_plan(folder, run)
    return run


def read_manifest(folder: Path) -> Manifest:
    """Read ``run.json`` alone.

    Raises:
        LedgerError: no run folder, or keys are missing.
    """
    manifest = read_json(folder)
    config = manifest["config"]
    missing = sorted(Manifest.__required_keys__ - manifest.keys())
    missing += sorted(RunConfig.__required_keys__ - config.keys()) if isinstance(config, dict) else ["config"]
    if missing:
        raise LedgerError(f"{folder / RUN} was not written by rdvla-bench run: it lacks {', '.join(missing)}")
    return cast("Manifest", manifest)


def check_plan(folder: Path, manifest: Manifest, columns: Columns) -> None:
    """Do for columns what ``read_run`` does for records.

    Raises:
        LedgerError: the ledger holds episodes that the manifest does not plan.
    """
    config = manifest["config"]
    pairs = set(zip(columns.suite.tolist(), columns.task.tolist(), columns.plain("seed").tolist(), strict=True))
    is_planned = all(task in config["tasks"].get(suite, ()) and seed == config["seed"] for suite, task, seed in pairs)
    if not is_planned or len(columns) > manifest["planned"]:
        read_run(folder)  # names the episode


def _check_plan(folder: Path, run: Run) -> None:
    config, planned = run.manifest["config"], run.manifest["planned"]
    for record in run.records:
        episode = record.episode
        if episode.task not in config["tasks"].get(episode.suite, ()) or episode.seed != config["seed"]:
            raise LedgerError(
                f"{folder / EPISODES} holds {episode.id} with seed {episode.seed}, which {RUN} does not plan"
            )
    if len(run.records) > planned:
        raise LedgerError(f"{folder / EPISODES} holds {len(run.records)} episodes, {RUN} plans {planned}")
