"""Demonstrations in LeRobotDataset's format as training samples, one a frame; the package lerobot is not needed.

Non-obvious:

* In a chunk that reaches beyond its episode's end the last action goes on, as in LeRobot's own. Nothing is dropped and,
  unlike there, nothing is masked.
* Bounds are the percentiles over all recorded frames, each once; the filling does not enter them.
* The folder's own stats.json is not read: its versions differ in whether they have percentiles.
* Timestamps are taken to be frame_index / fps, which is what LeRobot itself enforces within 0.1 ms.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rdvla_bench.errors import MissingExtra
from rdvla_bench.policies.rdvla.config import HeadConfig
from rdvla_bench.policies.rdvla.conventions import BENCHMARKS
from rdvla_bench.policies.rdvla.statistics import PERCENTILES, Statistics
from rdvla_bench.policies.rdvla.training.dataset import DatasetError, Sample
from rdvla_bench.policies.rdvla.training.lerobot_images import EmbeddedImages
from rdvla_bench.policies.rdvla.training.lerobot_layout import Layout, read_columns, read_layout
from rdvla_bench.policies.rdvla.training.lerobot_options import Gripper, LerobotOptions
from rdvla_bench.policies.rdvla.training.statistics import measure

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Frames(Protocol):
    """The images of one camera."""

    def frame(self, row: int) -> NDArray[np.uint8]:
        """Return the (H, W, 3) RGB frame of a row."""


class LerobotDataset:
    """A LeRobotDataset folder, v2.0 to v3.0. Numbers are in memory, images are read when asked for."""

    def __init__(self, folder: Path, options: LerobotOptions, head: HeadConfig) -> None:
        """Read all numbers, check them against ``head``'s sizes, and hash every file that samples come from.

        Raises:
            DatasetError: a file or feature is missing, or of another width, size, rate or gripper convention.
            MissingExtra: images are in videos and PyAV is not installed.
        """
        layout = read_layout(folder)
        if layout.fps not in options.fps:
            rates = " or ".join(str(rate) for rate in options.fps)
            raise DatasetError(f"{folder}: {layout.fps} frames a second, expected {rates} (--lerobot.fps)")
        self._layout = layout
        self._features = {camera: layout.feature(names, camera) for camera, names in options.cameras.items()}
        state, action = layout.feature(options.state, "state"), layout.feature(options.action, "action")
        files = layout.data_files()
        numbers = ["episode_index", "frame_index", "task_index"]
        columns = list(dict.fromkeys([*numbers, state, action]))
        tables = [read_columns(file, columns).select(columns) for file in files]
        table = pa.concat_tables(tables, promote_options="permissive")
        if not len(table):
            raise DatasetError(f"{folder}: its {len(files)} files data/*/*.parquet hold no frame")
        self._episode, self._frame, self._task = (_integers(folder, table, name) for name in numbers)
        self._proprio = _vectors(folder, table, state, BENCHMARKS["libero"].n_proprio)
        self._action = _vectors(folder, table, action, head.action)
        self._action[:, -1] = _gripper(self._action[:, -1], options.gripper, f"{folder}: {action}")
        self._chunk = head.chunk
        self._ends = _episode_ends(self._episode, self._frame, layout)
        if unnamed := sorted(set(self._task.tolist()) - set(layout.tasks)):
            raise DatasetError(f"{folder}: frames of task {unnamed[0]}, which meta/tasks does not name")
        self._statistics = measure(self._action, self._proprio, PERCENTILES)  # as the released weights
        self._frames, videos = self._open(files)
        self.fingerprint = _fingerprint(folder, [*files, *videos], options, head.chunk)

    def _open(self, files: list[Path]) -> tuple[dict[str, Frames], list[Path]]:
        """Return each camera's images, and the videos they come from."""
        frames: dict[str, Frames] = {}
        videos: set[Path] = set()
        for camera, feature in self._features.items():
            is_video, side = self._layout.is_video(feature), self._layout.side(feature)
            if not is_video:
                frames[camera] = EmbeddedImages(files, feature, side)
                continue
            try:
                from rdvla_bench.policies.rdvla.training.lerobot_video import VideoFrames
            except ModuleNotFoundError as error:
                raise MissingExtra(f"{self._layout.folder}: {feature} is in videos, which", "lerobot", error) from error
            segments = self._layout.segments(feature, np.unique(self._episode).tolist())
            rows = list(zip(self._episode.tolist(), self._frame.tolist(), strict=True))
            frames[camera] = VideoFrames(segments, rows, fps=self._layout.fps, side=side)
            videos |= {segment.path for segment in segments.values()}
        return frames, sorted(videos)

    @property
    def statistics(self) -> Statistics:
        """Return the bounds of all frames."""
        return self._statistics

    def __len__(self) -> int:
        """Return the number of frames of all episodes."""
        return len(self._episode)

    def __getitem__(self, index: int) -> Sample:
        """Return the sample that begins at frame ``index`` of all."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return {
            "images": {camera: frames.frame(index) for camera, frames in self._frames.items()},
            "proprio": self._proprio[index].copy(),
            "instruction": self._layout.tasks[int(self._task[index])],
            "chunk": self._chunk_at(index),
        }

    def _chunk_at(self, index: int) -> Floats:
        recorded = self._action[index : min(index + self._chunk, int(self._ends[index]))]
        return np.concatenate([recorded, np.repeat(recorded[-1:], self._chunk - len(recorded), axis=0)])


def _integers(folder: Path, table: pa.Table, name: str) -> Ints:
    column = table.column(name)
    if not pa.types.is_integer(column.type) or column.null_count:
        raise DatasetError(f"{folder}: {name} is {column.type} with {column.null_count} empty, expected whole numbers")
    return np.asarray(column.to_numpy(), np.int64)


def _vectors(folder: Path, table: pa.Table, name: str, width: int) -> Floats:
    """Return a column of lists as (n, width)."""
    column = table.column(name)
    lengths = pc.unique(pc.list_value_length(column)).to_pylist() if pa.types.is_nested(column.type) else [column.type]
    if lengths != [width]:
        given = ", ".join(str(length) for length in lengths)
        raise DatasetError(f"{folder}: {name} is {given} numbers wide, the model takes {width}: another embodiment?")
    values = np.array(pc.list_flatten(column).to_numpy(), np.float32).reshape(-1, width)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise DatasetError(f"{folder}: {name} is not finite in frame {row} of the data set")
    return values


def _gripper(values: Floats, convention: Gripper, where: str) -> Floats:
    """Return the gripper's numbers in the env's convention, -1 open to +1 closed."""
    low, high = float(values.min()), float(values.max())
    expected = (-1.0, 1.0) if convention == "env" else (0.0, 1.0)
    if low < expected[0] or high > expected[1] or (convention == "env" and low >= 0.0):
        raise DatasetError(
            f"{where}: the gripper's numbers go from {low:g} to {high:g}, which is not '{convention}'; expected env "
            f"(-1 open, +1 close), one-open (1 open, 0 closed) or zero-open: choose with --lerobot.gripper"
        )
    if convention == "env":
        return values
    return 1.0 - 2.0 * values if convention == "one-open" else 2.0 * values - 1.0


def _episode_ends(episode: Ints, frame: Ints, layout: Layout) -> Ints:
    """Return, for each row, the row after its episode's last one.

    Raises:
        DatasetError: an episode is missing, in two pieces, or has a gap.
    """
    starts = np.flatnonzero(np.r_[True, np.diff(episode) != 0])
    found = episode[starts]
    total = layout.info.get("total_episodes", len(found))
    if missing := sorted(set(range(int(total))) - set(found.tolist())):
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DatasetError(f"{layout.folder} lacks {layout.missing_episode(missing[0])}{more} of {total} episodes")
    ends = np.r_[starts[1:], len(episode)]
    lengths = ends - starts
    wrong = np.flatnonzero(frame != np.arange(len(frame)) - np.repeat(starts, lengths))
    if len(wrong):
        row = int(wrong[0])
        raise DatasetError(
            f"{layout.folder}: episode {episode[row]} has frame_index {frame[row]} where "
            f"{row - int(starts[np.searchsorted(starts, row, 'right') - 1])} is expected"
        )
    return np.repeat(ends, lengths)


def _fingerprint(folder: Path, files: list[Path], options: LerobotOptions, chunk: int) -> str:
    hashed: dict[str, object] = {"options": asdict(options), "chunk": chunk}
    meta = folder / "meta"
    described = [meta / "info.json", *meta.glob("tasks.*"), *meta.glob("episodes/*/*.parquet")]
    for path in sorted({*described, *files}):
        with path.open("rb") as file:
            hashed[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()
