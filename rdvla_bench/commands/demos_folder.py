"""The folder of demonstrations: what it was made with, what is in it, and the data set that training reads.

demos.json         configuration, versions, counts a task, dropped episodes, the data's hash
episodes/*.npz     one file a demonstration (rdvla_bench.demo_file)
manifest.json      and shard-*.npz: the data set (rdvla_bench.policies.rdvla.training.shards)
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rdvla_bench.demo_file import EPISODES, IMAGE, Stored, load, path_of
from rdvla_bench.errors import RunMismatch, UsageError
from rdvla_bench.plan import differences
from rdvla_bench.provenance import DECISIVE, git_commit, machine
from rdvla_bench.registry import load_suite
from rdvla_bench.types import Episode
from rdvla_bench.worker import Greeting

if TYPE_CHECKING:
    from rdvla_bench.policies.rdvla.training.dataset import Sample

ABOUT = "demos.json"
FORMAT = "rdvla-bench/demos@1"


@dataclass
class DemoFolder:
    """Demonstrations of one configuration on disk; a later call may add episodes, tasks and suites."""

    out: Path
    identity: Mapping[str, Any]  # what makes the episodes what they are
    about: dict[str, Any] = field(default_factory=dict)

    def open(self) -> None:
        """Read demos.json if there is one.

        Raises:
            RunMismatch: the folder holds demonstrations of another configuration.
            UsageError: the folder cannot be read or holds something else.
        """
        path = self.out / ABOUT
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is a file, expected a folder")
        if not path.exists():
            if self.out.exists() and any(self.out.iterdir()):
                raise UsageError(f"{self.out} is not empty and has no {ABOUT}: choose another --out")
            return
        try:
            self.about = json.loads(path.read_text())
            there = self.about["config"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} cannot be read: {error!r}. Choose another --out") from error
        if differs := differences(there, json.loads(json.dumps(self.identity))):
            raise RunMismatch(self.out, differs)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Open the folder, and let no other process write to it until the block ends.

        Raises:
            RunMismatch, UsageError: as ``open``; or another process writes here.
        """
        self.open()
        self.out.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.out, os.O_RDONLY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"{self.out} is in use by another process: wait for it, or name another --out"
                ) from None
            self.open()  # again: another process may just have ended
            yield
        finally:
            os.close(folder)

    def greet(self, greeting: Greeting) -> None:
        """Note the versions and the renderer of the first worker; hold every other one against them.

        Raises:
            RunMismatch: another expert, renderer or decisive version than the folder began with.
        """
        here = _circumstances(greeting)
        if "circumstances" not in self.about:
            self.about |= {
                "format": FORMAT,
                "config": dict(self.identity),
                "circumstances": here,
                "policy_card": greeting.policy_card,
                "versions": greeting.versions,
                "gl": greeting.gl,
                "machine": machine() | {"arithmetic": greeting.arithmetic},
                "git_commits": [],
            }
        self.check(greeting)
        if (commit := git_commit()) not in self.about["git_commits"]:
            self.about["git_commits"].append(commit)
        self._save()

    def check(self, greeting: Greeting) -> None:
        """Hold a worker against what the folder was made with.

        Raises:
            RunMismatch: it differs in its expert, renderer or a decisive version.
        """
        there = {"arithmetic": "native"} | self.about["circumstances"]  # of folders that do not tell
        if differs := differences(there, _circumstances(greeting)):
            raise RunMismatch(self.out, [*differs, f"worker on {greeting.host}"])

    def missing(self, episodes: Iterable[Episode]) -> list[Episode]:
        """Return the episodes that are not yet stored."""
        return [episode for episode in episodes if not path_of(self.out, episode.id).exists()]

    def stored(self) -> list[Episode]:
        """Return every demonstration in the folder, of this call and of earlier ones, in the order of the data set."""
        names = [path.stem.rsplit("-", 3) for path in (self.out / EPISODES).glob("*.npz")]
        return sorted(
            Episode(suite, int(task[1:]), int(number[1:]), int(repetition[1:]), self.identity["seed"])
            for suite, task, number, repetition in names
        )

    def is_assembled(self) -> bool:
        """Return whether the data set holds exactly the stored demonstrations."""
        from rdvla_bench.policies.rdvla.training.shards import MANIFEST

        return self.about.get("episodes") == [e.id for e in self.stored()] and (self.out / MANIFEST).exists()

    def assemble(self) -> None:
        """Write the data set of all stored demonstrations, then the counts.

        Raises:
            UsageError: none of them has a frame.
        """
        from rdvla_bench.policies.rdvla.training.shards import MANIFEST, ShardedDataset, write_shards

        for old in [self.out / MANIFEST, *self.out.glob("shard-*.npz")]:
            old.unlink(missing_ok=True)
        episodes = self.stored()
        counts: dict[str, dict[str, dict[str, Any]]] = {}
        asked: dict[str, Counter[str]] = {}

        def frames() -> Iterator[Sample]:
            for episode in episodes:
                stored = load(path_of(self.out, episode.id))
                suite = counts.setdefault(episode.suite, {})
                _count(suite, load_suite(episode.suite).tasks[episode.task].name, stored)
                asked.setdefault(episode.suite, Counter()).update(stored.about.get("counterfactual_instructions", ()))
                yield from samples(stored)

        stream = frames()
        first = next(stream, None)
        if first is None:
            raise UsageError(
                f"the expert failed in all {len(episodes)} episodes: there is nothing to train on in {self.out}"
            )
        write_shards(self.out, _chained(first, stream))
        self.about["counts"] = counts
        self.about["counterfactuals"] = asked
        self.about["episodes"] = [episode.id for episode in episodes]
        self.about["data_sha256"] = ShardedDataset(self.out, verify=False).fingerprint
        self._save()

    def _save(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        unfinished = self.out / f"{ABOUT}.tmp"
        unfinished.write_text(json.dumps(self.about, indent=1))
        unfinished.replace(self.out / ABOUT)


def _circumstances(greeting: Greeting) -> dict[str, str]:
    return {
        "policy_card": greeting.policy_hash,
        "gl canary": greeting.gl.get("canary_sha256", ""),
        "arithmetic": greeting.arithmetic,
        **{name: greeting.versions.get(name, "") for name in DECISIVE},
    }


def _chained(first: Sample, rest: Iterator[Sample]) -> Iterator[Sample]:
    yield first
    yield from rest


def samples(stored: Stored) -> Iterator[Sample]:
    """Yield the kept frames of one demonstration, then those of them that are stored under another instruction too."""
    arrays = stored.arrays
    cameras = {name.removeprefix(IMAGE): pixels for name, pixels in arrays.items() if name.startswith(IMAGE)}
    own = [stored.about["instructions"][number] for number in arrays["instruction"]]
    rows = [*range(stored.n_frames), *stored.counterfactual("row")]
    instructions = [*own, *stored.about.get("counterfactual_instructions", [])]
    chunks = [*arrays["chunk"], *stored.counterfactual("chunk")]
    goals = [*arrays["proprio"][goal_rows(stored)], *stored.counterfactual("goal")]
    for row, instruction, chunk, goal in zip(rows, instructions, chunks, goals, strict=True):
        yield {
            "images": {camera: pixels[row] for camera, pixels in cameras.items()},
            "proprio": arrays["proprio"][row],
            "instruction": instruction,
            "chunk": chunk,
            "goal": goal,
        }


def goal_rows(stored: Stored) -> list[int]:
    """Return for each kept frame the one that shows where the gripper next opens or closes, or where its task ends.

    It is the first kept frame from the switch on; where none is left in the task, the task's last.
    """
    frames, grip = stored.arrays["frames"], np.sign(stored.arrays["labels"][:, -1])
    switches = np.flatnonzero(np.diff(grip)) + 1
    rows: list[int] = []
    for step in frames:
        first, end = next(segment for segment in stored.about["segments"] if segment[0] <= step < segment[1])
        inside = np.flatnonzero((frames >= first) & (frames < end))
        ahead = switches[(switches > step) & (switches < end)]
        since = inside[frames[inside] >= ahead[0]] if len(ahead) else inside[-1:]
        rows.append(int(since[0] if len(since) else inside[-1]))
    return rows


def _count(tasks: dict[str, dict[str, Any]], name: str, stored: Stored) -> None:
    """Count one episode: under its task, or a chain's subtasks each under their own."""
    about, arrays = stored.about, stored.arrays
    attempted = about["subtasks"] or [name]
    ends = [end for _, end in about["segments"]]
    for i, task in enumerate(attempted):
        row = tasks.setdefault(task, {"kept": 0, "dropped": 0, "frames": 0, "steps": 0, "dropped_episodes": []})
        if i >= len(ends):
            row["dropped"] += 1
            row["dropped_episodes"].append(about["id"])
            continue
        first, end = about["segments"][i]
        if first == end:
            row["solved_by_driver"] = row.get("solved_by_driver", 0) + 1
            continue
        row["kept"] += 1
        row["frames"] += int(((arrays["frames"] >= first) & (arrays["frames"] < end)).sum())
        row["steps"] += end - first
