"""One run folder as a board needs it: a manifest whose keys are there, and records that it plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

from rdvla_bench.errors import LedgerError
from rdvla_bench.ledger import EPISODES, RUN, read_records
from rdvla_bench.ledger import read_run as read_manifest
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
    manifest = read_manifest(folder)
    config = manifest["config"]
    missing = sorted(Manifest.__required_keys__ - manifest.keys())
    missing += sorted(RunConfig.__required_keys__ - config.keys()) if isinstance(config, dict) else ["config"]
    if missing:
        raise LedgerError(f"{folder / RUN} was not written by rdvla-bench run: it lacks {', '.join(missing)}")
    run = Run(cast("Manifest", manifest), tuple(read_records(folder).values()))
    _check_plan(folder, run)
    return run


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
