"""``--lerobot DIR``: the recorded demonstrations as a LeRobotDataset (v2.1), every control step a frame.

    meta/info.json, tasks.jsonl, episodes.jsonl
    data/chunk-000/episode_000000.parquet    one solved task each: a LIBERO episode, or one subtask of a chain

Each stored episode is executed once more with every frame rendered at the camera's own size, as PNG in the parquet
files. ``action`` is the expert's own action, ``action.executed`` what was done instead where noise was on it.
Format: huggingface/lerobot@073c4db src/lerobot/datasets.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from rdvla_bench.commands.demos_worker import DemoJob, Recorder
from rdvla_bench.demo_file import load, path_of
from rdvla_bench.demo_record import every_frame
from rdvla_bench.errors import UsageError
from rdvla_bench.policy import Policy
from rdvla_bench.record import Execution, Record
from rdvla_bench.registry import load_suite
from rdvla_bench.rollout import Phase
from rdvla_bench.suite import Suite
from rdvla_bench.types import Episode, Observation, Outcome
from rdvla_bench.worker import Played, Worker

CHUNK = 1000  # episodes a folder
CAMERAS = {"agentview": "observation.images.image", "wrist": "observation.images.image2"}
"""Feature names as HuggingFaceVLA/libero has them; other cameras are called observation.images.<camera>."""
_CELL = pa.struct({"bytes": pa.binary(), "path": pa.string()})
_INTEGERS = ("frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True)
class ExportJob(DemoJob):
    """What an exporting worker needs to know."""

    target: Path = Path()  # absolute
    numbers: Mapping[str, int] = field(default_factory=dict)  # episode -> the number of its first task
    first_rows: Mapping[str, int] = field(default_factory=dict)  # episode -> frames before it
    task_indices: Mapping[str, int] = field(default_factory=dict)  # instruction -> number

    def make_worker(self, name: str = "local", policy: Policy | None = None) -> Worker:
        """Return an exporter."""
        return Exporter(self, name, policy)


class Exporter(Recorder):
    """Executes stored demonstrations again, every frame rendered."""

    job: ExportJob

    def play(self, episode: Episode, *, on_phase: Callable[[Phase], None] = lambda phase: None) -> Played:
        """Export one demonstration: a file for each task solved in it."""
        suite, stored = load_suite(episode.suite), load(path_of(self.job.out, episode.id))
        options = suite.demo_start(episode.task, episode.seed, episode.start, self.job.spread)
        segments = [(int(first), int(end)) for first, end in stored.about["segments"]]
        if stored.about["solved"] is not None:
            options["tasks"] = tuple(options["tasks"])[: len(segments)]
        executed = stored.arrays["executed"][: segments[-1][1]]
        stops = [end for _, end in segments]
        result, seen = every_frame(
            lambda: self._seeing(suite, episode.task), executed, stops, episode, options, on_phase
        )  # fmt: skip
        if result.outcome is Outcome.SUCCESS:
            number, row = self.job.numbers[episode.id], self.job.first_rows[episode.id]
            for i, (first, end) in enumerate(segments):
                actions = stored.arrays["labels"][first:end], stored.arrays["executed"][first:end]
                self._write(suite, number + i, row + first, seen[first:end], actions)
        elif result.outcome is Outcome.TIMEOUT:
            result = replace(result, outcome=Outcome.ERROR, error="the stored actions no longer solve the task")
        if result.outcome is Outcome.ERROR:
            self.close_env()
        return Played(Record(episode, result, Execution(worker=self.name)), executed)

    def _write(
        self, suite: Suite, number: int, row: int, seen: list[Observation], actions: tuple[NDArray[np.float32], ...]
    ) -> None:
        n, fps = len(seen), suite.control_hz
        steps = np.arange(n)
        columns: dict[str, Any] = {
            "observation.state": _vectors(np.stack([obs["proprio"] for obs in seen])),
            "action": _vectors(actions[0]),
            "action.executed": _vectors(actions[1]),
            "timestamp": pa.array((steps / fps).astype(np.float32)),
            "frame_index": steps,
            "episode_index": np.full(n, number),
            "index": row + steps,
            "task_index": np.full(n, self.job.task_indices[seen[0]["instruction"]]),
        }
        for camera in suite.cameras:
            cells = [{"bytes": _png(o["images"][camera]), "path": f"frame_{i:06d}.png"} for i, o in enumerate(seen)]
            columns[feature(camera)] = pa.array(cells, _CELL)
        path = data_path(self.job.target, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        pq.write_table(pa.table(columns), unfinished, row_group_size=64)
        unfinished.replace(path)


def feature(camera: str) -> str:
    """Return the name of a camera's feature."""
    return CAMERAS.get(camera, f"observation.images.{camera}")


def data_path(target: Path, number: int) -> Path:
    """Return the file of one episode."""
    return target / "data" / f"chunk-{number // CHUNK:03d}" / f"episode_{number:06d}.parquet"


def _vectors(values: NDArray[np.float32]) -> pa.Array:
    return pa.array(list(values.astype(np.float32)), pa.list_(pa.float32(), values.shape[1]))


def _png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True)
class Export:
    """What there is to export of a folder of demonstrations."""

    job: ExportJob
    episodes: tuple[Episode, ...]  # those with a solved task
    lengths: tuple[tuple[str, int], ...]  # instruction and frames of each exported episode

    def missing(self) -> list[Episode]:
        """Return the demonstrations whose files are not all there."""
        ends = [*list(self.job.numbers.values())[1:], len(self.lengths)]
        counts = dict(zip(self.job.numbers, ends, strict=True))
        target = self.job.target
        return [
            e
            for e in self.episodes
            if not all(data_path(target, n).exists() for n in range(self.job.numbers[e.id], counts[e.id]))
        ]

    def write_meta(self, suite: Suite) -> None:
        """Write ``meta/``: the data set is complete."""
        meta = self.job.target / "meta"
        meta.mkdir(parents=True, exist_ok=True)
        tasks = [{"task_index": i, "task": task} for task, i in self.job.task_indices.items()]
        episodes = [{"episode_index": i, "tasks": [t], "length": n} for i, (t, n) in enumerate(self.lengths)]
        for name, lines in (("tasks", tasks), ("episodes", episodes)):
            (meta / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        vectors = {"observation.state": suite.proprio, "action": suite.actions, "action.executed": suite.actions}
        features: dict[str, Any] = {
            **{
                feature(camera): {"dtype": "image", "shape": [*size, 3], "names": ["height", "width", "channel"]}
                for camera, size in suite.cameras.items()
            },
            **{k: {"dtype": "float32", "shape": [len(v)], "names": list(v)} for k, v in vectors.items()},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **{name: {"dtype": "int64", "shape": [1], "names": None} for name in _INTEGERS},
        }
        info = {
            "codebase_version": "v2.1",
            "robot_type": "panda",
            "total_episodes": len(self.lengths),
            "total_frames": sum(n for _, n in self.lengths),
            "total_tasks": len(tasks),
            "total_videos": 0,
            "total_chunks": -(-len(self.lengths) // CHUNK),
            "chunks_size": CHUNK,
            "fps": suite.control_hz,
            "splits": {"train": f"0:{len(self.lengths)}"},
            "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "video_path": None,
            "features": features,
        }
        (meta / "info.json").write_text(json.dumps(info, indent=1))


def plan_export(job: DemoJob, episodes: list[Episode], target: Path, source: str) -> Export:
    """Number what there is to export, and claim the folder ``target`` for it.

    Raises:
        UsageError: the folder holds something else.
    """
    numbers: dict[str, int] = {}
    rows: dict[str, int] = {}
    tasks: dict[str, int] = {}
    lengths: list[tuple[str, int]] = []
    for episode in episodes:
        about = load(path_of(job.out, episode.id)).about
        if not about["segments"]:
            continue
        numbers[episode.id], rows[episode.id] = len(lengths), sum(n for _, n in lengths)
        for (first, end), text in zip(about["segments"], about["told"], strict=True):
            tasks.setdefault(text, len(tasks))
            lengths.append((text, end - first))
    _claim(target, {"source": source, "episodes": list(numbers)})
    fields = {name: getattr(job, name) for name in DemoJob.__dataclass_fields__}
    export = ExportJob(**fields, target=target.resolve(), numbers=numbers, first_rows=rows, task_indices=tasks)
    return Export(export, tuple(e for e in episodes if e.id in numbers), tuple(lengths))


def _claim(target: Path, identity: Mapping[str, Any]) -> None:
    path = target / "source.json"
    here = json.dumps(identity, indent=1, sort_keys=True)
    if path.exists() and path.read_text() == here:
        return
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"--lerobot {target} holds something else than these demonstrations: choose another folder")
    target.mkdir(parents=True, exist_ok=True)
    path.write_text(here)
